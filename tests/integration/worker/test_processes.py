"""`executor="process"`: children that can be killed, and that die of their own accord."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskflow import logs
from taskflow.core.task import ErrorClass, TaskStatus
from tests.integration.worker import process_handlers
from tests.integration.worker.engine import PATIENCE_SECONDS, Engine, wait_for


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """With one slot, so that one child takes all attempts, and few crashes allowed."""
    engine = make_engine(num_workers=1, max_crashes=2)
    process_handlers.add_to(engine.registry)
    engine.worker.start()
    return engine


def test_a_child_is_another_process_and_is_used_again(engine: Engine) -> None:
    first, second = engine.run("process_id").result, engine.run("process_id").result
    assert first == second != os.getpid()


def test_a_coroutine_may_run_in_a_child(engine: Engine) -> None:
    assert engine.run("process_coroutine", 21).result == 42


@pytest.mark.parametrize(
    ("task", "argument", "died"),
    [
        ("kill_itself", signal.SIGKILL, "killed by SIGKILL"),
        ("kill_itself", signal.SIGSEGV, "killed by SIGSEGV"),
        ("exit_hard", 3, "exit code 3"),
        ("exit_hard", 0, "exit code 0"),
    ],
)
def test_a_child_that_dies_is_counted_as_a_crash_not_as_a_failure(
    engine: Engine, task: str, argument: int, died: str
) -> None:
    before = engine.run("process_id").result
    ended = engine.run(task, int(argument), max_retries=0)
    assert ended.status is TaskStatus.FAILED
    assert (ended.attempt, ended.crash_count, ended.failure_count) == (2, 2, 0)
    assert ended.error is not None
    assert (ended.error.type, ended.error.classification) == (
        "WorkerCrashedError",
        ErrorClass.CRASHED,
    )
    assert f"died: {died}" in ended.error.message
    assert engine.run("process_id").result != before


def test_a_child_that_closes_its_connection_is_replaced(engine: Engine) -> None:
    ended = engine.run("hang_up")
    assert ended.error is not None
    assert "closed its connection" in ended.error.message
    assert engine.works()


def test_a_child_that_died_while_idle_costs_no_attempt(engine: Engine) -> None:
    pid = engine.run("process_id").result
    assert isinstance(pid, int)
    gone = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([gone], [], [], PATIENCE_SECONDS)[0]
    os.close(gone)
    task = engine.run("process_id")
    assert (task.status, task.attempt) == (TaskStatus.COMPLETED, 1)
    assert task.result != pid


def test_sys_exit_ends_the_attempt_and_not_the_child(engine: Engine) -> None:
    pid = engine.run("process_id").result
    error = engine.run("exit_politely").error
    assert error is not None
    assert (error.type, error.message) == (
        "HandlerExitedError",
        "the handler called sys.exit('enough')",
    )
    assert engine.run("process_id").result == pid


def test_memory_is_limited(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=1, process_memory_bytes=256 * 2**20)
    process_handlers.add_to(engine.registry)
    engine.worker.start()
    error = engine.run("eat_memory").error
    assert error is not None
    assert error.type == "MemoryError"
    assert "256 MiB" in error.message
    assert "TASKFLOW_PROCESS_MEMORY_BYTES" in error.message
    assert engine.run("process_id").status is TaskStatus.COMPLETED


def test_a_task_that_names_its_memory_gets_it(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(
        num_workers=1, process_memory_bytes=2**26, worker_resources="memory_mb=512"
    )
    process_handlers.add_to(engine.registry)
    engine.worker.start()
    assert engine.run("eat_memory_that_it_asked_for").result == 2**28


def test_errors_keep_name_message_and_traceback(engine: Engine) -> None:
    error = engine.run("raise_order_error").error
    assert error is not None
    assert (error.type, error.message) == ("OrderError", "order 17: unpaid")
    assert error.classification is ErrorClass.TRANSIENT
    assert 'raise OrderError(17, reason="unpaid")' in (error.traceback or "")


def test_what_a_handler_declares_about_errors_holds_across_the_pipe(engine: Engine) -> None:
    task = engine.run("raise_final_order_error", max_retries=5)
    assert (task.status, task.attempt) == (TaskStatus.FAILED, 1)


def test_what_an_error_says_about_retries_holds_across_the_pipe(
    engine: Engine, tmp_path: Path
) -> None:
    throttled = engine.submit("raise_throttled", max_retries=0)
    wait_for(lambda: engine.get(throttled).status is TaskStatus.RETRYING, "it is put off")
    task = engine.get(throttled)
    assert task.error is not None
    assert task.error.classification is ErrorClass.RATE_LIMITED
    assert (task.run_at - task.created_at).total_seconds() >= 3_600  # as the error asked for
    again = engine.run("ask_for_retry", str(tmp_path / "once"), max_retries=0)
    assert (again.result, again.attempt) == ("second time", 2)
    rejected = engine.run("reject", max_retries=5)
    assert (rejected.status, rejected.attempt) == (TaskStatus.FAILED, 1)


def test_a_result_that_is_not_json_fails_the_attempt(engine: Engine) -> None:
    error = engine.run("return_set").error
    assert error is not None
    assert (error.type, error.classification) == ("InvalidResultError", ErrorClass.PERMANENT)


def test_output_does_not_get_between_the_answers(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert engine.run("print_megabytes").result == "printed"
    captured = capfd.readouterr()
    assert len(captured.out) >= 5_000_000
    assert len(captured.err) >= 5_000_000


def test_a_fork_in_a_child_answers_once(engine: Engine) -> None:
    pid = engine.run("process_id").result
    assert engine.run("fork_and_return").result == pid
    assert engine.works()


def test_the_context_works_across_the_pipe(engine: Engine) -> None:
    task_id = engine.submit("report", kwargs={"steps": 4}, metadata={"order": 5})
    task = engine.final(task_id)
    assert task.result == {"attempt": 1, "metadata": {"order": 5}, "task": "report"}
    assert (task.progress, task.progress_message) == (100.0, "step 4")


def test_a_child_says_no_more_than_its_parent_wants_to_hear(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, heard in (("warning", ["WARNING"]), ("debug", ["DEBUG", "INFO", "WARNING"])):
        logs.configure(level, "json")
        for said in ("DEBUG", "INFO", "WARNING"):
            engine.run("process_talks", said)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        found = [line["level"].upper() for line in lines if line["logger"] == "somebody.else"]
        assert found == heard


def test_errors_warnings_and_odd_fields_of_a_child_are_logged_whole(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "json")
    task_id = engine.run("process_tells_of_an_error").task_id
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    by_logger = {line["logger"]: line for line in lines if line.get("task_id") == task_id}
    assert by_logger["somebody.else"]["event"] == "caught ?"
    assert by_logger["somebody.else"]["exception"].endswith("KeyError: 'lost'")
    assert "UserWarning: this is old" in by_logger["py.warnings"]["event"]
    odd = by_logger["taskflow.odd"]
    assert (odd["event"], odd["big"], odd["text"]) == ("odd.event", str(2**70), "?")


def test_a_handler_defined_in_a_function_is_refused_with_the_reason(engine: Engine) -> None:
    local = process_handlers.make_local()
    engine.registry.add(local.function, declared=local.declared)
    task = engine.run("local", max_retries=5)
    assert (task.status, task.attempt) == (TaskStatus.FAILED, 1)
    assert task.error is not None
    assert task.error.type == "ImportError"
    assert "defined inside a function" in task.error.message


_SCRIPT = """
import os, sys, threading
from pathlib import Path
from taskflow import TaskFlow, task

