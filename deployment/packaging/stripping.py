"""What installed distributions carry and functions never use."""

from __future__ import annotations

import shutil
from pathlib import Path

_DIRECTORIES = {"__pycache__", "tests"}
_AT_THE_TOP = {"bin", ".lock"}
# How it was installed. Left are the names, versions and entry points that `importlib.metadata` answers with.
_OF_THE_INSTALLER = {
    "RECORD",
    "INSTALLER",
    "REQUESTED",
    "direct_url.json",
    "uv_build.json",
    "uv_cache.json",
}
_BY_NAME = ("sqlalchemy/testing", "alembic/testing", "alembic/templates")


def strip(installed: Path) -> None:
    for name in (*_AT_THE_TOP, *_BY_NAME):
        _remove(installed / name)
    for path in sorted(installed.rglob("*")):
        if (path.name in _DIRECTORIES and path.is_dir()) or (
            path.name in _OF_THE_INSTALLER and path.parent.suffix == ".dist-info"
        ):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
