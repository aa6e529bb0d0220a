"""SQS clients: how they are configured, and how many a process makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.session import Session

from taskflow.adapters.queue.sqs.client import sqs_clients
from taskflow.app import TaskFlow
from taskflow.bootstrap import build_queue
from taskflow.core.registry import Registry, TaskOptions
from taskflow.settings import load
from taskflow.testing import FakeClock
from tests.support import aws


def test_there_is_a_connection_for_every_worker_and_every_send(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    configs: list[Config] = []
    create = Session.create_client

    def noting(self: Session, service: str, *args: Any, **options: Any) -> Any:
        configs.append(options["config"])
        return create(self, service, *args, **options)

    monkeypatch.setattr(Session, "create_client", noting)
    monkeypatch.setenv("AWS_REGION", aws.REGION)
    settings = load(queue_backend="sqs", num_workers=20, queue_max_sends=50)
    build_queue(settings, clock, works=True).close()
    assert max(config.max_pool_connections for config in configs) >= 70


def test_retries_are_pinned_and_every_thread_has_a_connection() -> None:
    clients = sqs_clients(region="eu-central-1", threads=100, receivers=8)
    for client, threads in ((clients.calls, 100), (clients.polls, 8)):
        assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 3}
        assert client.meta.config.max_pool_connections >= threads
    assert clients.calls.meta.config.read_timeout <= 5  # a submission may wait for it
    assert clients.polls.meta.config.read_timeout > 20
    clients.close()


@pytest.mark.parametrize("backend", ["aws"], indirect=True)
def test_a_process_makes_its_clients_once(
    backend: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()
    create = Session.create_client

    def counting(self: Session, service: str, *args: Any, **options: Any) -> Any:
        made[service] += 1
        return create(self, service, *args, **options)

    monkeypatch.setattr(Session, "create_client", counting)
    registry = Registry()
    registry.add(lambda text: text, name="echo_back", declared=TaskOptions())
    app = TaskFlow(
        home=tmp_path / "home",
        handlers=registry,
        num_workers=2,
        inline_payload_bytes=100,
        **backend,
    )
    with app:
        handles = [app.submit("echo_back", str(n) * 200) for n in range(10)]
        assert [handle.result(timeout=30) for handle in handles] == [
            str(n) * 200 for n in range(10)
        ]
    assert made["sqs"] == 2  # one for calls, one that waits for messages
