"""One tick of maintenance, over Lambda's runtime protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.lambdas.conftest import Cloud, eventually
from tests.support.lambda_runtime import FunctionCrashedError, FunctionError, LambdaFunction

pytestmark = pytest.mark.xdist_group("lambdas-maintenance")  # they share a cloud and functions


@pytest.fixture(scope="module")
def maintenance(cloud: Cloud) -> LambdaFunction:
    return cloud.function("maintenance")


def unsent(cloud: Cloud, count: int) -> list[str]:
    """Tasks whose messages are still in the outbox, as after a crash between commit and send."""
    tasks = [cloud.submit("lambda_echo", n, delay=1_200) for n in range(count)]
    assert cloud.count("outbox") == count
    cloud.execute("UPDATE outbox SET due_at = taskflow_now()")
    cloud.execute("UPDATE tasks SET run_at = taskflow_now() WHERE status = 'scheduled'")
    return tasks


def test_it_sends_what_waits_in_the_outbox(
    cloud: Cloud, maintenance: LambdaFunction, worker: LambdaFunction
) -> None:
    tasks = unsent(cloud, 25)
    assert maintenance.invoke({})["relayed"] == 25
    assert cloud.count("outbox") == 0
    assert cloud.waiting() == (25, 0)
    assert maintenance.invoke({})["relayed"] == 0
    cloud.source().drain(worker)
    assert set(cloud.status(*tasks)) == {"completed"}


def test_a_container_that_has_just_started_takes_over_in_its_first_tick(
    cloud: Cloud, worker: LambdaFunction, tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    task = cloud.submit("lambda_mark", str(tmp_path), "lost")
    source = cloud.source()
    doomed = cloud.function("worker")
    invocation = doomed.begin({"Records": source.receive(1)})
    eventually(lambda: (tmp_path / "lost").exists())
    doomed.kill()
    with pytest.raises(FunctionCrashedError):
        invocation.result(30)
    cloud.execute("UPDATE tasks SET lease_until = taskflow_now() - 1 WHERE id = :id", id=task)
    assert cloud.function("maintenance").invoke({})["recovered"] == 1
    (tmp_path / "hold").unlink()
    source.drain(worker)
    assert cloud.status(task) == ["completed"]
    assert cloud.history(task) == ["submitted", "started", "recovered", "started", "completed"]


def test_what_the_queues_have_lost_is_sent_again_when_asked_for(
    cloud: Cloud, maintenance: LambdaFunction, worker: LambdaFunction
) -> None:
    """After a restore of the database, or a queue that was deleted."""
    tasks = [cloud.submit("lambda_echo", n) for n in range(3)]
    cloud.sqs.purge_queue(QueueUrl=cloud.source().url)
    assert maintenance.invoke({"resend_after_seconds": 3_600})["resent"] == 0
    assert maintenance.invoke({"resend_after_seconds": 0})["resent"] == 3
    assert maintenance.invoke({})["relayed"] == 3
    cloud.source().drain(worker)
    assert set(cloud.status(*tasks)) == {"completed"}
    assert cloud.history(tasks[0]) == ["submitted", "resent", "started", "completed"]


@pytest.mark.parametrize("seconds", ["soon", -1, True, []])
def test_no_number_of_seconds_is_refused(maintenance: LambdaFunction, seconds: object) -> None:
    with pytest.raises(FunctionError, match=r"resend_after_seconds.*not a number of seconds"):
        maintenance.invoke({"resend_after_seconds": seconds})


def test_it_ends_what_has_waited_too_long(cloud: Cloud, maintenance: LambdaFunction) -> None:
    task = cloud.submit("lambda_echo", delay=600, expires_in=3_600)
    cloud.execute("UPDATE tasks SET expires_at = taskflow_now() - 1 WHERE id = :id", id=task)
    maintenance.invoke({})
    assert cloud.status(task) == ["expired"]


def test_it_deletes_what_is_old_with_its_payloads(cloud: Cloud, worker: LambdaFunction) -> None:
    old, waiting = (
        cloud.submit("lambda_echo", "x" * 100_000),
        cloud.submit("lambda_echo", delay=600),
    )
    cloud.source().drain(worker)
    assert cloud.status(old) == ["completed"]
    assert sum(old in key for key in payload_keys(cloud)) == 2
    maintenance = cloud.function("maintenance", retention_days=1e-9)
    eventually(lambda: maintenance.invoke({})["purged"] >= 1)  # by the clock of the database
    left = cloud.runtime.tasks.get_many("default", [old, waiting])
    assert [task.task_id for task in left] == [waiting]
    assert not any(old in key for key in payload_keys(cloud))


def payload_keys(cloud: Cloud) -> list[str]:
    return list(cloud.runtime.payloads.list())


def test_it_stops_between_two_jobs_when_its_time_is_up(
    cloud: Cloud, maintenance: LambdaFunction
) -> None:
    unsent(cloud, 1)
    assert maintenance.invoke({}, timeout_seconds=1.5) == {}  # less than the margin
    assert maintenance.lines("maintenance.out_of_time")
    assert cloud.count("outbox") == 1
    assert maintenance.invoke({})["relayed"] == 1


def test_without_a_store_it_fails_visibly_and_works_again_later(
    cloud: Cloud, maintenance: LambdaFunction
) -> None:
    maintenance.invoke({})
    starts = maintenance.starts
    with cloud.store_away(), pytest.raises(FunctionError, match="StoreUnavailableError"):
        maintenance.invoke({})
    assert maintenance.invoke({}).keys() == {"relayed", "recovered", "resent", "purged"}
    assert maintenance.starts == starts


# --- migrate --------------------------------------------------------------------------------------


def test_an_empty_database_is_migrated_and_a_migrated_one_left_alone(
    cloud: Cloud, postgres_url_factory: Callable[..., str]
) -> None:
    migrate = cloud.function("migrate", database_url=postgres_url_factory())
    first = migrate.invoke({})
    assert first["before"] is None
    assert first["revision"]
    again = {"before": first["revision"], "revision": first["revision"]}
    assert migrate.invoke({}) == again
    assert migrate.invoke({"RequestType": "Update"}) == again


def test_a_store_of_a_newer_program_stops_the_deployment(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    migrate = cloud.function("migrate")
    cloud.execute("UPDATE taskflow_version SET version_num = '9999'")
    with pytest.raises(FunctionError, match=r"StoreVersionError.*newer TaskFlow"):
        migrate.invoke({})
    with cloud.store_away(), pytest.raises(FunctionError, match="StoreUnavailableError"):
        migrate.invoke({})
