"""What people look for in names: part of a text, whatever its case."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

UNICODE_LOWER = "unicode_lower"  # on every connection to SQLite, whose own lower() knows ASCII only
_ESCAPE = "\\"


class _Lowered(FunctionElement[str]):
    """PostgreSQL lowers as the locale of the database says: ASCII only where that is C."""

    type = sa.Text()
    inherit_cache = True


@compiles(_Lowered)
def _lower(element: _Lowered, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(_Lowered, "sqlite")
def _unicode_lower(element: _Lowered, compiler: SQLCompiler, **options: Any) -> str:
    return f"{UNICODE_LOWER}({compiler.process(element.clauses, **options)})"


def contains(columns: list[sa.ColumnElement[Any]], part: str) -> sa.ColumnElement[bool]:
    """Whether one of ``columns`` has ``part`` in it. The database lowers both: Python may know other letters."""
    lowered = sa.func.lower if part.isascii() else _Lowered
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    pattern = lowered(sa.literal(f"%{escaped}%", sa.Text()))
    return sa.or_(*(lowered(column).like(pattern, escape=_ESCAPE) for column in columns))


def unicode_lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
