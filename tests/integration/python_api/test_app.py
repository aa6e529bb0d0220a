"""The life of an embedded app."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.core.errors import (
    ConfigurationError,
    NoActiveAppError,
    StoreCorruptError,
    TaskFlowError,
)
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.task import TaskStatus
from taskflow.settings import load
from tests.integration.python_api.samples import PATIENCE_SECONDS, Gate
from tests.support.backends import environment


def test_handlers_submit_to_the_app_started_last(home: Path, registry: Registry) -> None:
    add = registry.get("add")
    with TaskFlow(home=home, handlers=registry) as first:
        with TaskFlow(home=home / "other", handlers=registry) as second:
            handle = add.submit(1)
            assert second.get(handle.id).task == "add"
            assert first.list().items == []
        first.get(add.submit(1).id)


def test_without_an_app_submitting_says_what_to_do(registry: Registry) -> None:
    with pytest.raises(NoActiveAppError, match=r"with TaskFlow\(\) as app"):
        registry.get("add").submit(1)


def test_nothing_works_before_start_or_after_stop(
    home: Path, registry: Registry, backend: dict[str, Any]
) -> None:
    app = TaskFlow(home=home, handlers=registry, **backend)
    with pytest.raises(NoActiveAppError, match="not running"):
        app.submit("add", 1)
    app.start()
    handle = app.submit("add", 1)
    app.stop()

    for use in (lambda: app.submit("add", 1), handle.status, app.stop_workers, app.metrics):
        with pytest.raises(NoActiveAppError, match="not running"):
            use()
    app.stop()  # once more does nothing


def test_it_can_be_started_again_but_not_twice(
    home: Path, registry: Registry, backend: dict[str, Any]
) -> None:
    app = TaskFlow(home=home, handlers=registry, **backend)
    with app:
        with pytest.raises(ConfigurationError, match="started already"):
            app.start()
        task_id = app.submit("add", 1).id
    with app:
        assert app.handle(task_id).result(PATIENCE_SECONDS) == 2


def test_an_idle_app_stops_within_a_second(home: Path, registry: Registry) -> None:
    took: list[float] = []
    for _ in range(3):  # one may meet a pause of the machine
        app = TaskFlow(home=home, handlers=registry).start()
        app.submit("add", 1).wait(PATIENCE_SECONDS)

        began = time.monotonic()
        app.stop()

        took.append(time.monotonic() - began)
    assert min(took) < 1.0


def test_what_runs_may_finish_and_what_waits_is_kept(
    home: Path, registry: Registry, gate: Gate, backend: dict[str, Any]
) -> None:
    with TaskFlow(home=home, handlers=registry, num_workers=1, **backend) as app:
        held = app.submit("hold")
        assert gate.entered.wait(PATIENCE_SECONDS)
        waiting = app.submit("add", 1)
        threading.Timer(0.05, gate.opened.set).start()

    with TaskFlow(home=home, handlers=registry, num_workers=0, **backend) as app:
        assert app.get(held.id).result == "released"
        assert app.get(waiting.id).status is TaskStatus.PENDING
    with TaskFlow(home=home, handlers=registry, **backend) as app:
        assert app.handle(waiting.id).result(PATIENCE_SECONDS) == 2


def test_what_outlasts_the_grace_is_given_back(
    home: Path, registry: Registry, gate: Gate, backend: dict[str, Any]
) -> None:
    app = TaskFlow(home=home, handlers=registry, abandon_grace_seconds=0, **backend).start()
    held = app.submit("hold")
    assert gate.entered.wait(PATIENCE_SECONDS)

    app.stop(grace_seconds=0)
    gate.opened.set()

    with TaskFlow(home=home, handlers=registry, **backend) as app:
        task = app.handle(held.id).wait(PATIENCE_SECONDS)
        assert (task.result, task.crash_count, task.failure_count) == ("released", 0, 0)


def test_workers_start_and_stop_apart_from_submitting(app: TaskFlow) -> None:
    app.stop_workers()
    assert not app.workers_running
    handle = app.submit("add", 1)
    assert handle.status() is TaskStatus.PENDING

    app.start_workers()
    app.start_workers()  # once more does nothing

    assert app.workers_running
    assert handle.result(PATIENCE_SECONDS) == 2


def test_an_app_without_workers_leaves_its_tasks_to_others(
    home: Path, registry: Registry, backend: dict[str, Any]
) -> None:
    with TaskFlow(home=home, handlers=registry, num_workers=0, **backend) as submitting:
        assert not submitting.workers_running
        with pytest.raises(ConfigurationError, match="num_workers is 0"):
            submitting.start_workers()
        before = submitting.submit("add", 1)
        with TaskFlow(home=home, handlers=registry, **backend):
            meanwhile = submitting.submit("add", 2)
            assert before.result(PATIENCE_SECONDS) == 2
            assert meanwhile.result(PATIENCE_SECONDS) == 3


def test_two_apps_on_one_home_run_every_task_once(home: Path, backend: dict[str, Any]) -> None:
    ran: list[int] = []
    registry = Registry()
    registry.add(ran.append, name="note", declared=TaskOptions())
    with (
        TaskFlow(home=home, handlers=registry, num_workers=2, **backend) as one,
        TaskFlow(home=home, handlers=registry, num_workers=2, **backend) as other,
    ):
        handles = one.submit_many([("note", (n,), {}) for n in range(200)])
        handles += other.submit_many([("note", (n,), {}) for n in range(200, 400)])
        for handle in handles:
            handle.result(PATIENCE_SECONDS)
        assert one.metrics()["queue"]["completed_count"] == 400

    assert sorted(ran) == list(range(400))


def test_another_process_may_submit_to_the_same_home(
    app: TaskFlow, home: Path, backend: dict[str, Any]
) -> None:
    program = (
        "import sys\n"
        "from taskflow import TaskFlow\n"
        "with TaskFlow(home=sys.argv[1], num_workers=0) as app:\n"
        "    print(app.submit('echo', 7).result(timeout=20))\n"
    )

    answer = subprocess.run(
        [sys.executable, "-c", program, str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(backend),
    )

    assert (answer.stdout, answer.returncode) == ("7\n", 0), answer.stderr


def test_handlers_may_submit(app: TaskFlow) -> None:
    inner_id = app.submit("submit_another", 4).result(PATIENCE_SECONDS)

    assert app.handle(inner_id).result(PATIENCE_SECONDS) == 5


def test_a_handler_that_is_being_finished_may_still_submit(
    home: Path, gate: Gate, backend: dict[str, Any]
) -> None:
    registry = Registry()
    submitted: list[str] = []

    def late() -> None:
        gate.pass_through()
        submitted.append(noop.submit().id)

    noop = registry.add(lambda: None, name="noop", declared=TaskOptions())
    registry.add(late, name="late", declared=TaskOptions())
    app = TaskFlow(home=home, handlers=registry, num_workers=1, **backend).start()
    app.submit("late")
    assert gate.entered.wait(PATIENCE_SECONDS)

    stopping = threading.Thread(target=app.stop)
    stopping.start()
    while app.workers_running:
        stopping.join(0.01)
    gate.opened.set()
    stopping.join(PATIENCE_SECONDS)

    with TaskFlow(home=home, handlers=registry, num_workers=0, **backend) as app:
        [task_id] = submitted
        assert app.get(task_id).status is TaskStatus.PENDING


def test_a_fork_gets_clear_errors_and_harms_nothing(app: TaskFlow, registry: Registry) -> None:
    def child() -> str:
        said = []
        for use in (
            lambda: registry.get("add").submit(1),
            app.start,
            TaskFlow(home=app.settings.home / "other", handlers=registry).start,
        ):
            try:
                use()
            except TaskFlowError as exc:
                said.append(f"{type(exc).__name__}: {exc.detail}")
        app.stop()  # as the end of a `with` block would
        return "\n".join(said)

    submitting, starting, starting_another = _in_a_fork(child).splitlines()

    assert submitting.startswith("NoActiveAppError")
    assert "does not survive a fork" in submitting
    assert starting.startswith("ConfigurationError")
    assert "before it forked" in starting
    assert starting_another == starting
    assert app.submit("add", 2).result(PATIENCE_SECONDS) == 3


def test_settings_may_be_given_changed_and_misspelt(home: Path) -> None:
    given = load(home=home, num_workers=3)

    assert TaskFlow(given).settings is given
    assert TaskFlow(given, port=81).settings.num_workers == 3
    with pytest.raises(ConfigurationError, match="'num_worker', did you mean 'num_workers'"):
        TaskFlow(num_worker=3)
    with pytest.raises(ConfigurationError, match="TASKFLOW_PORT"):
        TaskFlow(port=-1)


def test_a_start_that_fails_leaves_nothing_behind(
    home: Path, registry: Registry, backend: dict[str, Any]
) -> None:
    app = TaskFlow(home=home, handlers=registry, tasks=("no.such.module",), **backend)
    with pytest.raises(ConfigurationError, match=r"cannot import 'no\.such\.module'"):
        app.start()

    assert repr(app).endswith("stopped>")
    with TaskFlow(home=home, handlers=registry, **backend) as other:
        assert other.submit("add", 1).result(PATIENCE_SECONDS) == 2


def test_modules_named_in_the_settings_are_imported(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: dict[str, Any]
) -> None:
    module = tmp_path / "tasks_of_a_test.py"
    module.write_text("from taskflow import task\n@task('test_app.named')\ndef named(): return 7\n")
    monkeypatch.syspath_prepend(tmp_path)

    with TaskFlow(home=home, tasks=("tasks_of_a_test",), **backend) as app:
        assert app.submit("test_app.named").result(PATIENCE_SECONDS) == 7


def test_a_file_that_is_no_store_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "taskflow.db").write_bytes(b"this is not a database" * 100)

    with pytest.raises(StoreCorruptError, match="not a database"):
        TaskFlow(home=home).start()


def _in_a_fork(child: Callable[[], str]) -> str:
    """What ``child`` returns or raises in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = child()
        except BaseException as exc:
            said = repr(exc)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    try:
        answered, _, _ = select.select([reader], [], [], PATIENCE_SECONDS)
        assert answered, "the child hangs"
        return os.read(reader, 65_536).decode()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
