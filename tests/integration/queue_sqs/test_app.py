"""The embedded app with its queue on SQS: the same program, whatever SQS does."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskFlow
from taskflow.core.registry import Registry, TaskOptions
from tests.integration.queue_sqs.conftest import Events
from tests.integration.queue_sqs.handlers import double, flaky
from tests.support import aws, sqs
from tests.support.aws_proxy import AwsProxy


@pytest.fixture
def options(proxy: AwsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name, value in aws.environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    registry = Registry()
    for function in (double, flaky):
        registry.add(function, declared=TaskOptions(max_retries=2))
    return {
        "handlers": registry,
        "home": tmp_path / "home",
        "queue_backend": "sqs",
        "queue_poll_seconds": 1,
        "retry_base_seconds": 0.01,
    }


def prefix_of(names: Any) -> str:
    return str(names.name(0).rpartition("-")[0])


def test_tasks_run_are_retried_and_leave_nothing_behind(
    options: dict[str, Any], ministack_url: str, tmp_path: Path
) -> None:
    names = sqs.provisioned(ministack_url)
    with TaskFlow(**options, queue_prefix=prefix_of(names)) as app:
        handles = [app.options(priority=n % 4).submit("double", number=n) for n in range(40)]
        again = app.submit("flaky", file=str(tmp_path / "seen"))
        delayed = app.options(delay=1.2).submit("double", number=7)
        assert [handle.result(timeout=60) for handle in handles] == [2 * n for n in range(40)]
        assert again.result(timeout=60) == "done"
        assert delayed.result(timeout=60) == 14
        depths = app.runtime.queue.depths
        sqs.until(lambda: not any(sum(depth) for depth in depths().values()))


def test_a_bulk_is_sent_once_although_relays_look_for_what_is_unsent(
    options: dict[str, Any], ministack_url: str, proxy: AwsProxy
) -> None:
    """Sending takes several times as long as it takes until a relay looks."""
    names = sqs.provisioned(ministack_url)
    count = 300
    with TaskFlow(**options, queue_prefix=prefix_of(names)) as app:
        proxy.latency_seconds = 0.05
        handles = app.submit_many(("double", [], {"number": n}) for n in range(count))
        proxy.latency_seconds = 0.0
        for handle in handles:
            handle.result(timeout=60)
    sent = sum(len(request.json["Entries"]) for request in proxy.of("SendMessageBatch"))
    assert sent == count


def test_an_app_starts_and_accepts_while_sqs_is_away(
    options: dict[str, Any], ministack_url: str, proxy: AwsProxy, events: Events
) -> None:
    names = sqs.provisioned(ministack_url)
    app = TaskFlow(**options, queue_prefix=prefix_of(names))
    try:
        with proxy.unreachable():
            app.start()
            handle = app.submit("double", number=21)
            metrics = app.runtime.insights.prometheus().decode()
            assert 'taskflow_tasks{status="pending"} 1.0' in metrics
            assert "taskflow_queue_depth{" not in metrics
            assert events("queue.depths_failed")
        assert handle.result(timeout=60) == 42
    finally:
        app.stop()


def test_tasks_submitted_while_sqs_hangs_are_accepted_and_run(
    options: dict[str, Any], ministack_url: str, proxy: AwsProxy
) -> None:
    with TaskFlow(**options, queue_prefix=prefix_of(sqs.provisioned(ministack_url))) as app:
        with proxy.hanging("SendMessageBatch"):
            handles = [app.options(priority=n).submit("double", number=n) for n in range(4)]
        assert [handle.result(timeout=60) for handle in handles] == [0, 2, 4, 6]


def test_a_worker_says_that_it_gets_messages_of_another_store(
    options: dict[str, Any], ministack_url: str, tmp_path: Path, events: Events
) -> None:
    """As when two environments have one TASKFLOW_QUEUE_PREFIX: tasks wait, and nobody knows why."""
    options["queue_prefix"] = prefix_of(sqs.provisioned(ministack_url))
    with TaskFlow(**options, num_workers=0) as other:
        handle = other.submit("double", number=1)
    with TaskFlow(**{**options, "home": tmp_path / "another"}):
        sqs.until(lambda: bool(events("message.task_unknown")))
    [line] = events("message.task_unknown")
    assert (line["level"], line["count"], line["task_id"]) == ("WARNING", 1, handle.id)
    assert "TASKFLOW_QUEUE_PREFIX" in line["hint"]


def test_a_task_that_is_early_waits_in_sqs(
    options: dict[str, Any], ministack_url: str, proxy: AwsProxy
) -> None:
    """The message comes without its delay; the store knows better, and the message is hidden again until then."""
    names = sqs.provisioned(ministack_url)
    with TaskFlow(**options, queue_prefix=prefix_of(names)) as app:
        started_at = time.time()
        with proxy.intercepting(_without_delay(proxy)):
            handle = app.options(delay=2.0).submit("double", number=1)
            assert handle.result(timeout=60) == 2
        assert time.time() - started_at >= 2.0
    assert proxy.counts["ChangeMessageVisibilityBatch"] >= 1


def _without_delay(proxy: AwsProxy) -> Any:
    def strip(request: Any) -> Any:
        if request.operation != "SendMessageBatch":
            return None
        asked = request.json
        for entry in asked["Entries"]:
            entry.pop("DelaySeconds", None)
        body = json.dumps(asked).encode()
        headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
        return proxy.forward(replace(request, body=body, headers=headers))

    return strip
