"""`taskflow api` and `taskflow worker` as processes that share one store."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from taskflow import __version__
from taskflow.app import TaskFlow
from taskflow.client import Client
from taskflow.core.task import TaskStatus
from tests.integration.cli.conftest import PATIENCE_SECONDS, Cli, until
from tests.support.ports import free_port


@dataclass
class Processes:
    """Starts commands in ``directory``, each with its log in a file, and kills what a test leaves running."""

    directory: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.directory / f"{command[0]}-{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskflow", *command],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.started.append(process)
        return process, log

    def api(self) -> tuple[subprocess.Popen[bytes], str]:
        process, log = self.start("api", "--port=0")
        until_logged(process, log, "server.started")
        [address] = re.findall(r'"address":"([^"]+)"', log.read_text())
        return process, address

    def worker(self, *options: str) -> tuple[subprocess.Popen[bytes], Path]:
        process, log = self.start("worker", *options)
        until_logged(process, log, "worker.started")
        return process, log


def until_logged(process: subprocess.Popen[bytes], log: Path, event: str) -> None:
    def is_there() -> bool:
        assert process.poll() is None, log.read_text()
        return f'"event":"{event}"' in log.read_text()

    until(is_there)


@pytest.fixture
def start_processes(directory: Path) -> Iterator[Callable[..., Processes]]:
    made: list[Processes] = []

    def make(environment: Mapping[str, str] | None = None) -> Processes:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TASKFLOW_")}
        settings = {"TASKFLOW_TASKS": "cli_tasks", **(environment or {})}
        made.append(Processes(directory, {**kept, **settings}))
        return made[-1]

    yield make
    for process in [process for processes in made for process in processes.started]:
        process.kill()
        process.wait()


@pytest.fixture
def processes(start_processes: Callable[..., Processes]) -> Processes:
    return start_processes()


def test_they_share_a_sqlite_store_and_log_json_away_from_a_terminal(
    start_processes: Callable[..., Processes],
) -> None:
    processes = start_processes({"TASKFLOW_NUM_WORKERS": "3"})  # for the workers alone
    api, url = processes.api()
    first, _ = processes.worker()
    second, _ = processes.worker()
    with Client(url) as client:
        handles = client.submit_many([("echo", (n,), {}) for n in range(200)])
        assert [h.result(PATIENCE_SECONDS) for h in handles] == list(range(200))
        ids = {worker.worker_id.split("-")[-2] for worker in client.workers()}
        assert ids == {str(first.pid), str(second.pid)}  # none of the API's
    for process in (api, first, second):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    for log in processes.directory.glob("*.log"):
        services = {json.loads(line)["service"] for line in log.read_text().splitlines()}
        assert services == {log.name.split("-")[0]}


def test_they_share_a_postgresql_store_with_local_queues(
    start_processes: Callable[..., Processes], postgres_database: str
) -> None:
    processes = start_processes({"TASKFLOW_DATABASE_URL": postgres_database})
    _, one = processes.api()
    _, other = processes.api()
    processes.worker()
    with Client(one) as client, Client(other) as elsewhere:
        handle = client.submit("greet", "Ann")
        assert elsewhere.handle(handle.id).result(PATIENCE_SECONDS) == "Hello Ann 1"


def test_a_cancellation_through_the_api_reaches_the_worker_that_runs_the_task(
    start_processes: Callable[..., Processes], directory: Path
) -> None:
    processes = start_processes({"TASKFLOW_LEASE_SECONDS": "1.5"})
    _, url = processes.api()
    processes.worker()
    with Client(url) as client:
        handle = client.submit("hold", marker=str(directory / "marker"))
        until((directory / "marker.started").exists)
        handle.cancel()
        until(lambda: handle.status() is TaskStatus.CANCELLED)


def test_a_second_signal_gives_its_tasks_back_at_once(
    processes: Processes, directory: Path
) -> None:
    _, url = processes.api()
    process, log = processes.worker()
    with Client(url) as client:
        held = client.submit("hold", marker=str(directory / "marker"))
        until((directory / "marker.started").exists)
        process.send_signal(signal.SIGTERM)
        until_logged(process, log, "worker.draining")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 1
    with TaskFlow(home=directory / ".taskflow", num_workers=0, tasks=()) as app:
        task = app.get(held.id)
        assert (task.status, task.crash_count, task.failure_count) == (TaskStatus.PENDING, 0, 0)


def test_a_worker_says_over_http_whether_it_runs_and_lets_attempts_finish(
    processes: Processes, directory: Path
) -> None:
    _, url = processes.api()
    port = free_port()
    process, log = processes.worker(f"--health-port={port}")
    health = f"http://127.0.0.1:{port}/health"

    answer = httpx.get(health)
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 404

    with Client(url) as client:
        held = client.submit("hold", marker=str(directory / "marker"))
    until((directory / "marker.started").exists)
    assert httpx.get(health).json()["busy"] == 1
    process.send_signal(signal.SIGTERM)
    until_logged(process, log, "worker.draining")
    answer = httpx.get(health)
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    assert httpx.get(f"{health}/live").status_code == 200
    (directory / "marker").touch()
    assert process.wait(PATIENCE_SECONDS) == 0
    with TaskFlow(home=directory / ".taskflow", num_workers=0, tasks=()) as app:
        assert app.get(held.id).result == "released"


LOSES_EXCEPTIONS = """
import os, signal, weakref

