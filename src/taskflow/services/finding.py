"""What a check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

BATCH = 500  # rows or payloads looked at, or repaired, at once
EXAMPLES = 5  # that a finding names


class Health(StrEnum):
    OK = "ok"
    REPAIRED = "repaired"
    WARNING = "warning"  # works, but somebody should look
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``advice``: how to repair it, if it needs a person or ``fix``."""

    check: str
    health: Health
    message: str
    count: int = 0
    advice: str | None = None
    examples: tuple[str, ...] = ()
