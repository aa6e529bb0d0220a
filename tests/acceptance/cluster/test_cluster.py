"""`taskflow cluster` as a user meets it: real processes, PostgreSQL, emulators, signals, a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg2
import pytest

from taskflow.client import Client
from taskflow.cluster.postgres import answers
from tests.support.postgres import Postgres

TASKS = '''
import os
import threading
from pathlib import Path
from taskflow import TaskContext, task

@task
def double(text: str) -> str:
    return text + text

@task
def hold(ctx: TaskContext, marker: str) -> str:
    """Runs until the file ``marker`` is there; says in another one which process runs it."""
    Path(marker + ".pid").write_text(str(os.getpid()))
    while not Path(marker).exists():
        threading.Event().wait(0.01)
    return f"released at attempt {ctx.attempt}"
'''
COMMON = ("--tasks=cluster_tasks", "--port=0")
PATIENCE_SECONDS = 150.0  # a dozen processes start, on a machine that has other work
pytestmark = pytest.mark.timeout(600)


def until(condition: Callable[[], bool], explanation: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, explanation()
        threading.Event().wait(0.02)


def with_password(url: str, password: str) -> str:
    """Our servers believe any."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:{password}@{host}").geturl()


@dataclass
class Cluster:
    """A running one. ``terminal``: our end of the terminal it sits at."""

    process: subprocess.Popen[bytes]
    home: Path
    terminal: int
    seen: bytearray

    @property
    def output(self) -> str:
        return self.seen.decode(errors="replace")

    @property
    def plain(self) -> str:
        """Without colours."""
        return re.sub(r"\x1b\[\d+m", "", self.output)

    @property
    def addresses(self) -> list[str]:
        [line] = re.findall(r"^cluster +\|   API +(.*?)\s*$", self.plain, re.MULTILINE)
        return str(line).split()

    def family(self) -> list[psutil.Process]:
        """It and all that it started."""
        us = psutil.Process(self.process.pid)
        return [us, *us.children(recursive=True)]

    def child(self, word: str) -> psutil.Process:
        """The first of its own processes whose command has ``word``."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if word in child.cmdline())

    def until_said(self, text: str) -> None:
        def is_said() -> bool:
            return text in self.plain

        until(lambda: is_said() or self.process.poll() is not None, lambda: self.plain)
        assert is_said(), self.plain

    def wrote_only_named_lines(self) -> None:
        """Whatever stands on the screen, it says which process wrote it."""
        lines = [line for line in self.plain.splitlines() if line.strip(" ^C\r")]
        assert all(re.match(r"(\^C)?[a-z]+(-\d)? +\| ", line) for line in lines), self.plain


@contextmanager
def running(directory: Path, *options: str, **settings: str) -> Iterator[Cluster]:
    """At a terminal, until everything is ready; killed at the end if it still runs."""
    (directory / "cluster_tasks.py").write_text(TASKS)
    home = directory / "home"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLOW_", "AWS_"))}
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "taskflow", "cluster", *COMMON, f"--home={home}", *options],
        cwd=directory,
        env={**kept, "TERM": "xterm-256color", "TASKFLOW_LEASE_SECONDS": "2", **settings},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: _sit_at(theirs),
    )
    os.close(theirs)
    cluster = Cluster(process, home, ours, bytearray())
    reader = threading.Thread(target=_read, args=(ours, cluster.seen))
    reader.start()
    try:
        yield cluster
    finally:
        if process.poll() is None:
            family = cluster.family()
            process.kill()
            psutil.wait_procs(family, PATIENCE_SECONDS)
        process.wait()
        reader.join()
        os.close(ours)


def _sit_at(terminal: int) -> None:
    """Make it the controlling terminal, so that Ctrl-C typed there becomes SIGINT."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _read(terminal: int, seen: bytearray) -> None:
    """Until the last process that has the terminal open is gone."""
    while True:
        try:
            data = os.read(terminal, 4_096)
        except OSError:
            return
        if not data:
            return
        seen += data


def gone(processes: list[psutil.Process]) -> bool:
    """Once they are; zombies count as gone, whoever adopts them may be slow to bury them."""
    _, alive = psutil.wait_procs(processes, PATIENCE_SECONDS)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.slow
