"""Fixtures for pytest. Say ``pytest_plugins = ["taskflow.testing.plugin"]`` in the root `conftest.py`.

def test_a_receipt_is_sent(taskflow_eager):
    assert send_receipt.submit(order=7).result() == "sent"

def test_with_real_workers(taskflow_app):
    assert send_receipt.submit(order=7).result(timeout=10) == "sent"
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.testing.eager import EagerTaskFlow, eager


@pytest.fixture
def taskflow_eager() -> Iterator[EagerTaskFlow]:
    """Submitting runs the handler at once, without threads: see `EagerTaskFlow`."""
    with eager() as app:
        yield app


@pytest.fixture
def taskflow_app(tmp_path: Path) -> Iterator[TaskFlow]:
    """A running `TaskFlow` with two workers and a home of its own; other settings come from the environment.

    Attempts that still run when the test ends are given up: nobody is left to read their results.
    """
    app = TaskFlow(home=tmp_path / "taskflow", database_url="", num_workers=2)
    app.start()
    try:
        yield app
    finally:
        app.stop(grace_seconds=0)
