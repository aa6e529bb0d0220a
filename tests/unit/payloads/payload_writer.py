"""A process that writes and reads one object until it is killed: `python payload_writer.py ROOT KEY SIZE SEED`."""

from __future__ import annotations

import sys
from pathlib import Path

from taskflow.adapters.payloads.files import FilePayloads


def main(root: str, key: str, size: int, seed: int) -> None:
    store = FilePayloads(Path(root))
    number = 0
    while True:
        number += 1
        version = (seed + number) % 251
        store.put({key: bytes([version]) * (size + version)})
        data = store.get([key])[key]
        if data != data[:1] * (size + data[0]):
            raise SystemExit(f"a mixture of objects: {len(data)} bytes")
        sys.stdout.write("w")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
