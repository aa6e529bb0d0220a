"""The whole way: submitted over HTTP, brought by SQS, run by the packaged function, found in PostgreSQL and S3."""

from __future__ import annotations

import pytest

from taskflow.adapters.metadata.migrate import HEAD
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import TaskStatus
from tests.infra.end_to_end.conftest import Deployed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("functions"),  # they share what is deployed
]


def submit(deployed: Deployed, task: str, *args: object, **options: object) -> str:
    submission = Submission(task, args, {}, SubmitOptions.of(**options))
    return deployed.api.submit_task(submission).id


def status(deployed: Deployed, task: str) -> TaskStatus:
    return deployed.api.get(task).status


def history(deployed: Deployed, task: str) -> list[str]:
    return [event.type.removeprefix("task.") for event in deployed.api.history(task)]


def test_the_packaged_function_migrated_the_store(deployed: Deployed) -> None:
    assert deployed.migrated == {"before": None, "revision": HEAD}
    assert deployed.invoke("MigrateFunction") == {"before": HEAD, "revision": HEAD}


def test_tasks_run_in_the_function_from_the_zip(deployed: Deployed) -> None:
    total = submit(deployed, "shop_total", ["apple", "pear"], "SEK")
    long_text = submit(deployed, "shop_letters", "a" * 200_000, priority="critical")
    surroundings = submit(deployed, "shop_surroundings", priority="low")
    assert deployed.api.wait(total, 60).result == 77
    assert deployed.api.wait(long_text, 60).result == 200_000  # by way of S3
    found = deployed.api.wait(surroundings, 60).result
    root = found["task_root"]
    assert found == {
        "taskflow": f"{root}/taskflow",
        "tasks": f"{root}/shop",
        "web": [],
        "task_root": root,
    }
    for queue in ("CriticalQueue", "NormalQueue", "LowQueue"):
        deployed.eventually(lambda q=queue: deployed.waiting(q) == 0, f"{queue} is empty")


def test_a_task_that_fails_is_brought_again_and_then_a_dead_letter(deployed: Deployed) -> None:
    task = submit(deployed, "shop_unreachable")
    found = deployed.api.wait(task, 60)
    assert (found.status, found.attempt) == ("failed", 2)
    assert history(deployed, task) == ["submitted", "started", "retrying", "started", "failed"]
    assert task in {letter.task_id for letter in deployed.api.dead_letters.list()[0]}
    deployed.eventually(lambda: deployed.waiting("NormalQueue") == 0, "its messages are gone")


def test_a_task_that_kills_its_function_is_dead_lettered_in_the_end(deployed: Deployed) -> None:
    deployed.show_again_after("HighQueue", 3)
    task = submit(deployed, "shop_deadly", priority="high")

    def dead() -> bool:
        deployed.invoke("MaintenanceFunction")  # the schedule's tick
        return status(deployed, task) == "failed"

    deployed.eventually(dead, "it has crashed as often as it may")
    found = deployed.api.get(task)
    assert found.crash_count == 2
    assert found.error is not None
    assert found.error.type == "WorkerCrashedError"
    assert history(deployed, task).count("started") >= 2
    deployed.eventually(lambda: deployed.waiting("HighQueue") == 0, "its messages are gone")


def test_what_no_function_could_take_comes_back_by_way_of_the_dead_letter_queue(
    deployed: Deployed,
) -> None:
    deployed.show_again_after("LowQueue", 1)
    deployed.configure("WorkerFunction", SHOP_DIES_AT_START="1")
    task = submit(deployed, "shop_letters", "four", priority="low")
    deployed.eventually(lambda: status(deployed, task) == "failed", "SQS has given it up twice")
    found = deployed.api.get(task)
    assert found.crash_count == 2
    assert found.error is not None
    assert "the queue gave up its message" in found.error.message
    [letter] = [found for found in deployed.api.dead_letters.list()[0] if found.task_id == task]
    assert letter.task == "shop_letters"

    deployed.configure("WorkerFunction", SHOP_DIES_AT_START="")
    deployed.eventually(lambda: deployed.waiting("LowQueue") == 0, "nobody dies of it any more")
    deployed.show_again_after("LowQueue", 10)
    assert deployed.api.dead_letters.redrive([task]) == 1
    deployed.eventually(lambda: status(deployed, task) == "completed", "it runs after all")
    assert deployed.api.get(task).result == 4
    deployed.eventually(lambda: deployed.waiting("LowDeadLetters") == 0, "nothing is left")
