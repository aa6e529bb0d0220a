"""What this disk and SQLite can do: the reference beside every absolute figure, because disks differ."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from pathlib import Path

from benchmarks.figures import Effort, Figure, command
from benchmarks.surroundings import home

_SYNCS = 200
_BATCH = 1_000
_BODY = '[[1],{"to":"someone@example.com"}]'


def commits_per_second(directory: Path, *, seconds: float, rows: int = 1) -> float:
    """Transactions of ``rows`` inserted rows into one table: WAL, `synchronous=FULL`, one connection, no index."""
    connection = sqlite3.connect(directory / f"bare-{time.monotonic_ns()}.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        statement, values = "INSERT INTO t (body) VALUES (?)", [(_BODY,)] * rows
        began, commits = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            if rows == 1:
                connection.execute(statement, (_BODY,))
            else:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(statement, values)
                connection.execute("COMMIT")
            commits += 1
        return commits / passed
    finally:
        connection.close()


def fdatasync_ms(directory: Path) -> list[float]:
    """Times of appending 4 KiB to a file and waiting for the disk."""
    times = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1_000)
    return times


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """``stored`` does not matter here."""
    with home() as directory:
        syncs = fdatasync_ms(directory)
        single = [commits_per_second(directory, seconds=0.5) for _ in range(effort.rounds)]
        batches = [
            commits_per_second(directory, seconds=0.5, rows=_BATCH) for _ in range(effort.rounds)
        ]
    return [
        Figure("disk: fdatasync", statistics.median(syncs), "ms"),
        Figure("disk: one-row commits", statistics.median(single), "commits/s", runs=tuple(single)),
        Figure(
            f"disk: rows in commits of {_BATCH:,}",
            statistics.median(batches) * _BATCH,
            "rows/s",
            runs=tuple(rate * _BATCH for rate in batches),
        ),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
