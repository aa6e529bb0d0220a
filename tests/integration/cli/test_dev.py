"""`taskflow dev` as a process, and commands that talk to it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from taskflow.app import TaskFlow
from taskflow.client import Client
from taskflow.core.task import TaskStatus
from tests.integration.cli.conftest import PATIENCE_SECONDS, Cli, Dev, start_dev, until


def started(marker: Path) -> None:
    """Until the handler `hold` runs."""
    until(Path(f"{marker}.started").exists)


def test_it_says_where_it_listens_and_what_it_runs(dev: Dev) -> None:
    assert dev.url.startswith("http://127.0.0.1:")
    assert f"{dev.url}/docs" in dev.greeting
    for name in ("greet", "hold", "echo", "compute"):
        assert name in dev.greeting
    assert httpx.get(f"{dev.url}/health").json()["status"] == "ok"


def test_commands_find_it_by_its_address(dev: Dev, directory: Path) -> None:
    cli = Cli(directory, dev.url)

    assert cli.ok("submit", "greet", "name=Ann", "zip=123", "--wait") == '"Hello Ann 123 1"\n'
    result = cli.run("submit", "boom", "--wait")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("luck")  # of the error's own two lines
    assert [w["status"] for w in cli.json("workers")] == ["running"]
    assert cli.json("stats")["queue"]["completed_count"] == 1
    assert cli.json("list", "--status", "failed")[0]["task"] == "boom"
    assert cli.json("dead-letters", "groups")[0]["count"] == 1
    assert "name: is missing" in cli.fails("submit", "greet", code=2)


def test_commands_find_it_by_themselves(
    dev: Dev, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLOW_PORT", dev.url.rpartition(":")[2])
    monkeypatch.setenv("TASKFLOW_HOME", "another")  # its store must not be what answers
    cli = Cli(directory)

    task_id = cli.ok("submit", "greet", "name=Ann").strip()

    assert cli.ok("watch", task_id).splitlines()[-1].startswith("greet completed")
    assert not (directory / "another").exists()


def test_what_listens_there_need_not_be_taskflow(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("TASKFLOW_PORT", str(other.getsockname()[1]))
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        cli.ok("submit", "echo")

    assert (cli.directory / ".taskflow" / "taskflow.db").exists()


def test_a_server_asked_for_by_name_must_be_there(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.ok("migrate")
    monkeypatch.setenv("TASKFLOW_URL", "http://127.0.0.1:9")

    assert "cannot be reached" in cli.fails("list", code=1)
    assert "not a server address" in cli.fails("list", "--url", "nonsense", code=2)


def test_watch_follows_a_running_task_and_cancel_ends_it(dev: Dev, directory: Path) -> None:
    cli, marker = Cli(directory, dev.url), directory / "marker"
    task_id = cli.ok("submit", "hold", f"marker={marker}").strip()
    started(marker)
    command = [sys.executable, "-m", "taskflow", "watch", task_id, "--json", "--url", dev.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        seen = [json.loads(watching.stdout.readline())]
        while seen[-1]["progress"] != 40:
            seen.append(json.loads(watching.stdout.readline()))
        assert seen[-1]["progress_message"] == "waiting"

        assert "(its worker was told)" in cli.ok("cancel", task_id)

        last = json.loads(watching.stdout.readlines()[-1])
        assert last["status"] == "cancelled"
    assert watching.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_attempts_finish(
    dev: Dev, directory: Path, number: signal.Signals
) -> None:
    marker = directory / "marker"
    with Client(dev.url) as client:
        held = client.submit("hold", marker=str(marker))
        waiting = client.options(delay=3_600).submit("echo", 1)
        started(marker)

    dev.process.send_signal(number)
    dev.until_logged("worker.draining")
    marker.touch()

    assert dev.finish() == 0
    with TaskFlow(home=directory / ".taskflow", num_workers=0, tasks=()) as app:
        assert app.get(held.id).result == "released"
        assert app.get(waiting.id).status is TaskStatus.SCHEDULED


def test_the_second_signal_gives_them_back_at_once(dev: Dev, directory: Path) -> None:
    marker = directory / "marker"
    with Client(dev.url) as client:
        held = client.submit("hold", marker=str(marker))
        started(marker)

    dev.process.send_signal(signal.SIGTERM)
    dev.until_logged("worker.draining")
    began = time.monotonic()
    dev.process.send_signal(signal.SIGTERM)

    assert dev.finish() == 1
    assert time.monotonic() - began < 20  # not the 30 s that they would be given
    assert "Traceback" not in dev.log
    with TaskFlow(home=directory / ".taskflow", num_workers=0, tasks=()) as app:
        task = app.get(held.id)
        assert (task.status, task.crash_count, task.failure_count) == (TaskStatus.PENDING, 0, 0)


def test_an_idle_server_stops_soon(dev: Dev) -> None:
    began = time.monotonic()
    dev.process.send_signal(signal.SIGINT)

    assert dev.finish() == 0
    assert time.monotonic() - began < 20  # not the 30 s that busy workers would be given


def test_a_port_that_is_taken_is_one_clear_sentence(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = subprocess.run(
            [sys.executable, "-m", "taskflow", "dev", "--port", port],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in answer.stderr


def test_it_may_run_without_workers(directory: Path) -> None:
    dev = start_dev(directory, "--workers", "0")
    try:
        with Client(dev.url) as client:
            handle = client.submit("echo", 1)
            assert client.workers() == []
            assert handle.status() is TaskStatus.PENDING
    finally:
        dev.process.terminate()
        code = dev.finish()
        dev.kill()
    assert code == 0


def test_what_was_accepted_survives_a_kill(dev: Dev, directory: Path) -> None:
    marker = directory / "marker"
    with Client(dev.url) as client:
        held = client.submit("hold", marker=str(marker))
        handles = client.submit_many([("echo", (n,), {}) for n in range(100)])
        started(marker)
    dev.kill()
    marker.touch()

    again = start_dev(directory)
    try:
        with Client(again.url) as client:
            assert client.handle(held.id).result(PATIENCE_SECONDS) == "released"
            for n, handle in enumerate(handles):
                assert client.handle(handle.id).result(PATIENCE_SECONDS) == n
    finally:
        again.kill()


def test_people_at_a_terminal_see_a_progress_bar_and_colours(dev: Dev, directory: Path) -> None:
    cli, marker = Cli(directory, dev.url), directory / "marker"
    task_id = cli.ok("submit", "hold", f"marker={marker}").strip()

    with at_a_terminal("watch", task_id, "--url", dev.url) as screen:
        seen = screen.until("waiting")  # the handler's message beside the bar
        marker.touch()
        seen += screen.until("completed")
    assert "hold running" in seen
    assert "━" in seen

    with at_a_terminal("list", "--url", dev.url) as screen:
        assert "\x1b[32mcompleted" in screen.until("completed")


@dataclass
class Screen:
    """What a command writes to its terminal."""

    descriptor: int

    def until(self, text: str) -> str:
        seen = b""
        while text.encode() not in seen:
            ready, _, _ = select.select([self.descriptor], [], [], PATIENCE_SECONDS)
            assert ready, seen
            seen += os.read(self.descriptor, 4_096)
        return seen.decode(errors="replace")


@contextmanager
def at_a_terminal(*command: str) -> Iterator[Screen]:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "taskflow", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "160"},
    ) as process:
        os.close(theirs)
        try:
            yield Screen(ours)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
            os.close(ours)


def test_with_chaos_it_says_so_and_still_runs_every_task(directory: Path) -> None:
    dev = start_dev(directory, "--chaos=3", "--workers=2")
    try:
        assert "CHAOS" in dev.greeting
        assert "seed 3" in dev.greeting
        assert "queue.chaos" in dev.log
        with Client(dev.url) as client:
            handles = client.submit_many([("greet", (f"n{n}",), {}) for n in range(20)])
            for handle in handles:
                assert handle.wait(PATIENCE_SECONDS).status is TaskStatus.COMPLETED
    finally:
        dev.kill()
