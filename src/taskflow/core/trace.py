"""W3C trace context: which trace a submission belongs to. https://www.w3.org/TR/trace-context/#traceparent-header"""

from __future__ import annotations

import re
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01  # the only flag that version 00 knows

CURRENT: ContextVar[str | None] = ContextVar("taskflow_traceparent", default=None)
"""Of the task whose handler runs here: what it submits belongs to the same trace."""


def parse(text: str) -> str | None:
    """As it is stored and passed on, in version 00; None if it is not valid, which the sender does not hear of.

    One of a later version counts as far as it is like version 00 (§3.2.4).
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace.strip("0") == "" or parent.strip("0") == "":
        return None
    return text if version == "00" else f"00-{trace}-{parent}-{int(flags, 16) & _SAMPLED:02x}"


def trace_id(traceparent: str) -> str:
    """Of one that `parse` has returned."""
    return traceparent[3:35]
