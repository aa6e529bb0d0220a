"""Every adapter of the queue port, empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.queue.chaos import ChaosHarness
from tests.contract.queue.harness import QueueHarness
from tests.contract.queue.local import LocalHarness
from tests.contract.queue.sqs import LongSQSHarness, SQSHarness

BACKENDS = ("local", "chaos", "sqs-moto", "sqs-ministack", "sqs-long")
LONG_SECONDS = 30.0
BRIEF_SECONDS = 2.0  # of real time; SQS counts whole seconds


def make(backend: str, request: pytest.FixtureRequest, *, sqs_seconds: float) -> QueueHarness:
    if backend == "local":
        return LocalHarness(visibility_timeout_seconds=LONG_SECONDS)
    if backend == "chaos":
        return ChaosHarness(visibility_timeout_seconds=LONG_SECONDS)
    if backend == "sqs-long":
        url = request.getfixturevalue("ministack_url")
        return LongSQSHarness(url, visibility_timeout_seconds=sqs_seconds)
    url = request.getfixturevalue(f"{backend.removeprefix('sqs-')}_url")
    return SQSHarness(url, visibility_timeout_seconds=sqs_seconds)


@pytest.fixture(params=BACKENDS)
def harness(request: pytest.FixtureRequest) -> Iterator[QueueHarness]:
    """With a visibility timeout that does not run out during a test, unless it lets time pass."""
    made = make(request.param, request, sqs_seconds=LONG_SECONDS)
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
def brief(request: pytest.FixtureRequest) -> Iterator[QueueHarness]:
    """With a visibility timeout that a test can wait for."""
    made = make(request.param, request, sqs_seconds=BRIEF_SECONDS)
    yield made
    made.close()
