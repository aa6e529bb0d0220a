"""100 rounds of `kill -9` against `taskflow dev`, while eight clients submit over HTTP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.crash.http_load import Clients
from tests.acceptance.crash.processes import Nursery, Process
from tests.acceptance.crash.site import Site

ROUNDS = 50
_MOST_ANSWERS = 40
_START_SECONDS = 0.15  # in about this time a server starts
_PATIENCE_SECONDS = 120.0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("chunk", range(2))
def test_what_was_answered_survives_every_kill(
    chunk: int, tmp_path: Path, nursery: Nursery
) -> None:
    site = Site(tmp_path, nursery, f"http-{chunk}")
    for number in range(ROUNDS):
        with site.start("dev") as process:
            if site.rng.random() < 0.15:
                site.moment(_START_SECONDS)  # while it starts, or recovers what was left
                process.kill()
            else:
                target = site.rng.randint(1, _MOST_ANSWERS)
                seed = f"{chunk}-{number}"
                clients = Clients(port_of(process), seed, site.answered, target)
                clients.start()
                try:
                    assert clients.enough.wait(_PATIENCE_SECONDS), process.log_tail()
                    site.moment(0.001)
                finally:
                    process.kill()
                    clients.join()
                assert not clients.complaints, f"{clients.complaints[:3]}\n{process.log_tail()}"
        site.look(number)
    stored = site.finish()
    assert stored >= len(site.answered.kinds) > ROUNDS


def port_of(process: Process) -> int:
    """From the first thing it prints."""
    greeting = process.hear()
    assert greeting is not None, process.log_tail()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", greeting)
    assert found is not None, greeting
    return int(found.group(1))
