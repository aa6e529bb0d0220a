"""A compiled statement, and the open transaction that runs it on the driver's own cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

SIZE = "_size"  # after the name of a batch: how many rows it has (`batch.py`)


def size_of(batch: str) -> int:
    """Of a batch's text; more, if a value looks like the seam of two rows."""
    return batch.count("],[") + 1


class Prepared:
    """A compiled statement: text, and the order of its parameters."""

    __slots__ = ("_batches", "_constants", "_names", "_positional", "returns_json", "text")

    def __init__(self, compiled: Any, *, returns_json: bool) -> None:
        self.text: str = str(compiled)
        self.returns_json = returns_json
        self._positional: bool = compiled.positional
        self._names: Sequence[str] = compiled.positiontup or ()
        self._constants: dict[str, Any] = {
            name: value for name, value in compiled.params.items() if value is not None
        }
        sizes = (name for name in compiled.params if name.endswith(SIZE))
        self._batches = [name for size in sizes if (name := size[: -len(SIZE)]) in compiled.params]

    def parameters(self, given: Mapping[str, Any]) -> Any:
        constants = self._constants
        if self._positional:
            return [given[name] if name in given else constants.get(name) for name in self._names]
        sizes = {name + SIZE: size_of(given[name]) for name in self._batches}
        return {**constants, **given, **sizes}


class Transaction:
    """An open transaction on one connection. Not thread safe."""

    def __init__(self, cursor: Any, read_now: Callable[[], int]) -> None:
        self._cursor = cursor
        self._read_now = read_now
        self._now: int | None = None

    @property
    def now(self) -> int:
        """Database time in Unix microseconds, the same throughout the transaction."""
        if self._now is None:
            self._now = self._read_now()
        return self._now

    def run(self, statement: Prepared, **parameters: Any) -> int:
        """Execute; returns the number of rows it changed."""
        self._cursor.execute(statement.text, statement.parameters(parameters))
        return int(self._cursor.rowcount)

    def run_each(self, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute once for every row of positional parameters."""
        self._cursor.executemany(text, rows)

    def rows(self, statement: Prepared, **parameters: Any) -> list[Sequence[Any]]:
        """Execute and fetch all rows, of a statement made by `Database.prepare_rows`."""
        self._cursor.execute(statement.text, statement.parameters(parameters))
        return fetch(self._cursor, statement)


def fetch(cursor: Any, statement: Prepared) -> list[Sequence[Any]]:
    if statement.returns_json:
        rows: list[Sequence[Any]] = orjson.loads(cursor.fetchone()[0])
        return rows
    return list(cursor.fetchall())
