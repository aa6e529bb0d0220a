"""A zip whose bytes depend on what is in it alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say
_UNIX = 3


def write_archive(stage: Path, archive: Path) -> int:
    """All files below ``stage``. Returns their size unpacked.

    Lambda's user is none that the zip knows: everybody may read, and execute what is executable.
    """
    unpacked = 0
    files = {p.relative_to(stage).as_posix(): p for p in stage.rglob("*") if p.is_file()}
    with zipfile.ZipFile(archive, "w") as made:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            content = path.read_bytes()
            unpacked += len(content)
            made.writestr(entry, content)
    return unpacked
