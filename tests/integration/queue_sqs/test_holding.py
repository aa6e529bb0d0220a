"""What happens to messages while this process holds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.queue import SQSTaskQueue
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Selector
from tests.contract.queue.harness import Call, ids, message, messages
from tests.integration.queue_sqs.conftest import Events, MakeQueue, take
from tests.support import aws, sqs
from tests.support.aws_proxy import Answer, AwsProxy, Request

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WITHOUT_ECHO = Selector(excluded=frozenset({"echo"}))


def test_heartbeats_keep_messages_hidden_and_cost_one_request_for_ten(
    proxy: AwsProxy, make_queue: MakeQueue
) -> None:
    queue = make_queue(visibility_timeout_seconds=6, serves=[TaskPriority.NORMAL])
    queue.enqueue(messages(*(f"t{n}" for n in range(20))))
    receipts = [delivery.receipt for delivery in take(queue, 20, most=20)]
    taken_at = time.monotonic()

    def beat() -> bool:
        """As a worker does, only more often."""
        queue.extend(receipts, 6)
        assert queue.dequeue(max_messages=10, timeout_seconds=0.05) == []
        return time.monotonic() >= taken_at + 13

    sqs.until(beat)
    extensions = proxy.of("ChangeMessageVisibilityBatch")
    assert 2 <= len(extensions) <= 8  # 20 messages, twice or thrice, and not 140 beats
    assert sum(len(request.json["Entries"]) for request in extensions) >= 40
    queue.ack(receipts)
    sqs.until(lambda: not any(queue.depths()[TaskPriority.NORMAL]))


def test_what_nobody_extends_comes_back_and_its_receipt_is_stale(
    make_queue: MakeQueue, proxy: AwsProxy
) -> None:
    queue = make_queue(visibility_timeout_seconds=1, serves=[TaskPriority.NORMAL])
    queue.enqueue(messages("t1"))
    [first] = take(queue)
    [again] = take(queue)
    assert (again.task_id, again.receive_count) == ("t1", 2)
    queue.ack([first.receipt])
    queue.nack([again.receipt])
    assert ids(take(queue)) == ["t1"]


def test_what_nobody_here_wants_any_more_goes_back_for_other_workers(
    make_queue: MakeQueue,
) -> None:
    """Two polls were under way when one message sufficed: the other is not kept from an idle worker."""
    busy, idle = make_queue(), make_queue()
    waiting = Call(lambda: busy.dequeue(max_messages=1, timeout_seconds=60))
    sqs.until(lambda: busy.depths() is not None)
    sent = [message("a", priority=0), message("b", priority=3)]
    busy.enqueue(sent)
    [mine] = waiting.result()
    [other] = {"a", "b"} - {mine.task_id}
    assert ids(take(idle)) == [other]


def test_what_those_who_wait_exclude_makes_room_for_others(
    make_queue: MakeQueue, proxy: AwsProxy
) -> None:
    """More of it than fits into the buffer; behind it something that may run."""
    queue = make_queue(serves=[TaskPriority.NORMAL], park_seconds=30.0)
    queue.enqueue(messages(*(f"t{n}" for n in range(70))))
    queue.enqueue([message("runs", task="report")])
    [found] = queue.dequeue(max_messages=4, timeout_seconds=60, selector=WITHOUT_ECHO)
    assert found.task_id == "runs"
    back = [
        entry["VisibilityTimeout"]
        for request in proxy.of("ChangeMessageVisibilityBatch")
        for entry in request.json["Entries"]
    ]
    assert back
    assert all(15 <= seconds <= 30 for seconds in back)  # not to be received again at once


def test_a_graceful_stop_makes_what_is_held_visible_at_once_and_sends_the_acks(
    make_queue: MakeQueue, proxy: AwsProxy, ministack_url: str, names: QueueNames
) -> None:
    queue = make_queue(serves=[TaskPriority.NORMAL])
    queue.enqueue(messages(*(f"t{n}" for n in range(12))))
    # All in the buffer, where nobody accepts them; then one is handed out, and one is done.
    waiting = Call(
        lambda: queue.dequeue(max_messages=12, timeout_seconds=60, selector=WITHOUT_ECHO)
    )
    sqs.until(lambda: queue.depths()[TaskPriority.NORMAL].in_flight == 12)
    queue.wake()
    assert waiting.result() == []
    done, _ = take(queue, 2, most=2)
    queue.ack([done.receipt])
    queue.close()
    left = sqs.receive(ministack_url, names.name(TaskPriority.NORMAL), wait_seconds=5)
    while len(left) < 11:  # a poll of the closed queue may have caught some, and gives them back
        more = sqs.receive(ministack_url, names.name(TaskPriority.NORMAL), wait_seconds=5)
        assert more
        left += more
    assert len({entry["Body"] for entry in left}) == 11
    assert not any(done.task_id in entry["Body"].split('"') for entry in left)


def test_dead_letters_carry_the_reason_and_are_gone_from_their_queue(
    queue: SQSTaskQueue, ministack_url: str, names: QueueNames, events: Events
) -> None:
    queue.enqueue([message("t1", tenant_id="acme", priority=1)._replace(traceparent=TRACEPARENT)])
    queue.dead_letter([take(queue)[0].receipt], "no such tenant:\x00 acme")
    [letter] = sqs.receive(ministack_url, names.dead_name(TaskPriority.HIGH), wait_seconds=5)
    assert '"task_id":"t1"' in letter["Body"]
    assert TRACEPARENT in letter["Body"]
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert attributes == {
        "reason": "no such tenant:? acme",
        "priority": "high",
        "tenant": "acme",
        "task": "echo",
        "traceparent": TRACEPARENT,
    }
    sqs.until(lambda: not any(queue.depths()[TaskPriority.HIGH]))
    [line] = events("message.dead_lettered")
    assert (line["task_id"], line["level"]) == ("t1", "ERROR")


UNDECODABLE = [
    ("hello", "the body is not JSON"),
    ("[1]", "the body is not a JSON object"),
    ('{"v":99,"task_id":"t"}', "version 99"),
    ('{"v":1,"task_id":"t","tenant_id":"a","task":"x","priority":7}', "no priority 7"),
    ('{"v":1,"tenant_id":"a","task":"x","priority":2}', "task_id is None"),
]


@pytest.mark.parametrize(("body", "reason"), UNDECODABLE)
def test_a_message_that_is_not_ours_goes_to_the_dead_letter_queue_with_the_reason(
    make_queue: MakeQueue, ministack_url: str, names: QueueNames, events: Events,
    body: str, reason: str,
) -> None:  # fmt: skip
    queue = make_queue(serves=[TaskPriority.NORMAL])
    client = sqs.clients(ministack_url).calls
    url = names.url(client, names.name(TaskPriority.NORMAL))
    sent = client.send_message(QueueUrl=url, MessageBody=body)
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    [letter] = sqs.receive(ministack_url, names.dead_name(TaskPriority.NORMAL), wait_seconds=10)
    assert letter["Body"] == body
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert reason in attributes["reason"]
    assert attributes["message_id"] == sent["MessageId"]
    sqs.until(lambda: events("message.dead_lettered"))
    assert reason in events("message.dead_lettered")[0]["reason"]
    queue.enqueue(messages("t1"))
    assert ids(waiting.result()) == ["t1"]


def test_large_messages_that_are_not_ours_are_put_away_once_though_sqs_fails_in_between(
    proxy: AwsProxy, make_queue: MakeQueue, names: QueueNames, ministack_url: str, events: Events
) -> None:
    """Of four only two fit into a request; the second request is refused."""
    client = sqs.clients(ministack_url).calls
    url = names.url(client, names.name(TaskPriority.NORMAL))
    for n in range(4):
        client.send_message(QueueUrl=url, MessageBody=f"{n}" + 400_000 * "x")
    queue = make_queue(serves=[TaskPriority.NORMAL])

    def refuse_second(request: Request) -> Answer | None:
        asked = request.operation == "SendMessageBatch" and proxy.counts["SendMessageBatch"]
        return Answer.error("AccessDenied") if asked == 2 else None

    with proxy.intercepting(refuse_second):
        waiting = Call(lambda: queue.dequeue(max_messages=10, timeout_seconds=60))
        sqs.until(lambda: len(events("message.dead_lettered")) >= 4)
        sqs.until(lambda: not any(queue.depths()[TaskPriority.NORMAL]))
    queue.wake()
    assert waiting.result() == []
    letters = sqs.receive(ministack_url, names.dead_name(TaskPriority.NORMAL))
    assert sorted(letter["Body"][0] for letter in letters) == ["0", "1", "2", "3"]


def test_a_missing_dead_letter_queue_loses_nothing(
    make_queue: MakeQueue, ministack_url: str, names: QueueNames, events: Events
) -> None:
    queue = make_queue(serves=[TaskPriority.NORMAL])
    client = sqs.clients(ministack_url).calls
    dead = names.dead_name(TaskPriority.NORMAL)
    client.delete_queue(QueueUrl=names.url(client, dead))
    queue.enqueue(messages("t1"))
    queue.dead_letter([take(queue)[0].receipt], "of no use")
    sqs.until(lambda: events("queue.dead_letter_failed"))
    assert events("queue.dead_letter_failed")[0]["reason"] == "queue_missing"
    client.create_queue(QueueName=dead)
    sqs.until(lambda: events("message.dead_lettered"))
    assert len(sqs.receive(ministack_url, dead, wait_seconds=5)) == 1


def test_a_process_that_ends_waits_for_its_polls_and_gives_back_what_they_bring(
    ministack_url: str, names: QueueNames
) -> None:
    """An idle worker is told to stop; a task comes before its long poll has ended. It is not hidden from others."""
    program = textwrap.dedent(
        """
        import sys
        from taskflow.bootstrap import build_clock, build_queue
        from taskflow.settings import load

        settings = load(queue_backend="sqs", queue_prefix=sys.argv[1], queue_poll_seconds=3)
        queue = build_queue(settings, build_clock(), works=True)
        queue.dequeue(max_messages=1, timeout_seconds=0.5)
        queue.close()
        print("closed", flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, names.name(0).rpartition("-")[0]],
        env={**os.environ, **aws.environment(ministack_url)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "closed\n"
        sender = sqs.queue(ministack_url, names, serves=[])
        sender.enqueue(messages("t1"))
        assert process.wait(30) == 0
        found = sqs.receive(ministack_url, names.name(TaskPriority.NORMAL), wait_seconds=5)
        assert len(found) == 1
        sender.close()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
