"""Delays longer than SQS can hold fire on time, and SQS is never asked to hold one for longer than it can.

Time passes in the database, where the due moments are judged. The emulator's own clock cannot be moved, so a proxy
shortens what SQS is asked to hide: messages come too early again and again, and must be hidden anew until they are due.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from taskflow.app import TaskFlow
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import TaskStatus
from tests.support import aws, backends
from tests.support.aws_proxy import Answer, AwsProxy, Request, aws_proxy

_SQS_LONGEST_DELAY = 900  # seconds; an AWS limit, as the next
_SQS_LONGEST_VISIBILITY = 43_200
_MINUTES_16 = 16 * 60.0
_DAYS_60 = 60 * 86_400.0
_PATIENCE_SECONDS = 60.0
_LATEST_SECONDS = 20.0  # a tick of the relay, what the proxy leaves of a delay, a busy machine


@dataclass
class Shortened:
    """Hides for a second at most, and remembers what was asked for."""

    proxy: AwsProxy
    delays: list[int] = field(default_factory=list)
    visibilities: list[int] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer | None:
        if request.operation not in ("SendMessageBatch", "ChangeMessageVisibilityBatch"):
            return None
        body = request.json
        for entry in body["Entries"]:
            if "DelaySeconds" in entry:
                self.delays.append(entry["DelaySeconds"])
                entry["DelaySeconds"] = min(1, entry["DelaySeconds"])
            if "VisibilityTimeout" in entry:
                self.visibilities.append(entry["VisibilityTimeout"])
                entry["VisibilityTimeout"] = min(1, entry["VisibilityTimeout"])
        return self.proxy.forward(
            replace(request, body=json.dumps(body).encode(), headers=_unsigned(request.headers))
        )


def _unsigned(headers: Mapping[str, str]) -> dict[str, str]:
    """The length is another one now; the emulator does not check the signature."""
    return {name: value for name, value in headers.items() if name.lower() != "content-length"}


def advance(url: str, seconds: float) -> None:
    """Move the time of the database to ``seconds`` after the real one."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute(
        "CREATE OR REPLACE FUNCTION taskflow_now() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT "
        f"(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {int(seconds * 1_000_000)} $$"
    )
    connection.close()


@pytest.fixture
def shortened(
    emulated_aws: backends.Emulated, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shortened]:
    with aws_proxy(emulated_aws.url) as proxy:
        for name, value in aws.environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        watching = Shortened(proxy)
        with proxy.intercepting(watching):
            yield watching


@pytest.mark.parametrize("delay", [_MINUTES_16, _DAYS_60], ids=["16 minutes", "60 days"])
def test_a_long_delay_fires_when_it_is_due_and_not_before(
    delay: float,
    tmp_path: Path,
    shortened: Shortened,
    emulated_aws: backends.Emulated,
    postgres_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry()
    registry.add(lambda: "ran", name="job", declared=TaskOptions())
    settings: dict[str, Any] = emulated_aws.everything(postgres_store)
    identity = emulated_aws.identity("WorkerRole", settings["queue_prefix"])
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", identity)
    url = settings["database_url"]
    with TaskFlow(home=tmp_path / "home", handlers=registry, num_workers=1, **settings) as app:
        wanted = Submission("job", options=SubmitOptions.of(delay=delay))
        handle = app.submit_task(wanted)
        due = app.get(handle.id).run_at
        for left in (_SQS_LONGEST_DELAY + 30, _SQS_LONGEST_DELAY - 30, 20):
            advance(url, (due - datetime.now(UTC)).total_seconds() - left)
            app.runtime.relay.run_once()
            assert not app.wait(handle.id, 2.5).status.is_final, f"it ran {left} s early"
        early = app.history(handle.id)
        assert [event.type.value for event in early if event.type.value == "task.started"] == []
        advance(url, (due - datetime.now(UTC)).total_seconds() - 1)
        task = app.wait(handle.id, _PATIENCE_SECONDS)
        assert (task.status, task.result) == (TaskStatus.COMPLETED, "ran")
        assert task.attempt == 1
        assert task.started_at is not None
        assert 0 <= (task.started_at - due).total_seconds() <= _LATEST_SECONDS
    assert emulated_aws.refused(identity) == []
    assert shortened.delays, "it never went through the queue"
    assert max(shortened.delays) <= _SQS_LONGEST_DELAY
    assert all(seconds <= _SQS_LONGEST_VISIBILITY for seconds in shortened.visibilities)
