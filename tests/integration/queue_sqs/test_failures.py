"""SQS refuses, is away, or its receivers die: each said clearly, none of it the end."""

from __future__ import annotations

import ctypes
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.queue.sqs.client import sqs_clients
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.queue import SQSTaskQueue
from taskflow.core.errors import QueueUnavailableError
from taskflow.core.task import TaskPriority
from taskflow.testing import FakeClock
from tests.contract.queue.harness import Call, ids, message, messages
from tests.integration.queue_sqs.conftest import Events, MakeQueue, take
from tests.support import aws, sqs
from tests.support.aws_proxy import Answer, AwsProxy, Request

COMPLAINTS = [
    ("AWS.SimpleQueueService.NonExistentQueue", 400, "queue_missing", "taskflow provision"),
    ("QueueDoesNotExist", 400, "queue_missing", "taskflow provision"),
    ("ThrottlingException", 400, "throttled", "slow down"),
    ("RequestThrottled", 403, "throttled", "slow down"),
    ("AccessDeniedException", 400, "access_denied", "sqs:SendMessage"),
    ("KMS.AccessDeniedException", 400, "access_denied", "the use of its KMS key"),
    ("KMS.DisabledException", 400, "access_denied", "the use of its KMS key"),
    ("KMS.ThrottlingException", 400, "throttled", "slow down"),
    ("ExpiredTokenException", 400, "credentials", "does not take the credentials"),
    ("InvalidClientTokenId", 403, "credentials", "does not take the credentials"),
    ("OverLimit", 403, "in_flight_limit", "in flight"),
    ("InternalFailure", 500, "unavailable", "InternalFailure"),
    ("InvalidParameterValue", 400, "refused", "InvalidParameterValue"),
]


@pytest.mark.parametrize(("code", "status", "reason", "words"), COMPLAINTS)
def test_what_cannot_be_sent_is_returned_with_the_reason(
    proxy: AwsProxy, queue: SQSTaskQueue, events: Events,
    code: str, status: int, reason: str, words: str,
) -> None:  # fmt: skip
    with proxy.failing("SendMessageBatch", code, status=status):
        [failure] = queue.enqueue(messages("t1"))
    assert failure.reason.startswith(f"{reason}: ")
    assert words in failure.reason
    [line] = events("queue.send_failed")
    assert (line["reason"], line["level"]) == (reason, "WARNING")
    assert line["retry_in_seconds"] > 0


@pytest.mark.parametrize(("code", "status", "reason", "words"), COMPLAINTS)
def test_what_cannot_be_received_is_logged_and_tried_again_later_and_later(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events,
    code: str, status: int, reason: str, words: str,
) -> None:  # fmt: skip
    queue = make_queue(serves=[TaskPriority.NORMAL])
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    with proxy.failing("ReceiveMessage", code, status=status):
        sqs.until(lambda: len(events("queue.receive_failed")) >= 2)
    first, second, *_ = events("queue.receive_failed")
    assert {line["reason"] for line in (first, second)} == {reason}
    assert words in first["error"]
    assert first["queue"].endswith("-normal")
    assert 0.25 <= first["retry_in_seconds"] <= 0.5 <= second["retry_in_seconds"] <= 1.0
    queue.enqueue(messages("t1"))
    assert ids(waiting.result()) == ["t1"]
    assert events("queue.receive_recovered")


