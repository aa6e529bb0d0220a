"""One home, killed over and over, and everything that is known about it from outside."""

from __future__ import annotations

import random
import threading
from pathlib import Path

from tests.acceptance.crash.load import EFFECTS, INLINE_PAYLOAD_BYTES
from tests.acceptance.crash.processes import Nursery, Process
from tests.acceptance.crash.verdict import Answered, is_sound, judge

_PROGRAMS = "tests.acceptance.crash.programs"
_LOOK_EVERY = 10  # rounds between two looks at the file


class Site:
    def __init__(self, directory: Path, nursery: Nursery, seed: str) -> None:
        self.answered = Answered()
        self.rng = random.Random(seed)
        self.effects = directory / "effects"
        self.home = directory / "home"
        self._log = directory / "log"
        self._nursery = nursery
        self.effects.touch()

    def start(self, program: str, **arguments: object) -> Process:
        environment = {
            EFFECTS: str(self.effects),
            "TASKFLOW_HOME": str(self.home),
            "TASKFLOW_TASKS": "tests.acceptance.crash.handlers",
            "TASKFLOW_INLINE_PAYLOAD_BYTES": str(INLINE_PAYLOAD_BYTES),
            "TASKFLOW_MAX_CRASHES": "1000",  # killing is our doing, not the tasks'
            "TASKFLOW_LOG_LEVEL": "warning",
        }
        return self._nursery.start(
            f"{_PROGRAMS}:{program}", log=self._log, environment=environment, **arguments
        )

    def moment(self, most_seconds: float) -> None:
        """Let a random moment pass."""
        threading.Event().wait(self.rng.random() * most_seconds)

    def look(self, number: int) -> None:
        """Now and then, whether the file is sound right after a kill."""
        if number % _LOOK_EVERY == 0 and self.home.joinpath("taskflow.db").exists():
            is_sound(self.home)

    def finish(self) -> int:
        """Start once more, let everything end, and judge. Returns the number of tasks."""
        with self.start("drain") as process:
            process.expect("drained")
            assert process.wait() == 0, process.log_tail()
        return judge(self.home, self.effects, self.answered)
