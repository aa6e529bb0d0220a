"""Runs one PgBouncer for a test run: `-m tests.support.pgbouncer_server POSTGRES_URL OWNER_PID LOCK_FILE`.

In transaction mode, in front of every database of that server. Prints one line of JSON, ``{"url": …}`` or
``{"error": …}``, once it answers or never will.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg2

from tests.support.ports import free_port
from tests.support.run import report, serving

_START_SECONDS = 30.0
# Every transaction may get another connection, and none finds anything that the one before has left on it.
_CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_reset_query = DISCARD ALL
server_reset_query_always = 1
server_round_robin = 1
default_pool_size = 10
max_client_conn = 1000
server_idle_timeout = 5
"""


def main(url: str, owner_pid: int, lock_path: Path) -> None:
    """Serve until the owner is gone or SIGTERM arrives."""
    directory = Path(tempfile.mkdtemp(prefix="taskflow-pgbouncer-"))
    process: subprocess.Popen[bytes] | None = None
    with serving(owner_pid, lock_path) as wait_for_end:
        try:
            port = free_port()
            process = start(directory, url, port)
            through = (
                urlsplit(url)
                ._replace(netloc=f"taskflow@127.0.0.1:{port}", path="/postgres")
                .geturl()
            )
            _until_it_answers(process, through)
            report({"url": through})
            wait_for_end()
        except (RuntimeError, OSError, psycopg2.Error) as exc:
            report({"error": f"{type(exc).__name__}: {exc}"})
        finally:
            if process is not None:
                process.kill()
                process.wait()
            shutil.rmtree(directory, ignore_errors=True)


def start(directory: Path, url: str, port: int) -> subprocess.Popen[bytes]:
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        raise RuntimeError("PgBouncer is not installed: apt-get install pgbouncer")
    server = urlsplit(url)
    parts = {"host": server.hostname, "port": server.port, "user": server.username}
    if server.password:
        parts["password"] = unquote(server.password)
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        _CONFIGURATION.format(
            server=" ".join(f"{name}={value}" for name, value in parts.items()), port=port
        )
    )
    as_nobody = ["--user=nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    directory.chmod(0o755)
    return subprocess.Popen(
        [program, "--quiet", *as_nobody, str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg2.connect(url).close()
            return
        except psycopg2.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