def test_credentials_that_are_renewed_too_late_are_said_and_end_no_thread(
    proxy: AwsProxy,
    names: QueueNames,
    events: Events,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a role whose credentials come from a program, or from a container whose clock is wrong."""
    for name, value in aws.environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    given, config = tmp_path / "credentials.json", tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat {given}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    def give(until: str) -> None:
        whole = {"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing"}
        given.write_text(json.dumps(whole | {"SessionToken": "testing", "Expiration": until}))

    give("2020-01-01T00:00:00Z")
    queue = SQSTaskQueue(
        sqs_clients(region=aws.REGION),
        names,
        visibility_timeout_seconds=30,
        serves=[TaskPriority.NORMAL],
        wait_seconds=1,
    )
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    [failure] = queue.enqueue(messages("t1"))
    assert failure.reason.startswith("credentials: the AWS credentials have expired")
    with pytest.raises(QueueUnavailableError, match="expired"):
        queue.depths()
    sqs.until(lambda: len(events("queue.receive_failed")) >= 2)
    assert {line["reason"] for line in events("queue.receive_failed")} == {"credentials"}
    assert events("queue.thread_died") == []
    give("2100-01-01T00:00:00Z")
    sqs.until(lambda: queue.enqueue(messages("t1")) == [])
    assert ids(waiting.result()) == ["t1"]
    queue.close()


def test_a_missing_queue_is_named_and_found_once_it_is_there(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events, ministack_url: str
) -> None:
    names = QueueNames("not-provisioned-yet")
    queue = make_queue(names=names, serves=[TaskPriority.HIGH])
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    sqs.until(lambda: events("queue.receive_failed"))
    line = events("queue.receive_failed")[0]
    assert (line["queue"], line["reason"]) == ("not-provisioned-yet-high", "queue_missing")
    assert "taskflow provision" in line["error"]
    with pytest.raises(QueueUnavailableError, match="not-provisioned-yet-critical"):
        queue.depths()
    [failure] = queue.enqueue([message("t1", priority=1)])
    assert failure.reason.startswith("queue_missing: ")
    sqs.clients(ministack_url).calls.create_queue(QueueName="not-provisioned-yet-high")
    sqs.until(lambda: queue.enqueue([message("t1", priority=1)]) == [])
    assert ids(waiting.result()) == ["t1"]


def test_an_unreachable_sqs_holds_nobody_up_and_is_found_again(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events
) -> None:
    # Short: the emulator may give the message to the poll that was cut, which AWS would know to be gone.
    queue = make_queue(serves=[TaskPriority.NORMAL], visibility_timeout_seconds=2)
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    sqs.until(lambda: proxy.counts["ReceiveMessage"])
    with proxy.unreachable():
        [failure] = queue.enqueue(messages("t1"))
        assert failure.reason.startswith("unreachable: SQS does not answer")
        assert len(queue.enqueue(messages(*(f"t{n}" for n in range(100))))) == 100
        assert len(events("queue.send_failed")) <= 4  # for eleven batches: it was left alone
        sqs.until(lambda: events("queue.receive_failed"))
    assert events("queue.receive_failed")[0]["reason"] == "unreachable"
    sqs.until(lambda: queue.enqueue(messages("t1")) == [])
    assert events("queue.send_recovered")
    assert ids(waiting.result()) == ["t1"]


@pytest.mark.parametrize("priority", [1, 2])
def test_an_sqs_that_hangs_holds_up_one_call_and_then_none_for_as_long(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events, priority: int
) -> None:
    """Nor for another of its queues."""
    clock = FakeClock()
    queue = make_queue(monotonic=clock.monotonic)
    queue.enqueue([message("t0", priority=1), message("t0", priority=priority)])
    proxy.forget()
    with proxy.hanging("SendMessageBatch") as let_go:
        first = Call(lambda: queue.enqueue([message("t1", priority=1)]))
        sqs.until(lambda: proxy.counts["SendMessageBatch"])
        clock.advance(2.0)
        [refused] = queue.enqueue([message("t2", priority=1)])
        assert refused.reason == "unreachable: SQS has not answered for 2.0 s"
        clock.advance(13.0)
        let_go.set()  # the connection ends without an answer
        [failure] = first.result()
    assert failure.message.task_id == "t1"
    [line] = events("queue.send_failed")
    assert (line["reason"], line["retry_in_seconds"]) == ("unreachable", 15.0)
    clock.advance(14.5)
    [refused] = queue.enqueue([message("t2", priority=priority)])
    assert refused.reason == failure.reason
    clock.advance(0.5)
    assert queue.enqueue([message("t2", priority=priority)]) == []
    assert events("queue.send_recovered")


@pytest.mark.parametrize("operation", ["ChangeMessageVisibilityBatch", "DeleteMessageBatch"])
def test_an_sqs_that_hangs_keeps_no_worker_waiting(
    proxy: AwsProxy, make_queue: MakeQueue, operation: str
) -> None:
    """Else its next heartbeat would be late, and its leases would run out."""
    queue = make_queue(serves=[TaskPriority.NORMAL])
    queue.enqueue(messages("a", "b", "c", "d"))
    a, b, c, d = (delivery.receipt for delivery in take(queue, 4))
    with proxy.hanging(operation):
        (queue.nack if operation.startswith("Change") else queue.ack)([a])
        sqs.until(lambda: proxy.counts[operation])
        Call(lambda: queue.extend([b, c, d], 0.0)).result()
        Call(lambda: queue.ack([b])).result()
        Call(lambda: queue.nack([c])).result()
        Call(lambda: queue.dead_letter([d], "of no use")).result()
        assert proxy.counts[operation] == 1


def test_a_queue_that_refuses_keeps_nobody_from_the_others(
    proxy: AwsProxy, make_queue: MakeQueue
) -> None:
    queue = make_queue(monotonic=FakeClock().monotonic)
    with proxy.failing("SendMessageBatch", "AccessDenied"):
        assert len(queue.enqueue([message("t1", priority=1)])) == 1
    both = [message("t1", priority=1), message("t2", priority=2)]
    assert [refused.message.task_id for refused in queue.enqueue(both)] == ["t1"]


def test_entries_that_sqs_fails_to_take_are_tried_again_by_themselves(
    proxy: AwsProxy, queue: SQSTaskQueue
) -> None:
    """Of ten, the fourth fails twice for SQS's sake, the sixth for its own."""
    tries: list[list[str]] = []

    def partly(request: Request) -> Answer | None:
        if request.operation != "SendMessageBatch":
            return None
        entries = request.json["Entries"]
        tries.append([entry["Id"] for entry in entries])
        answer = proxy.forward(request)
        failed = {"5": True} if len(tries) == 1 else {}
        if len(tries) <= 2:
            failed["3"] = False
        value = answer.json
        value["Successful"] = [s for s in value["Successful"] if s["Id"] not in failed]
        value["Failed"] = [
            {"Id": id_, "SenderFault": fault, "Code": "Whatever", "Message": f"number {id_}"}
            for id_, fault in failed.items()
        ]
        return Answer.of(value)

    with proxy.intercepting(partly):
        failures = queue.enqueue(messages(*(f"t{n}" for n in range(10))))
    assert tries == [[str(n) for n in range(10)], ["3"], ["3"]]
    assert [(f.message.task_id, f.reason) for f in failures] == [
        ("t5", "refused: Whatever: number 5")
    ]


def test_an_entry_that_sqs_never_takes_is_returned(proxy: AwsProxy, queue: SQSTaskQueue) -> None:
    def never(request: Request) -> Answer | None:
        if request.operation != "SendMessageBatch":
            return None
        entries = request.json["Entries"]
        said: dict[str, Any] = {"SenderFault": False, "Code": "InternalError", "Message": "no"}
        return Answer.of({"Successful": [], "Failed": [{"Id": e["Id"], **said} for e in entries]})

    with proxy.intercepting(never):
        [failure] = queue.enqueue(messages("t1"))
    assert failure.reason == "unavailable: InternalError: no"
    assert proxy.counts["SendMessageBatch"] == 3


def test_an_entry_whose_second_try_fails_takes_none_of_the_others_with_it(
    proxy: AwsProxy, queue: SQSTaskQueue
) -> None:
    """They have been sent: they are not to be sent again."""

    def partly(request: Request) -> Answer | None:
        if request.operation != "SendMessageBatch":
            return None
        if proxy.counts["SendMessageBatch"] > 1:
            return Answer.error("AccessDenied")
        answer = proxy.forward(request).json
        said: dict[str, Any] = {"SenderFault": False, "Code": "InternalError", "Message": "no"}
        answer["Successful"] = [entry for entry in answer["Successful"] if entry["Id"] != "1"]
        return Answer.of(answer | {"Failed": [{"Id": "1", **said}]})

    with proxy.intercepting(partly):
        failures = queue.enqueue(messages("t0", "t1", "t2"))
    assert [failure.message.task_id for failure in failures] == ["t1"]


@pytest.mark.parametrize(
    "code", ["ReceiptHandleIsInvalid", "AWS.SimpleQueueService.MessageNotInflight"]
)
def test_a_stale_receipt_is_not_asked_about_again(
    proxy: AwsProxy, queue: SQSTaskQueue, events: Events, code: str
) -> None:
    queue.enqueue(messages("a", "b"))
    stale, kept = take(queue, 2)

    def one_is_stale(request: Request) -> Answer | None:
        if request.operation != "DeleteMessageBatch":
            return None
        entries = request.json["Entries"]
        failed = [e["Id"] for e in entries if e["ReceiptHandle"] == stale.receipt]
        said: dict[str, Any] = {"SenderFault": True, "Code": code, "Message": "it is"}
        return Answer.of(
            {
                "Successful": [{"Id": e["Id"]} for e in entries if e["Id"] not in failed],
                "Failed": [{"Id": id_, **said} for id_ in failed],
            }
        )

    with proxy.intercepting(one_is_stale):
        queue.ack([stale.receipt, kept.receipt])
        queue.close()
    assert proxy.counts["DeleteMessageBatch"] == 1
    assert events("queue.delete_failed") == []


def test_deletes_that_fail_are_tried_again(
    proxy: AwsProxy, queue: SQSTaskQueue, events: Events
) -> None:
    queue.enqueue(messages("t1"))
    [delivery] = take(queue)
    with proxy.failing("DeleteMessageBatch", "ServiceUnavailable", status=503):
        queue.ack([delivery.receipt])
        sqs.until(lambda: events("queue.delete_failed"))
    sqs.until(lambda: not any(queue.depths()[TaskPriority.NORMAL]))
    assert events("queue.delete_failed")[0]["reason"] == "unavailable"


def test_a_receiver_that_dies_is_replaced_and_that_is_said(
    make_queue: MakeQueue, names: QueueNames, proxy: AwsProxy, events: Events
) -> None:
    """A thread really ends, as by an error nobody thought of."""
    queue = make_queue(serves=[TaskPriority.NORMAL])
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    sqs.until(lambda: proxy.counts["ReceiveMessage"])
    name = f"taskflow-sqs-{names.name(TaskPriority.NORMAL)}"
    [first] = [thread for thread in threading.enumerate() if thread.name == name]
    assert first.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(first.ident), ctypes.py_object(SystemExit)
    )
    sqs.until(lambda: events("queue.thread_restarted"))
    assert not first.is_alive()
    assert events("queue.thread_died")[0]["thread"] == name
    assert events("queue.thread_restarted")[0] == {"thread": name, "level": "ERROR"}
    queue.enqueue(messages("t1"))
    assert ids(waiting.result()) == ["t1"]


