"""The examples do what they say: the program from start to end, and every sample task through real workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import sample_tasks
from taskflow import TaskFailedError, TaskFlow, TaskHandle, TaskStatus
from taskflow.core.registry import Handler

ROOT = Path(__file__).parents[3]
USAGE = """\
direct:    Hello Ann
task:      Hello Ann
retried:   worked at attempt 3
history:   task.submitted, task.started, task.retrying, task.started, task.retrying, task.started, task.completed
failed:    width must be above 0
dead:      ['resize']
graph:     Holiday is online
same task: True True
awaited:   Hello Eve
completed: 8 failed: 1
"""


def test_the_usage_example_runs_from_start_to_end(tmp_path: Path) -> None:
    script = ROOT / "examples" / "usage_example.py"
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == USAGE
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskFlow]:
    with TaskFlow(home=tmp_path_factory.mktemp("examples"), num_workers=4) as app:
        yield app


def test_send_email(app: TaskFlow) -> None:
    assert (
        sample_tasks.send_email("a@example.com", "Hi")
        == "sent 'Hi' to a@example.com (0 characters)"
    )
    handle = app.submit("send_email", "a@example.com", "Hi", body="text")
    assert handle.result(timeout=60) == "sent 'Hi' to a@example.com (4 characters)"


def test_add(app: TaskFlow) -> None:
    assert app.submit("add", 1, 2.5).result(timeout=60) == 3.5


def test_build_report_reports_its_progress(app: TaskFlow) -> None:
    handle = app.submit("build_report", pages=3, seconds_per_page=0.01)
    assert handle.result(timeout=60) == {"pages": 3}
    assert handle.progress() == (100.0, "page 3 of 3")


def test_build_report_ends_when_it_is_cancelled(app: TaskFlow) -> None:
    handle = app.submit("build_report", pages=10_000, seconds_per_page=0.01)
    wait_for_start(app, handle)
    handle.cancel()
    task = handle.wait(timeout=60)
    assert task.status is TaskStatus.CANCELLED


def wait_for_start(app: TaskFlow, handle: TaskHandle) -> None:
    while handle.status() is not TaskStatus.RUNNING:
        assert not handle.status().is_final


def test_flaky_gets_through_at_last(app: TaskFlow) -> None:
    assert app.submit("flaky", failures=2).result(timeout=60) == "got through at attempt 3"


def test_charge_takes_a_model_and_says_never_again_or_later(app: TaskFlow) -> None:
    order = {"number": 7, "total": 9.5, "due": "2030-01-01"}
    assert app.submit("charge", order).result(timeout=60) == {"order": 7, "charged": 9.5}
    with pytest.raises(TaskFailedError, match="refused the card"):
        app.submit("charge", order, card="stolen").result(timeout=60)
    busy = app.submit("charge", order, card="busy")
    while (task := busy.task()).status is not TaskStatus.RETRYING:
        assert not task.status.is_final
    assert 25 < (task.run_at - task.created_at).total_seconds() <= 31
    busy.cancel()


def test_count_words_in_a_process_of_its_own(app: TaskFlow) -> None:
    assert app.submit("count_words", "b a b").result(timeout=30) == {"a": 1, "b": 2}


def test_gather_prices_on_the_event_loop(app: TaskFlow) -> None:
    assert app.submit("gather_prices", ["a", "bb"]).result(timeout=60) == {"a": 1, "bb": 2}


def test_every_sample_task_is_tested_here() -> None:
    tasks = {name for name, value in vars(sample_tasks).items() if isinstance(value, Handler)}
    tests = {name for name in globals() if name.startswith("test_")}
    assert {
        task for task in tasks if not any(test.startswith(f"test_{task}") for test in tests)
    } == set()