class Kept: ...

kept = Kept()
reference = weakref.ref(kept, lambda _: [os.kill(os.getpid(), signal.SIGTERM), *range(1_000)])
del kept
"""


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_signal_while_it_starts_is_heeded_also_where_exceptions_get_lost(
    start_processes: Callable[..., Processes], directory: Path, command: str
) -> None:
    (directory / "losing_tasks.py").write_text(LOSES_EXCEPTIONS)
    processes = start_processes({"TASKFLOW_TASKS": "losing_tasks", "TASKFLOW_PORT": "0"})
    process, log = processes.start(command)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert "SystemExit" in log.read_text()  # it was lost


def test_a_worker_that_could_run_nothing_is_refused(cli: Cli) -> None:
    assert "TASKFLOW_NUM_WORKERS" in cli.fails("worker", "--workers", "0", code=2)


def test_settings_that_make_no_sense_are_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLOW_TASKS", "no_such_module")
    assert "cannot import 'no_such_module'" in cli.fails("api", code=2)
    assert "cannot import 'no_such_module'" in cli.fails("worker", code=2)
    monkeypatch.setenv("TASKFLOW_LEASE_SECONDS", "soon")
    assert "TASKFLOW_LEASE_SECONDS" in cli.fails("worker", code=2)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nothing_there", ": No module named 'nothing_there'"),
        ("\ndef x(:", ": invalid syntax (broken_tasks.py, line 2)"),
        ('\n\nraise ValueError("two\\nlines")', ": ValueError: two ({file}, line 3)"),
        (
            'from taskflow import task\n@task(priority="urgent")\ndef a(): ...',
            "not 'urgent' ({file}, line 2)",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_clear_sentence(
    cli: Cli, source: str, says: str
) -> None:
    file = cli.directory / "broken_tasks.py"
    file.write_text(source)
    said = cli.fails("worker", "--tasks=broken_tasks", code=2)
    assert said.startswith("taskflow: TASKFLOW_TASKS: cannot import 'broken_tasks': ")
    assert said.endswith(f"{says.format(file=file)}\n")


@pytest.mark.parametrize("name", ["cli_tasks.py", "./cli_tasks", "../cli_tasks.py"])
def test_a_file_is_no_module(cli: Cli, name: str) -> None:
    assert "name the module" in cli.fails("api", f"--tasks={name}", code=2)


def test_ports_that_are_taken_are_one_clear_sentence(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in cli.fails("api", "--port", port, code=1)
        said = cli.fails("worker", "--health-port", port, code=1)
        assert "TASKFLOW_WORKER_HEALTH_PORT" in said


def test_the_version(cli: Cli) -> None:
    assert cli.ok("--version") == f"{__version__}\n" == cli.ok("version")