def test_depths_are_asked_for_once_in_a_while_however_many_want_them(
    proxy: AwsProxy, make_queue: MakeQueue
) -> None:
    queue = make_queue(depths_cache_seconds=60.0)
    calls = [Call(queue.depths) for _ in range(8)]
    assert all(call.result() == queue.depths() for call in calls)
    assert proxy.counts["GetQueueAttributes"] == len(TaskPriority)


def test_depths_that_cannot_be_had_are_an_error_for_as_long(
    proxy: AwsProxy, make_queue: MakeQueue
) -> None:
    queue = make_queue(depths_cache_seconds=60.0)
    with proxy.failing("GetQueueAttributes", "AccessDeniedException"):
        for _ in range(3):
            with pytest.raises(QueueUnavailableError, match="access is denied"):
                queue.depths()
    assert proxy.counts["GetQueueAttributes"] == 1


def test_one_that_asks_for_depths_in_vain_keeps_no_others_waiting(
    proxy: AwsProxy, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    with proxy.hanging("GetQueueAttributes"):
        first = Call(queue.depths)
        sqs.until(lambda: proxy.counts["GetQueueAttributes"] == 1)
        with pytest.raises(QueueUnavailableError, match="has not answered"):
            queue.depths()
        assert first.running
    assert first.result() == queue.depths()


def test_while_it_is_throttled_a_worker_asks_no_more_than_now_and_then(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events
) -> None:
    queue = make_queue()
    started_at = time.monotonic()
    with proxy.failing("ReceiveMessage", "ThrottlingException"):
        waiting = Call(lambda: queue.dequeue(max_messages=4, timeout_seconds=60))
        sqs.until(lambda: len(events("queue.receive_failed")) >= 8)
        asked = proxy.counts["ReceiveMessage"]
    queue.wake()
    assert waiting.result() == []
    elapsed = time.monotonic() - started_at
    # Three tries a failure, and at least a quarter of a second between two failures of one of the four receivers.
    assert asked <= 4 * 3 * (elapsed / 0.25 + 1)


LATIN_PAGE = Answer(
    200,
    {"Content-Type": "text/html"},
    "<html>Bitte für dieses Netz anmelden</html>".encode("latin-1"),
)
PAGE = Answer(200, {"Content-Type": "text/html"}, b"<html>Please log in to this network</html>")


@pytest.mark.parametrize("operation", ["DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
def test_what_an_answer_does_not_speak_of_was_not_done(
    proxy: AwsProxy, queue: SQSTaskQueue, events: Events, operation: str
) -> None:
    deleted = operation == "DeleteMessageBatch"
    queue.enqueue(messages("t1"))
    [delivery] = take(queue)
    with proxy.intercepting(lambda asked: PAGE if asked.operation == operation else None):
        (queue.ack if deleted else queue.nack)([delivery.receipt])
        sqs.until(lambda: proxy.counts[operation])
    event = "queue.delete_failed" if deleted else "queue.visibility_failed"
    sqs.until(lambda: events(event))
    assert "is this SQS?" in events(event)[0]["error"]
    if deleted:
        sqs.until(lambda: not any(queue.depths()[TaskPriority.NORMAL]))
    else:
        assert ids(take(queue)) == ["t1"]


def test_what_an_answer_does_not_speak_of_was_not_sent(
    proxy: AwsProxy, queue: SQSTaskQueue, events: Events
) -> None:
    """Else the outbox would forget it."""
    with proxy.intercepting(lambda asked: PAGE if asked.operation == "SendMessageBatch" else None):
        [failure] = queue.enqueue(messages("t1"))
    assert "is this SQS?" in failure.reason
    assert events("queue.send_failed")
    assert queue.enqueue(messages("t1")) == []


def test_a_poll_that_does_not_wait_is_no_tight_loop(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events
) -> None:
    queue = make_queue(serves=[TaskPriority.NORMAL])
    with proxy.intercepting(lambda asked: PAGE if asked.operation == "ReceiveMessage" else None):
        waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
        sqs.until(lambda: len(events("queue.receive_failed")) >= 2)
    first, second, *_ = events("queue.receive_failed")
    assert "is this SQS?" in first["error"]
    assert 0.25 <= first["retry_in_seconds"] <= 0.5 <= second["retry_in_seconds"] <= 1.0
    queue.enqueue(messages("t1"))
    assert ids(waiting.result()) == ["t1"]
    assert events("queue.receive_recovered")


@pytest.mark.parametrize("answer", [PAGE, LATIN_PAGE, Answer.of({})])
def test_an_endpoint_that_is_not_sqs_is_named_and_ends_no_thread(
    proxy: AwsProxy, make_queue: MakeQueue, events: Events, ministack_url: str, answer: Answer
) -> None:
    """Whatever it is asked, from the first question on: which queue is where."""
    prefix = sqs.provisioned(ministack_url).name(TaskPriority.NORMAL).rpartition("-")[0]
    queue = make_queue(names=QueueNames(prefix), serves=[TaskPriority.NORMAL])
    with proxy.intercepting(lambda asked: answer):
        waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
        [failure] = queue.enqueue(messages("t1"))
        assert "is this SQS?" in failure.reason
        with pytest.raises(QueueUnavailableError, match="is this SQS"):
            queue.depths()
        sqs.until(lambda: len(events("queue.receive_failed")) >= 2)
    assert events("queue.thread_died") == []
    sqs.until(lambda: queue.enqueue(messages("t1")) == [])
    assert ids(waiting.result()) == ["t1"]


def test_depths_of_an_endpoint_that_is_not_sqs_are_an_error(
    proxy: AwsProxy, queue: SQSTaskQueue
) -> None:
    with (
        proxy.intercepting(lambda asked: PAGE if asked.operation == "GetQueueAttributes" else None),
        pytest.raises(QueueUnavailableError, match="is this SQS"),
    ):
        queue.depths()