def test_it_works_over_sqs_s3_and_postgresql_and_survives_killed_processes(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.until_said("Ctrl-C stops")
        first, second, third = cluster.addresses
        marker = tmp_path / "marker"
        with Client(first) as here, Client(third) as there:
            text = "x" * 100_000  # over the inline limit: it goes through the bucket
            assert (
                there.handle(here.submit("double", text).id).result(PATIENCE_SECONDS) == text + text
            )

            # One that dies with a task, and an API instance.
            held = here.submit("hold", str(marker))
            running_at = Path(f"{marker}.pid")
            until(lambda: running_at.exists() and running_at.read_text() != "")
            worker = psutil.Process(int(running_at.read_text()))
            api = next(c for c in cluster.family() if second.rpartition(":")[2] in c.cmdline())
            worker.kill()
            api.kill()
            marker.touch()
            assert there.handle(held.id).result(PATIENCE_SECONDS) == "released at attempt 2"
        cluster.until_said("api-2 is back")
        cluster.until_said(" is back (process")
        assert httpx.get(f"{second}/health").status_code == 200

        # Killed itself, it leaves nothing behind.
        family = cluster.family()
        store = re.search(r"postgresql://\S+", cluster.plain)
        assert store is not None
        assert answers(store[0])
        cluster.process.kill()
        cluster.process.wait()
        assert gone(family)
        assert not answers(store[0])
        assert not (cluster.home / "cluster" / "postgres").exists()


@pytest.mark.slow
def test_ctrl_c_stops_it_in_order_and_leaves_nothing_behind(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    with running(
        tmp_path,
        "--instances=2",
        "--workers=1",
        "--emulator=ministack",
        TASKFLOW_QUEUE_POLL_SECONDS="1",
        TASKFLOW_TEST_DATABASE_URL=with_password(postgres_server.url, "geheim"),
    ) as cluster:
        cluster.until_said("(password: ")  # the greeting's last line
        environment = cluster.home / "cluster" / "environment"
        assert "geheim" in environment.read_text()
        assert environment.stat().st_mode & 0o077 == 0  # nobody else reads it
        assert "geheim" not in cluster.plain
        assert re.search(r"  workers +1 process\s*$", cluster.plain, re.MULTILINE)
        marker = tmp_path / "marker"
        with Client(cluster.addresses[0]) as client:
            assert client.submit("double", "a").result(PATIENCE_SECONDS) == "aa"
            client.submit("hold", str(marker))
        until(Path(f"{marker}.pid").exists)
        family = cluster.family()

        os.write(cluster.terminal, b"\x03")
        cluster.until_said("worker.draining")
        assert httpx.get(f"{cluster.addresses[0]}/health").status_code == 200  # APIs are next
        marker.touch()

        assert cluster.process.wait(PATIENCE_SECONDS) == 0
        assert gone(family)
        events = re.findall(r"(task\.completed|worker\.stopped|server\.stopped)", cluster.plain)
        assert events == ["task.completed"] * 2 + [
            "worker.stopped",
            "server.stopped",
            "server.stopped",
        ]
        assert "\x1b[" in cluster.output  # colours: it is a terminal
        cluster.wrote_only_named_lines()


@pytest.mark.slow
def test_a_postgresql_that_cannot_end_by_itself_is_ended_in_order(tmp_path: Path) -> None:
    """Nobody needs its files any more: what it would still write is not waited for."""
    with running(
        tmp_path,
        "--instances=1",
        "--workers=0",
        TASKFLOW_QUEUE_BACKEND="local",
        TASKFLOW_PAYLOAD_BACKEND="files",
    ) as cluster:
        cluster.until_said("(password: ")
        [url] = re.findall(r"postgresql://\S+", cluster.plain)
        family = cluster.family()
        with closing(psycopg2.connect(url)) as connection:
            os.kill(connection.get_backend_pid(), signal.SIGSTOP)
            os.write(cluster.terminal, b"\x03")
            assert cluster.process.wait(PATIENCE_SECONDS) == 0, cluster.plain
        assert gone(family)
        assert not (cluster.home / "cluster" / "postgres").exists()
        log = (cluster.home / "cluster" / "postgres.log").read_text()
        assert "received immediate shutdown request" in log  # the server's own words
        cluster.wrote_only_named_lines()


@pytest.mark.slow
def test_what_fails_at_the_start_stops_everything_and_says_why(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    with running(
        tmp_path,
        "--instances=1",
        "--workers=1",
        TASKFLOW_WORKER_PRIORITIES="urgent",
        TASKFLOW_QUEUE_BACKEND="local",
        TASKFLOW_PAYLOAD_BACKEND="files",
        TASKFLOW_TEST_DATABASE_URL=postgres_server.url,
    ) as cluster:
        assert cluster.process.wait(PATIENCE_SECONDS) == 1
        cluster.until_said("worker-1 ended while it started: exit code 2")
        assert "TASKFLOW_WORKER_PRIORITIES: priority must be one of" in cluster.plain


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, postgres_server: Postgres) -> None:
    with running(
        tmp_path,
        "--instances=1",
        "--workers=1",
        TASKFLOW_QUEUE_BACKEND="local",
        TASKFLOW_PAYLOAD_BACKEND="files",
        TASKFLOW_TEST_DATABASE_URL=postgres_server.url,
    ) as cluster:
        cluster.until_said("Ctrl-C stops")
        with Client(cluster.addresses[0]) as client:
            client.submit("hold", str(tmp_path / "marker"))
        until((tmp_path / "marker.pid").exists)
        family = cluster.family()
        os.write(cluster.terminal, b"\x03")
        cluster.until_said("worker.draining")
        os.kill(cluster.process.pid, signal.SIGINT)
        assert cluster.process.wait(PATIENCE_SECONDS) == 1
        assert gone(family)
