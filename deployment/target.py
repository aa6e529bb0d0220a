"""What a command is about: one stage, which is one stack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deployment.errors import UsageError

ROOT = Path(__file__).parents[1]
_STAGE = re.compile(r"[a-z](?:-?[a-z0-9]){0,19}")
_STACK_PREFIX = "taskflow-"
DEFAULT_PROFILE = "standard"


@dataclass(frozen=True)
class Target:
    """``profile`` is a name of cdk/profiles.py; None: whatever the stack there is has."""

    stage: str
    profile: str | None

    @property
    def stack(self) -> str:
        return f"{_STACK_PREFIX}{self.stage}"


def target(profile: str | None, stage: str | None, *, known_profiles: list[str]) -> Target:
    """Raises UsageError. Without a stage: `dev` of profile dev, else `prod`."""
    if profile is not None and profile not in known_profiles:
        raise UsageError(
            f"There is no profile {profile!r}.", f"Choose one of: {', '.join(known_profiles)}."
        )
    stage = stage or ("dev" if profile == "dev" else "prod")
    if not _STAGE.fullmatch(stage):
        raise UsageError(
            f"{stage!r} cannot be a stage.",
            "Use at most 20 lower-case letters, digits and single dashes, beginning with a letter.",
        )
    return Target(stage, profile)
