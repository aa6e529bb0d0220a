"""A log line as an event: its fields flat, its moment as Insights writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

ORDER = "@order"  # when it happened, more exactly than `@timestamp`
Event = Mapping[str, Any]


def events_of(lines: Iterable[bytes], *, since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """What is a JSON object with ``ts``; of those only what is not before ``since``.

    Anything else in between (a library's print, a line cut off by a kill) is passed over, as it is there.
    """
    earliest = "" if since is None else since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    for line in lines:
        if not line.startswith(b"{"):
            continue
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if not isinstance(fields, dict) or not isinstance(ts := fields.get("ts"), str):
            continue
        if (moment := _moment(ts)) >= earliest:
            event = dict(_flat("", fields))
            event[ORDER] = moment
            event["@timestamp"] = moment[:23]
            event["@message"] = line.decode(errors="replace").rstrip("\n")
            yield event


def _moment(ts: str) -> str:
    """``2026-01-31 09:00:00.123456``: always with microseconds, so that texts compare as moments."""
    moment, _, fraction = ts.rstrip("Z").replace("T", " ").partition(".")
    return f"{moment}.{fraction:0<6}"


def _flat(prefix: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flat(f"{path}.", value)
        elif isinstance(value, list):
            yield from _flat(f"{path}.", {str(index): item for index, item in enumerate(value)})
        elif value is not None:
            yield path, value
