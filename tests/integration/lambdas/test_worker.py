"""The worker function on SQS events, over Lambda's runtime protocol."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskflow.core.registry import TaskOptions
from tests.integration.lambdas.conftest import Cloud, eventually
from tests.support.lambda_runtime import FunctionCrashedError, FunctionError, LambdaFunction

pytestmark = pytest.mark.xdist_group("lambdas-worker")  # they share a cloud and functions


def test_a_batch_of_tasks_is_run_and_forgotten(cloud: Cloud, worker: LambdaFunction) -> None:
    tasks = [cloud.submit("lambda_echo", {"n": n}) for n in range(10)]
    source = cloud.source()
    records = source.receive(10)
    assert len(records) == 10
    assert source.invoke(worker, records) == []
    assert [cloud.get(task).result for task in tasks] == [{"n": n} for n in range(10)]
    assert cloud.waiting() == (0, 0)
    assert cloud.count("outbox") == 0


def test_attempts_of_every_kind_end_as_in_any_worker(cloud: Cloud, worker: LambdaFunction) -> None:
    tasks = {
        "raise": cloud.submit("lambda_raise", "no"),
        "endless": cloud.submit("lambda_endless"),
        "exit": cloud.submit("lambda_exit"),
        "stuck": cloud.submit("lambda_stuck"),
        "print": cloud.submit("lambda_print", 3),
        "async": cloud.submit("lambda_async", 41),
        "process": cloud.submit("lambda_process", 7),
        "echo": cloud.submit("lambda_echo", "still here"),
    }
    source = cloud.source()
    assert source.invoke(worker, source.receive(8)) == []
    found = {name: cloud.get(task_id) for name, task_id in tasks.items()}
    assert {name: task.status.value for name, task in found.items()} == {
        "raise": "failed", "endless": "failed", "exit": "failed", "stuck": "failed",
        "print": "completed", "async": "completed", "process": "completed", "echo": "completed",
    }  # fmt: skip
    errors = {name: task.error.type for name, task in found.items() if task.error is not None}
    assert errors == {
        "raise": "Reject",
        "endless": "AttemptTimeoutError",
        "exit": "HandlerExitedError",
        "stuck": "AttemptTimeoutError",
    }
    assert found["async"].result == 42
    assert found["print"].result == 3
    assert isinstance(found["process"].result, list)
    assert found["process"].result[0] == 7
    assert worker.process is not None
    assert worker.process.poll() is None  # nothing of it has ended the function
    assert cloud.waiting() == (0, 0)


def test_a_task_that_nobody_here_knows_stays_alone_in_the_queue(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    cloud.runtime.registry.add(lambda: None, name="lambda_elsewhere", declared=TaskOptions())
    unknown, known = cloud.submit("lambda_elsewhere"), cloud.submit("lambda_echo", 1)
    source = cloud.source()
    records = source.receive(2)
    kept = source.invoke(worker, records)
    [record] = [r for r in records if json.loads(r["body"])["task_id"] == unknown]
    assert kept == [record["messageId"]]
    assert cloud.status(unknown, known) == ["pending", "completed"]
    assert cloud.waiting() == (0, 1)  # it comes back, but not at once
    source.settle([record], {"batchItemFailures": []})


def test_a_task_delivered_twice_runs_once(
    cloud: Cloud, worker: LambdaFunction, tmp_path: Path
) -> None:
    task = cloud.submit("lambda_mark", str(tmp_path), "twice")
    source = cloud.source()
    [record] = source.receive(1)
    twin = {**record, "messageId": "a-copy", "receiptHandle": "another"}
    answer = worker.invoke({"Records": [record, twin, record]})
    assert answer == {"batchItemFailures": []}
    assert worker.invoke({"Records": [twin]}) == {"batchItemFailures": []}  # finished by now
    assert (tmp_path / "twice").read_text() == "ran\n"
    assert cloud.history(task) == ["submitted", "started", "completed"]
    source.settle([record], answer)


def test_messages_of_cancelled_and_unknown_tasks_are_forgotten(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    cancelled = cloud.submit("lambda_echo")
    cloud.runtime.tasks.cancel("default", cancelled)
    source = cloud.source()
    [record] = source.receive(1)
    body = json.loads(record["body"]) | {"task_id": "01890000-0000-7000-8000-000000000000"}
    unknown = {**record, "messageId": "u", "receiptHandle": "u", "body": json.dumps(body)}
    answer = worker.invoke({"Records": [record, unknown]})
    assert answer == {"batchItemFailures": []}
    source.settle([record], answer)
    assert cloud.status(cancelled) == ["cancelled"]


def test_what_cannot_be_decoded_goes_to_the_dead_letters_with_the_reason(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    source, dead = cloud.source(), cloud.source(dead=True)
    source.send("not one of ours")
    source.send(json.dumps({"v": 99}))
    good = cloud.submit("lambda_echo", "beside them")
    ours = {"v": 1, "tenant_id": "default", "task": "lambda_echo", "priority": 2}
    no_id = json.dumps(ours | {"task_id": "t1"})
    no_tenant = json.dumps(ours | {"task_id": good, "tenant_id": "a\0b"})
    source.send(no_id)
    source.send(no_tenant)
    assert source.invoke(worker, source.receive(5)) == []
    assert cloud.status(good) == ["completed"]
    found = {r["body"]: r["messageAttributes"]["reason"]["stringValue"] for r in dead.receive(4)}
    assert "is not JSON" in found["not one of ours"]
    assert "version 99" in found['{"v": 99}']
    assert found[no_id] == found[no_tenant] == "it names no task"
    assert len(worker.lines("message.undecodable")) == 4
    assert cloud.waiting() == (0, 0)


def test_undecodable_messages_stay_when_there_is_no_dead_letter_queue(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    queue = f"{cloud.runtime.settings.queue_prefix}-orphan"
    cloud.sqs.create_queue(QueueName=queue)
    source = cloud.source("orphan")
    source.send("?")
    [record] = source.receive(1)
    assert source.invoke(worker, [record]) == [record["messageId"]]


def test_a_retry_is_a_new_message_and_the_old_one_is_done(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    task = cloud.submit("lambda_retry")
    source = cloud.source()
    assert source.invoke(worker, source.receive(1)) == []
    assert cloud.get(task).failure_count == 1
    source.drain(worker)
    failed = cloud.get(task)
    assert (failed.status, failed.failure_count) == ("failed", 4)
    assert cloud.count("outbox") == 0


def test_released_dependents_are_sent_before_the_function_is_frozen(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    parent = cloud.submit("lambda_echo", 1)
    child = cloud.submit("lambda_echo", 2, depends_on=[parent])
    source = cloud.source()
    [record] = source.receive(1)
    assert source.invoke(worker, [record]) == []
    assert cloud.count("outbox") == 0
    source.drain(worker)
    assert cloud.status(parent, child) == ["completed", "completed"]


def test_large_arguments_and_results_go_by_s3(cloud: Cloud, worker: LambdaFunction) -> None:
    task = cloud.submit("lambda_echo", "ü" * 100_000)
    cloud.source().drain(worker)
    assert cloud.get(task).result == "ü" * 100_000


def test_suspects_are_run_one_after_the_other_in_one_invocation(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    tasks = [cloud.submit("lambda_echo", n) for n in range(6)]
    for task in tasks:
        cloud.execute("UPDATE tasks SET crash_count = 1 WHERE id = :id", id=task)
    source = cloud.source()
    assert source.invoke(worker, source.receive(6)) == []
    assert set(cloud.status(*tasks)) == {"completed"}


def test_tasks_behind_an_open_breaker_come_back_later(cloud: Cloud) -> None:
    worker = cloud.function("worker", breaker_failures=1, num_workers=1, breaker_open_seconds=600)
    broken = cloud.submit("lambda_behind_a_breaker", False, priority="critical")
    first = cloud.source("critical").receive(1)
    waits = cloud.submit("lambda_behind_a_breaker", True)
    source = cloud.source()
    [record] = source.receive(1)
    answer = worker.invoke({"Records": [*first, record]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    assert cloud.status(broken, waits) == ["failed", "pending"]
    cloud.source("critical").settle(first, {"batchItemFailures": []})
    assert source.invoke(worker, [record]) == []  # a circuit lives as long as an invocation
    assert cloud.status(waits) == ["completed"]


# --- time -----------------------------------------------------------------------------------------


def test_what_does_not_fit_into_the_remaining_time_is_given_back_at_once(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    worker.invoke({"Records": []})  # has seen a whole invocation
    task, short = (
        cloud.submit("lambda_echo", "later"),
        cloud.submit("lambda_echo", "now", timeout=3),
    )
    source = cloud.source()
    assert source.invoke(worker, source.receive(2), timeout_seconds=10) == []
    assert cloud.status(task, short) == ["pending", "completed"]
    assert cloud.get(task).attempt == 0
    assert cloud.waiting() == (1, 0)  # its new message
    source.drain(worker)
    assert cloud.get(task).result == "later"


def test_the_longest_timeout_that_fits_into_the_function_is_no_second_less(cloud: Cloud) -> None:
    worker = cloud.function("worker", timeout_seconds=20)
    task = cloud.submit("lambda_echo", timeout=20 - 2 - 2)  # the margin, and what starting may take
    source = cloud.source()
    assert source.invoke(worker, source.receive(1)) == []
    assert cloud.status(task) == ["completed"]


def test_what_could_never_fit_is_refused_with_a_sentence(cloud: Cloud) -> None:
    worker = cloud.function("worker", timeout_seconds=10)
    task = cloud.submit("lambda_echo", timeout=900)
    source = cloud.source()
    assert source.invoke(worker, source.receive(1)) == []
    error = cloud.get(task).error
    assert error is not None
    assert error.type == "TimeoutTooLongError"
    assert error.classification == "permanent"
    assert "its timeout of 900 s is longer" in error.message
    assert cloud.history(task) == ["submitted", "started", "failed"]


def test_a_function_shorter_than_its_margin_starts_nothing_and_says_why(cloud: Cloud) -> None:
    worker = cloud.function("worker")
    worker.invoke({"Records": []})
    tasks = [cloud.submit("lambda_echo") for _ in range(3)]
    source = cloud.source()
    records = source.receive(3)
    kept = source.invoke(worker, records, timeout_seconds=1.5)  # less than the margin
    assert sorted(kept) == sorted(record["messageId"] for record in records)
    assert set(cloud.status(*tasks)) == {"pending"}
    assert {tuple(cloud.history(task)) for task in tasks} == {("submitted",)}
    assert cloud.waiting() == (0, 3)  # later: at once would be in vain again
    [said] = worker.lines("lambda.not_ready")
    assert "TASKFLOW_LAMBDA_MARGIN_SECONDS keeps 2" in said["error"]


def test_a_function_that_may_run_nothing_at_once_says_so_at_its_start(cloud: Cloud) -> None:
    """Else each of its invocations would wait to its end, and the messages be there again at once."""
    worker = cloud.function("worker", num_workers=0)
    with pytest.raises(FunctionError, match="TASKFLOW_NUM_WORKERS"):
        worker.invoke({"Records": []})


def test_a_killed_function_loses_nothing(cloud: Cloud, tmp_path: Path) -> None:
    worker, maintenance = cloud.function("worker"), cloud.function("maintenance")
    (tmp_path / "hold").touch()
    task = cloud.submit("lambda_mark", str(tmp_path), "killed")
    source = cloud.source()
    [record] = source.receive(1)
    invocation = worker.begin({"Records": [record]})
    mark = tmp_path / "killed"
    eventually(lambda: mark.exists() and mark.read_text() == "ran\n")
    worker.kill()
    with pytest.raises(FunctionCrashedError):
        invocation.result(30)
    assert cloud.status(task) == ["running"]
    (tmp_path / "hold").unlink()

    again: dict[str, Any] = {}
    eventually(lambda: again.update(maintenance.invoke({})) or again["recovered"] == 1)
    assert cloud.status(task) == ["pending"]
    source.drain(worker)
    done = cloud.get(task)
    assert (done.status, done.crash_count, done.attempt) == ("completed", 1, 2)
    assert mark.read_text() == "ran\nran\n"
    assert source.invoke(worker, [record]) == []  # the first message comes back, late
    assert mark.read_text() == "ran\nran\n"


def test_a_message_that_comes_back_while_its_task_runs_starts_nothing(
    cloud: Cloud, tmp_path: Path
) -> None:
    first, second = cloud.function("worker"), cloud.function("worker")
    (tmp_path / "hold").touch()
    task = cloud.submit("lambda_mark", str(tmp_path), "once")
    source = cloud.source()
    [record] = source.receive(1)
    invocation = first.begin({"Records": [record]})
    eventually(lambda: (tmp_path / "once").exists())
    twin = {**record, "messageId": "again", "receiptHandle": "again"}
    assert second.invoke({"Records": [twin]}) == {"batchItemFailures": []}
    (tmp_path / "hold").unlink()
    source.settle([record], invocation.result(60))
    assert (tmp_path / "once").read_text() == "ran\n"
    assert cloud.status(task) == ["completed"]


# --- the store ------------------------------------------------------------------------------------


def test_without_a_store_the_whole_batch_stays_and_nothing_is_raised(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    worker.invoke({"Records": []})  # warm, with a connection
    tasks = [cloud.submit("lambda_echo", n) for n in range(3)]
    source = cloud.source()
    records = source.receive(3)
    ids = sorted(record["messageId"] for record in records)
    cold = cloud.function("worker")
    with cloud.store_away():
        assert sorted(source.invoke(worker, records)) == ids
        assert sorted(source.invoke(cold, records)) == ids
        assert cold.lines("lambda.not_ready")
    assert cloud.waiting() == (0, 3)  # they come back later: at once would only be tried at once
    assert source.invoke(cold, records[:1]) == []
    assert source.invoke(worker, records[1:]) == []
    assert (cold.starts, worker.process is not None) == (1, True)
    assert set(cloud.status(*tasks)) == {"completed"}


def test_a_result_survives_an_absence_of_the_store(cloud: Cloud, tmp_path: Path) -> None:
    worker = cloud.function("worker", lease_seconds=60)
    (tmp_path / "hold").touch()
    task = cloud.submit("lambda_mark", str(tmp_path), "kept")
    source = cloud.source()
    [record] = source.receive(1)
    invocation = worker.begin({"Records": [record]})
    eventually(lambda: (tmp_path / "kept").exists())
    with cloud.store_away():
        (tmp_path / "hold").unlink()
        eventually(lambda: worker.lines("worker.finish_failed"))
    assert source.settle([record], invocation.result(60)) == []
    assert cloud.get(task).result == "kept"
    assert (tmp_path / "kept").read_text() == "ran\n"


def test_a_store_that_hangs_does_not_keep_the_function_from_answering_in_time(
    cloud: Cloud,
) -> None:
    worker = cloud.function("worker")
    worker.invoke({"Records": []})
    tasks = [cloud.submit("lambda_echo", n) for n in range(2)]
    source = cloud.source()
    records = source.receive(2)
    with cloud.runtime.database.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        kept = source.invoke(worker, records, timeout_seconds=8)
        assert sorted(kept) == sorted(record["messageId"] for record in records)
    assert worker.starts == 1
    assert worker.lines("lambda.worker_hangs")
    worker.kill()  # its claim, which comes through now, belongs to nobody
    maintenance, second = cloud.function("maintenance"), cloud.function("worker")
    eventually(
        lambda: (
            maintenance.invoke({})
            and source.drain(second) >= 0
            and set(cloud.status(*tasks)) == {"completed"}
        )
    )


def test_tasks_that_wait_for_payloads_are_given_back_before_the_function_ends(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers nothing
        port = silent.getsockname()[1]
        without_s3 = replace(
            cloud,
            environment=cloud.environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"},
        )
        stuck = without_s3.function("worker", timeout_seconds=14, lambda_margin_seconds=6)
        task = cloud.submit("lambda_echo", "x" * 100_000, timeout=2)
        source = cloud.source()
        assert source.invoke(stuck, source.receive(1)) == []
        assert not stuck.lines("lambda.worker_hangs")
    found = cloud.get(task)
    assert (found.status, found.attempt, found.crash_count) == ("pending", 0, 0)
    source.drain(worker)
    assert cloud.get(task).result == "x" * 100_000


def test_an_sqs_that_hangs_keeps_no_task_from_running_and_no_function_from_answering_in_time(
    cloud: Cloud,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers nothing
        port = silent.getsockname()[1]
        without_sqs = replace(
            cloud,
            environment=cloud.environment | {"AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{port}"},
        )
        worker = without_sqs.function("worker", timeout_seconds=10)
        source = cloud.source()
        source.send("not one of ours")
        task = cloud.submit("lambda_echo", "beside it", timeout=3)
        records = source.receive(2)
        kept = source.invoke(worker, records)
    assert kept == [
        record["messageId"] for record in records if record["body"] == "not one of ours"
    ]
    assert cloud.status(task) == ["completed"]
    assert worker.lines("queue.hangs")
    assert worker.starts == 1  # nobody had to kill it


def test_a_frozen_function_wakes_up_with_dead_connections(
    cloud: Cloud, worker: LambdaFunction
) -> None:
    for n in range(2):
        task = cloud.submit("lambda_echo", n)
        source = cloud.source()
        assert source.invoke(worker, source.receive(1)) == []
        assert cloud.get(task).result == n
        cloud.end_connections()


def test_one_connection_serves_all_threads(cloud: Cloud) -> None:
    worker = cloud.function("worker", num_workers=8)
    tasks = [cloud.submit("lambda_async", n) for n in range(40)]
    source = cloud.source()
    records = source.receive(40)
    invocation = worker.begin({"Records": records})
    seen = set()
    eventually(
        lambda: seen.add(cloud.connections("taskflow-worker%")) or not invocation.answer.empty()
    )
    assert source.settle(records, invocation.result(60)) == []
    assert set(cloud.status(*tasks)) == {"completed"}
    assert max(seen) <= 1


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        {},
        None,
        {"Records": None},
        {"Records": [None, {"eventSource": "aws:s3"}, {"eventSource": "aws:sqs"}]},
        {"detail-type": "Scheduled Event"},
    ],
)
def test_an_event_of_another_sort_is_logged_and_nothing_else(
    worker: LambdaFunction, event: Any
) -> None:
    before = len(worker.lines("lambda.not_an_sqs_event"))
    assert worker.invoke(event) == {"batchItemFailures": []}
    assert len(worker.lines("lambda.not_an_sqs_event")) == before + 1
