"""What is generated is current, and what is drawn is what the engine allows."""

from __future__ import annotations

import re
from pathlib import Path

from docs import generate
from taskflow.core.task import TRANSITIONS, TaskStatus

ROOT = Path(__file__).parents[3]


def test_generated_files_are_what_the_code_says_now() -> None:
    for path, content in generate.documents().items():
        assert path.read_text() == content, f"{path.name}: run .venv/bin/python -m docs.generate"


def test_the_picture_of_the_states_draws_exactly_the_allowed_transitions() -> None:
    page = (ROOT / "docs" / "state-machine.md").read_text()
    drawn = set(re.findall(r"^    (\S+) --> (\S+)$", page, re.MULTILINE))
    allowed = {
        (source.value if source else "[*]", target.value)
        for source, targets in TRANSITIONS.items()
        for target in targets
    }
    assert drawn == allowed


def test_every_state_is_explained() -> None:
    page = (ROOT / "docs" / "state-machine.md").read_text()
    for status in TaskStatus:
        assert re.search(rf"^\| `{status}` \| \w", page, re.MULTILINE), status
