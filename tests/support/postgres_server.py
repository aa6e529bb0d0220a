"""Runs one throw-away PostgreSQL for a test run, and stops it when the run ends, however it ends.

Started as a process of its own (`-m tests.support.postgres_server OWNER_PID LOCK_FILE`): it outlives no owner, not
even one that was killed. It prints one line of JSON, ``{"url": …}`` or ``{"error": …}``, once the server answers or
never will.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from taskflow.cluster.postgres import PostgresMissingError, start
from tests.support.run import report, serving

# Durability is what a test cluster can do without: it never survives its run.
SPEED = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"]
# Below every lock timeout of ours, after which two that wait for each other would look like two that only wait.
DEADLOCKS = ["deadlock_timeout=50ms"]


def main(owner_pid: int, lock_path: Path) -> None:
    """Serve until the owner is gone or SIGTERM arrives. ``lock_path`` stays locked for as long as files exist."""
    directory = Path(tempfile.mkdtemp(prefix="taskflow-postgres-"))
    server: subprocess.Popen[bytes] | None = None
    with serving(owner_pid, lock_path) as wait_for_end:
        try:
            server, url = start(directory, options=[*SPEED, *DEADLOCKS])
            report({"url": url})
            wait_for_end()
        except (PostgresMissingError, OSError, subprocess.SubprocessError) as exc:
            report({"error": f"{type(exc).__name__}: {exc}"})
        finally:
            if server is not None:
                server.send_signal(signal.SIGQUIT)  # immediate shutdown
                server.wait()
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
