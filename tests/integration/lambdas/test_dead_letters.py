"""Messages that SQS itself has moved to a dead-letter queue, over Lambda's runtime protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.lambdas.conftest import Cloud
from tests.support.lambda_events import EventSource
from tests.support.lambda_runtime import LambdaFunction

pytestmark = pytest.mark.xdist_group("lambdas-dead_letters")  # they share a cloud and functions


@pytest.fixture(scope="module")
def dead_letters(cloud: Cloud) -> LambdaFunction:
    return cloud.function("dead_letters", max_crashes=2)


@pytest.fixture
def dead(cloud: Cloud) -> EventSource:
    """The dead-letter queue of the low priority, whose messages are given up after one receive."""
    low, dead = cloud.source("low"), cloud.source("low", dead=True)
    policy = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}
    cloud.sqs.set_queue_attributes(
        QueueUrl=low.url,
        Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "0"},
    )
    return dead


def given_up(cloud: Cloud, dead: EventSource, task: str) -> list[dict[str, Any]]:
    """The message of the task: received until SQS moves it away."""
    for _ in range(20):
        cloud.source("low").receive(1, wait_seconds=0)
        for record in dead.receive(10, wait_seconds=0):
            if json.loads(record["body"])["task_id"] == task:
                return [record]
    raise AssertionError("SQS has not given it up")


def test_a_task_that_still_waits_is_run_again_and_dead_lettered_in_the_end(
    cloud: Cloud, dead_letters: LambdaFunction, dead: EventSource
) -> None:
    task = cloud.submit("lambda_echo", "never started", priority="low")
    assert dead.invoke(dead_letters, given_up(cloud, dead, task)) == []
    found = cloud.get(task)
    assert (found.status, found.crash_count) == ("retrying", 1)
    assert found.error is not None
    assert "the queue gave up its message" in found.error.message
    assert cloud.count("outbox") == 0  # sent again already

    assert dead.invoke(dead_letters, given_up(cloud, dead, task)) == []
    found = cloud.get(task)
    assert (found.status, found.crash_count) == ("failed", 2)
    assert [
        d.task_id for d in cloud.runtime.dead_letters.list("default", limit=10, cursor=None)[0]
    ] == [task]
    assert cloud.history(task) == ["submitted", "started", "retrying", "started", "failed"]
    logged = [line["task_id"] for line in dead_letters.lines("message.dead_lettered")]
    assert logged == [task, task]


def test_the_message_of_a_finished_task_is_forgotten(
    cloud: Cloud, dead_letters: LambdaFunction, dead: EventSource
) -> None:
    task = cloud.submit("lambda_echo", priority="low")
    records = given_up(cloud, dead, task)
    cloud.runtime.tasks.cancel("default", task)
    assert dead.invoke(dead_letters, records) == []
    assert cloud.status(task) == ["cancelled"]


def test_the_message_of_an_early_task_stays_until_it_is_due(
    cloud: Cloud, dead_letters: LambdaFunction, dead: EventSource
) -> None:
    task = cloud.submit("lambda_echo", priority="low")
    [record] = given_up(cloud, dead, task)
    cloud.execute(
        "UPDATE tasks SET status = 'scheduled', run_at = taskflow_now() + 60000000 WHERE id = :id",
        id=task,
    )
    assert dead.invoke(dead_letters, [record]) == [record["messageId"]]
    cloud.execute("UPDATE tasks SET run_at = taskflow_now() WHERE id = :id", id=task)
    assert dead.invoke(dead_letters, [record]) == []
    assert cloud.status(task) == ["retrying"]


def test_without_a_store_they_stay(
    cloud: Cloud, dead_letters: LambdaFunction, dead: EventSource
) -> None:
    task = cloud.submit("lambda_echo", priority="low")
    [record] = given_up(cloud, dead, task)
    with cloud.store_away():
        assert dead.invoke(dead_letters, [record]) == [record["messageId"]]
    assert dead.invoke(dead_letters, [record]) == []
    assert cloud.status(task) == ["retrying"]


def test_what_cannot_be_decoded_stays_for_people_to_look_at(
    cloud: Cloud, dead_letters: LambdaFunction, dead: EventSource
) -> None:
    dead.send("?")
    record = next(r for r in dead.receive(10) if r["body"] == "?")
    assert dead.invoke(dead_letters, [record]) == [record["messageId"]]
    [said] = dead_letters.lines("message.undecodable")
    assert said["message_id"] == record["messageId"]
    assert "not JSON" in said["reason"]

    task = cloud.submit("lambda_echo", priority="low")
    dead.send(
        json.dumps({"v": 1, "task_id": "t1", "tenant_id": "default", "task": "a", "priority": 3})
    )
    nameless = next(r for r in dead.receive(10) if "t1" in r["body"])
    records = [nameless, *given_up(cloud, dead, task)]
    assert dead.invoke(dead_letters, records) == [nameless["messageId"]], "it keeps no other back"
    assert cloud.status(task) == ["retrying"]
    assert dead_letters.invoke({"no": "records"}) == {"batchItemFailures": []}
