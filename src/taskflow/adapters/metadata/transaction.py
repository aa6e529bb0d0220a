"""A compiled statement, and the open transaction that runs it on the driver's own cursor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import orjson

T = TypeVar("T")

SIZE = "_size"  # after the name of a batch: how many rows it has (`batch.py`)


def size_of(batch: str) -> int:
    """Of a batch's text; more, if a value looks like the seam of two rows."""
    return batch.count("],[") + 1


class Prepared:
    """A statement, compiled when it is first used: a process uses a few of all that there are."""

    def __init__(self, compiled: Callable[[], Any], *, returns_json: bool) -> None:
        self._compiled = compiled
        self.returns_json = returns_json

    @cached_property
    def text(self) -> str:
        return self._form.text

    def parameters(self, given: Mapping[str, Any]) -> Any:
        form = self._form
        constants = form.constants
        if form.positional:
            return [given[name] if name in given else constants.get(name) for name in form.names]
        sizes = {name + SIZE: size_of(given[name]) for name in form.batches}
        return {**constants, **given, **sizes}

    @cached_property
    def _form(self) -> _Form:
        compiled = self._compiled()
        sizes = (name for name in compiled.params if name.endswith(SIZE))
        return _Form(
            str(compiled),
            compiled.positional,
            compiled.positiontup or (),
            {name: value for name, value in compiled.params.items() if value is not None},
            [name for size in sizes if (name := size[: -len(SIZE)]) in compiled.params],
        )


class _Form(NamedTuple):
    """``names``: of its parameters, in their order, if they are ``positional``. ``batches``: those with a size."""

    text: str
    positional: bool
    names: Sequence[str]
    constants: dict[str, Any]
    batches: Sequence[str]


class Transaction:
    """An open transaction on one connection. Not thread safe. ``is_callers``: it ends when somebody else likes."""

    def __init__(
        self, cursor: Any, read_now: Callable[[], int], *, is_callers: bool = False
    ) -> None:
        self.is_callers = is_callers
        self._cursor = cursor
        self._read_now = read_now
        self._now: int | None = None
        self._first = ""
        self._last: dict[Callable[[Transaction, Sequence[Any]], None], list[Any]] = {}

    @property
    def now(self) -> int:
        """Database time in Unix microseconds, the same throughout the transaction."""
        if self._now is None:
            self._now = self._read_now()
        return self._now

    def before_next(self, text: str) -> None:
        """On PostgreSQL: ``text;`` goes to the server together with the next statement, in one round trip."""
        self._first += f"{text}; "

    def run(self, statement: Prepared, **parameters: Any) -> int:
        """Execute; returns the number of rows it changed."""
        self._execute(statement, parameters)
        return int(self._cursor.rowcount)

    def run_text(self, text: str, values: Sequence[Any]) -> None:
        """Execute a text with positional parameters."""
        self._cursor.execute(text, values)

    def rows(self, statement: Prepared, **parameters: Any) -> list[Sequence[Any]]:
        """Execute and fetch all rows, of a statement made by `Database.prepare_rows`."""
        self._execute(statement, parameters)
        return fetch(self._cursor, statement)

    def at_end(self, write: Callable[[Transaction, Sequence[T]], None], items: Iterable[T]) -> None:
        """``write`` once, with all the items it was given in this transaction, when nothing but the commit is left to
        be done. For rows that many transactions change: none of them waits for any other row with these locked."""
        self._last.setdefault(write, []).extend(items)

    def end(self, cursor: Any = None) -> None:
        """What was left for the end, on ``cursor`` if that is another one."""
        self._cursor = cursor or self._cursor
        for write, items in self._last.items():
            write(self, items)
        self._last.clear()

    def _execute(self, statement: Prepared, parameters: Mapping[str, Any]) -> None:
        first, self._first = self._first, ""
        self._cursor.execute(first + statement.text, statement.parameters(parameters))


def fetch(cursor: Any, statement: Prepared) -> list[Sequence[Any]]:
    if statement.returns_json:
        rows: list[Sequence[Any]] = orjson.loads(cursor.fetchone()[0])
        return rows
    return list(cursor.fetchall())
