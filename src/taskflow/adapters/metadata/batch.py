"""A batch as a table: one JSON parameter that a statement joins, inserts from or updates from.

One execution then serves a whole batch, inside the database and without the GIL. Elements are arrays, so the text
stays small: ``[["default", "0199…", 7], …]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.schema import Id
from taskflow.adapters.metadata.transaction import SIZE, Prepared, Transaction, size_of

Type = sa.types.TypeEngine[Any]
TEXT: Type = sa.Text()
INTEGER: Type = sa.BigInteger()
NUMBER: Type = sa.Double()
ID: Type = Id


_FEW = (
    32  # rows; binding the values of more would hold the GIL for longer than reading JSON is worth
)


def batch_table(
    database: Database, columns: Mapping[str, Type], parameter: str = "batch"
) -> sa.Subquery:
    """``columns`` in the order of the elements' items. Bind the batch as ``parameter``, JSON text."""
    if database.is_sqlite:
        source = sa.func.json_each(sa.bindparam(parameter, type_=sa.Text)).table_valued(
            "value", name=f"{parameter}_each"
        )
        selected = [
            sa.func.json_extract(
                source.c.value, sa.literal_column(f"'$[{index}]'"), type_=type_
            ).label(name)
            for index, (name, type_) in enumerate(columns.items())
        ]
    else:
        # Not JSON: it would be read anew, as a whole, for every column of a row.
        jsonb = import_module("sqlalchemy.dialects.postgresql").JSONB
        text = sa.cast(sa.bindparam(parameter, type_=sa.Text), jsonb)
        source = sa.func.jsonb_array_elements(text).table_valued("value", name=f"{parameter}_each")
        selected = [
            sa.cast(sa.column("value").op("->>")(sa.literal_column(str(index))), type_).label(name)
            for index, (name, type_) in enumerate(columns.items())
        ]
    batch = sa.select(*selected).select_from(source)
    if not database.is_sqlite:
        # PostgreSQL takes any JSON array for a hundred rows, and would read a table of thousands rather than look for
        # that many by key. The limit tells it how many there are.
        batch = batch.limit(sa.bindparam(f"{parameter}{SIZE}", type_=sa.Integer))
    return batch.subquery(parameter)


def batch_parameters(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """For statements that are not prepared, with one batch called ``batch``."""
    text = batch_text(rows)
    return {"batch": text, f"batch{SIZE}": size_of(text)}


def batch_text(rows: Sequence[Sequence[Any]]) -> str:
    """Rows (tuples, named tuples) as the JSON text of a batch."""
    return orjson.dumps(rows, default=tuple).decode()


def insert_from(
    database: Database,
    table: sa.Table,
    columns: Mapping[str, Type],
    *,
    key: int = 0,
    add: bool = False,
) -> PreparedInsert:
    """``INSERT INTO table (columns) SELECT … FROM batch``, for `insert`. With ``key`` an upsert: where the first
    ``key`` columns are known, the others are replaced, or with ``add`` added to."""
    names = list(columns)
    batch = sa.select(batch_table(database, columns))
    many = database.insert(table)
    if key:
        # SQLite's grammar needs a WHERE between SELECT and ON CONFLICT.
        many = many.from_select(names, batch.where(sa.true())).on_conflict_do_update(
            index_elements=names[:key],
            set_={
                name: (table.c[name] + many.excluded[name]) if add else many.excluded[name]
                for name in names[key:]
            },
        )
    else:
        many = many.from_select(names, batch)
    few = None
    if database.is_sqlite:
        few = _Values(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ",  # noqa: S608 - names of our own schema
            f"({', '.join('?' * len(names))})",
            "",
        )
        if key:
            changes = (
                f"{name} = {table.name}.{name} + excluded.{name}"
                if add
                else f"{name} = excluded.{name}"
                for name in names[key:]
            )
            after = f" ON CONFLICT ({', '.join(names[:key])}) DO UPDATE SET {', '.join(changes)}"
            few = few._replace(after=after)
    return PreparedInsert(database.prepare(many), few)


class _Values(NamedTuple):
    """The parts of an INSERT of any number of rows."""

    before: str
    row: str
    after: str


class PreparedInsert(NamedTuple):
    """``few`` is for a handful of rows, in one execution too: reading the batch's JSON would cost more than they do."""

    many: Prepared
    few: _Values | None


def insert(tx: Transaction, statement: PreparedInsert, rows: Sequence[Sequence[Any]]) -> None:
    """Rows in the order of the statement's columns."""
    if statement.few is not None and len(rows) <= _FEW:
        before, row, after = statement.few
        tx.run_text(
            f"{before}{', '.join([row] * len(rows))}{after}", list(chain.from_iterable(rows))
        )
    else:
        tx.run(statement.many, batch=batch_text(rows))
