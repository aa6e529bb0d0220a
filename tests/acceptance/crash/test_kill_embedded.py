"""100 rounds of `kill -9` against a program with an embedded TaskFlow, under load from eight threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.crash.processes import Nursery, Process
from tests.acceptance.crash.site import Site
from tests.acceptance.crash.verdict import Answered

ROUNDS = 50
_MOST_ANSWERS = 80
_START_SECONDS = 0.08  # in about this time a process starts


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("chunk", range(2))
def test_what_was_answered_survives_every_kill(
    chunk: int, tmp_path: Path, nursery: Nursery
) -> None:
    site = Site(tmp_path, nursery, f"embedded-{chunk}")
    for number in range(ROUNDS):
        with site.start("submit_under_load", seed=chunk * ROUNDS + number) as process:
            if site.rng.random() < 0.2:
                site.moment(_START_SECONDS)  # while it starts, or recovers what was left
            else:
                process.expect("ready")
                for _ in range(site.rng.randint(0, _MOST_ANSWERS)):
                    note(site.answered, process)
                site.moment(0.001)
            process.kill()
            for message in process.rest():
                note_message(site.answered, message)
        site.look(number)
    stored = site.finish()
    assert stored >= len(site.answered.kinds) > ROUNDS


def note(answered: Answered, process: Process) -> None:
    message = process.hear()
    assert message is not None, process.log_tail()
    note_message(answered, message)


def note_message(answered: Answered, message: str) -> None:
    """``id kind parent``, or a complaint."""
    if message == "ready":
        return
    assert not message.startswith("!"), message
    task_id, kind, parent = message.split()
    answered.kinds[task_id] = kind
    if parent != "-":
        answered.parents[task_id] = parent
