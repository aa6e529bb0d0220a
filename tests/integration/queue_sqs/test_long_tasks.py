"""Tasks with a long timeout go to queues of their own, which only workers that are told so receive from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskFlow
from taskflow.adapters.queue.sqs.names import LONG, QueueNames
from taskflow.core.errors import ConfigurationError
from taskflow.core.registry import Registry, TaskOptions
from taskflow.services.finding import Health
from tests.integration.queue_sqs.handlers import double, flaky
from tests.support import aws, guard, sqs

LONG_TASK_SECONDS = 60.0
NORMAL = 2


@pytest.fixture
def names(ministack_url: str) -> QueueNames:
    return sqs.provisioned(ministack_url, long_task_seconds=LONG_TASK_SECONDS)


@pytest.fixture
def options(
    ministack_url: str, names: QueueNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    for name, value in aws.environment(ministack_url).items():
        monkeypatch.setenv(name, value)
    registry = Registry()
    registry.add(double, declared=TaskOptions())
    registry.add(flaky, declared=TaskOptions(timeout_seconds=61.0))
    return {
        "handlers": registry,
        "home": tmp_path / "home",
        "queue_backend": "sqs",
        "queue_prefix": names.name(0).rpartition("-")[0],
        "queue_poll_seconds": 1,
        "long_task_seconds": LONG_TASK_SECONDS,
        "default_timeout": 30.0,
        "retry_base_seconds": 0.01,
    }


@pytest.fixture
def as_long_worker(
    options: dict[str, Any], ministack_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """While it is entered, clients are made in the role that the template gives containers for long tasks."""
    prefix = options["queue_prefix"]
    who = guard.identity("LongWorkerRole", prefix=prefix, bucket=prefix)

    @contextmanager
    def enter() -> Iterator[None]:
        with monkeypatch.context() as environment:
            environment.setenv("AWS_SDK_UA_APP_ID", who)
            yield

    yield enter
    assert guard.refused(ministack_url, who) == []


def test_each_worker_runs_the_tasks_of_its_queues_and_no_others(
    options: dict[str, Any],
    tmp_path: Path,
    as_long_worker: Callable[[], AbstractContextManager[None]],
) -> None:
    with TaskFlow(**options, worker_queues="ordinary") as app:
        long = app.options(timeout=61).submit("double", number=1)
        just_not = app.options(timeout=60).submit("double", number=2)
        assert just_not.result(timeout=60) == 4
        assert long.task().attempt == 0
        sqs.until(lambda: app.runtime.queue.depths()[NORMAL].ready == 1)

    with as_long_worker(), TaskFlow(**options, worker_queues="long") as app:
        assert app.handle(long.id).result(timeout=60) == 2
        short = app.submit("double", number=3)
        # One that failed, one that waited for another, one that was early: each comes back by its own queue.
        again = app.submit("flaky", file=str(tmp_path / "seen"))
        after = app.options(timeout=100, depends_on=[again]).submit("double", number=4)
        delayed = app.options(timeout=100, delay=1.2).submit("double", number=5)
        assert [again.result(60), after.result(60), delayed.result(60)] == ["done", 8, 10]
        assert short.task().attempt == 0

    with TaskFlow(**options, worker_queues="all") as app:
        both = [app.handle(short.id), app.options(timeout=100).submit("double", number=6)]
        assert [handle.result(timeout=60) for handle in both] == [6, 12]
        depths = app.runtime.queue.depths
        sqs.until(lambda: not any(sum(depth) for depth in depths().values()))


def test_the_message_of_a_long_task_is_in_the_queue_of_its_priority(
    options: dict[str, Any], names: QueueNames, ministack_url: str
) -> None:
    with TaskFlow(**options, num_workers=0) as app:
        handle = app.options(timeout=61, priority="high").submit("double", number=1)
        [message] = sqs.receive(ministack_url, names.name(1 + LONG))
    assert names.name(1 + LONG).endswith("-long-high")
    assert handle.id in message["Body"]


def test_what_a_worker_cannot_decode_goes_to_the_dead_letters_of_the_queue_it_was_in(
    options: dict[str, Any],
    names: QueueNames,
    ministack_url: str,
    as_long_worker: Callable[[], AbstractContextManager[None]],
) -> None:
    client = sqs.clients(ministack_url).calls
    url = client.get_queue_url(QueueName=names.name(NORMAL + LONG))["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="not ours")
    with as_long_worker(), TaskFlow(**options, worker_queues="long"):
        found: list[Any] = []
        sqs.until(
            lambda: (
                found.extend(sqs.receive(ministack_url, names.dead_name(NORMAL + LONG))) or found
            )
        )
    assert [message["Body"] for message in found] == ["not ours"]


def test_the_doctor_says_that_a_queue_is_missing(
    options: dict[str, Any], names: QueueNames
) -> None:
    def queues(app: TaskFlow) -> tuple[Health, str]:
        [found] = [f for f in app.doctor.examine() if f.check == "queues"]
        return found.health, found.message

    with TaskFlow(**options, num_workers=0) as app:
        assert queues(app) == (Health.OK, "every queue answers; about 0 messages are ready")
    client = sqs.clients(aws.endpoint("ministack")).calls
    client.delete_queue(QueueUrl=names.url(client, names.name(3 + LONG)))
    with TaskFlow(**options, num_workers=0) as app:
        health, message = queues(app)
    assert health is Health.PROBLEM
    assert names.name(3 + LONG) in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"long_task_seconds": 0}, "set TASKFLOW_LONG_TASK_SECONDS"),
        ({"queue_backend": "local"}, "TASKFLOW_WORKER_QUEUES=long needs SQS"),
    ],
)
def test_a_worker_for_long_tasks_that_could_never_get_one_is_refused(
    options: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TaskFlow(**options | changes, worker_queues="long").start()