@task(executor="process")
def where(x: int) -> list:
    return [x, os.getpid(), __name__]

@task(executor="process", timeout=600)
def hang(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    os.rename(path, path + ".ready")
    threading.Event().wait()

if __name__ == "__main__":
    with TaskFlow(home=sys.argv[1], num_workers=1) as app:
        if len(sys.argv) > 2:
            hang.submit(sys.argv[2])
            print("submitted", flush=True)
            sys.stdin.read()
        x, pid, name = where.submit(7).result(timeout=20)
        assert (x, name) == (7, "__mp_main__") and pid != os.getpid(), (x, pid, name)
        print("ran in a child")
"""


def test_handlers_of_a_script_run_in_children(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    ran = run_script(script, str(tmp_path / "home"))
    assert ran.stdout.strip() == "ran in a child", ran.stderr


def test_a_script_without_a_main_guard_gets_a_clear_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from taskflow import TaskFailedError, TaskFlow, task\n"
        "@task(executor='process', max_retries=0)\n"
        "def one() -> int:\n"
        "    return 1\n"
        "app = TaskFlow(home=sys.argv[1], num_workers=1)\n"
        "with app:\n"
        "    try:\n"
        "        one.submit().result(timeout=20)\n"
        "    except TaskFailedError as exc:\n"
        "        print(exc.error['message'])\n"
    )
    assert "if __name__ == '__main__'" in run_script(script, str(tmp_path / "home")).stdout


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    pid_file = tmp_path / "pid"
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "home"), str(pid_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"submitted\n"
        ready = Path(f"{pid_file}.ready")
        wait_for(ready.exists, "the handler runs")
        child = os.pidfd_open(int(ready.read_text()))
        parent.kill()
        assert select.select([child], [], [], PATIENCE_SECONDS)[0], "the child outlived its parent"
        os.close(child)


def run_script(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=script.parent,
    )


def test_a_handler_without_a_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    code: Any = (
        "import sys\n"
        "from taskflow import TaskFailedError, TaskFlow, task\n"
        "@task(executor='process')\n"
        "def one() -> int:\n"
        "    return 1\n"
        "with TaskFlow(home=sys.argv[1], num_workers=1) as app:\n"
        "    try:\n"
        "        one.submit().result(timeout=20)\n"
        "    except TaskFailedError as exc:\n"
        "        print(exc.error['message'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "at a prompt or with -c" in ran.stdout, ran.stderr
