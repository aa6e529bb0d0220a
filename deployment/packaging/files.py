"""Which files of a directory of Python code go into a package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deployment.packaging.errors import PackagingError

_NEVER = {"__pycache__"}
_COMPILED = {".pyc", ".pyo"}


def python_files(top: Path) -> Iterator[Path]:
    """All below ``top``, data files too, but for what is hidden and what Python has compiled. Sorted."""
    for path in sorted(top.iterdir()):
        if path.name.startswith(".") or path.name in _NEVER or path.suffix in _COMPILED:
            continue
        if path.is_dir():
            if path.is_symlink():
                raise PackagingError(
                    f"{path} is a link to a directory, which a package cannot hold.",
                    "Put the directory itself there, or move the link elsewhere.",
                )
            yield from python_files(path)
        elif path.is_file():
            yield path
