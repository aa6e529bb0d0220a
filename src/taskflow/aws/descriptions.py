"""AWS's descriptions of its services from botocore's own files, read in a third of the time botocore takes."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import orjson
from botocore.loaders import Loader


class Descriptions(Loader):  # type: ignore[misc] # botocore is untyped
    """Finds what botocore's loader finds, in the same places: ``AWS_DATA_PATH``, ``~/.aws/models``, botocore's own."""

    def __init__(self, search_path: str | None) -> None:
        """``search_path``: as `AWS_DATA_PATH`; None: only the other places."""
        places = search_path.split(os.pathsep) if search_path is not None else []
        super().__init__(
            extra_search_paths=[
                str(Path(os.path.expandvars(place)).expanduser()) for place in places
            ],
            file_loader=_JSONFiles(),
        )

    def list_available_services(self, type_name: str) -> list[str]:
        """Of whatever type: botocore opens the directories of all 400 services, only to say that one is there. If that
        one has nothing of this type, loading it says so (DataNotFoundError)."""
        places = [place for place in map(Path, self.search_paths) if place.is_dir()]
        return sorted({service.name for place in places for service in place.iterdir()})


class _JSONFiles:
    """A file loader for botocore. Paths come without their suffix."""

    def exists(self, file_path: str) -> bool:
        return any(Path(file_path + suffix).is_file() for suffix in (".json", ".json.gz"))

    def load_file(self, file_path: str) -> Any:
        """None if there is no such file."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            return orjson.loads(plain.read_bytes())
        if packed.is_file():
            return orjson.loads(gzip.decompress(packed.read_bytes()))
        return None
