"""What a whole test run shares: one server of each kind, started by whoever asks first, stopped with the run.

Every xdist worker is a process of the same run. A server is a process of its own that watches the run's owner, so that
a run that was killed leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DIRECTORY = "TASKFLOW_TEST_RUN_DIRECTORY"  # shared by all processes of one test run
_ROOT = Path(__file__).parents[2]
OWNER = "TASKFLOW_TEST_RUN_OWNER"  # process id of the one that ends last


def begin() -> bool:
    """Called by every process of a test run; the first one, which gets True, has to call `end`."""
    if os.environ.get("PYTEST_XDIST_WORKER") and os.environ.get(DIRECTORY):
        return False
    # Made by whoever needs it first: most runs that are killed leave nothing behind.
    os.environ[DIRECTORY] = f"{tempfile.gettempdir()}/taskflow-tests-{uuid.uuid4().hex}"
    os.environ[OWNER] = str(os.getpid())
    return True


def end() -> None:
    """Stop the servers and wait until they are gone."""
    directory = Path(os.environ.pop(DIRECTORY))
    if not directory.exists():
        return
    for answer_file in directory.glob("*.server.json"):
        try:
            answer: dict[str, Any] = json.loads(answer_file.read_bytes())
            os.kill(answer["pid"], signal.SIGTERM)
        except (OSError, KeyError, ValueError):
            continue  # it was never started, or has ended
        with locked(answer_file.with_suffix(".lock")):
            pass  # held by the server's process until it has removed everything
    shutil.rmtree(directory)


def directory() -> Path:
    path = Path(os.environ[DIRECTORY])
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def shared(name: str, module: str, *arguments: str) -> dict[str, Any]:
    """What ``module`` answered when it was started, once for the whole run. Raises RuntimeError when it could not.

    It is called with ``arguments``, the owner's process id and a lock file (see `serving`).
    """
    answer_file = directory() / f"{name}.server.json"
    with locked(answer_file.with_suffix(".starting")):
        if not answer_file.exists():
            lock = answer_file.with_suffix(".lock")
            command = [sys.executable, "-m", module, *arguments, os.environ[OWNER], str(lock)]
            with subprocess.Popen(
                command,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            ) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                process.returncode = 0  # it goes on by itself: `with` must not wait for it
            answer_file.write_bytes(line or b'{"error": "it ended without an answer"}')
    answer: dict[str, Any] = json.loads(answer_file.read_bytes())
    if "error" in answer:
        raise RuntimeError(f"{name} is needed for this test: {answer['error']}")
    return answer


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def serving(owner_pid: int, lock_path: Path) -> Iterator[Callable[[], None]]:
    """For the server's process. Yields what waits until the owner is gone or SIGTERM arrives.

    ``lock_path`` stays locked until all inside is cleaned up; without an owner the run's directory goes, too.
    """
    lock = lock_path.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    stop, stop_writer = os.pipe()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: os.write(stop_writer, b"."))
    gone: list[bool] = []
    try:
        yield lambda: gone.append(_owner_went(owner_pid, stop))
    finally:
        if any(gone):
            shutil.rmtree(lock_path.parent, ignore_errors=True)


def report(answer: dict[str, Any]) -> None:
    """Tell who asked, with the process id of whom to stop; nothing more is ever printed."""
    print(json.dumps({**answer, "pid": os.getpid()}), flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _owner_went(owner_pid: int, stop: int) -> bool:
    """Until ``stop`` is readable or the owner process is gone; whether it is gone."""
    watched = [stop]
    if hasattr(os, "pidfd_open"):
        try:
            watched.append(os.pidfd_open(owner_pid))
        except ProcessLookupError:
            return True
        return stop not in select.select(watched, [], [])[0]
    while not select.select(watched, [], [], 1.0)[0]:  # macOS
        try:
            os.kill(owner_pid, 0)
        except ProcessLookupError:
            return True
    return False
