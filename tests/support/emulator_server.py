"""Runs one emulator of AWS for a test run: `-m tests.support.emulator_server KIND OWNER_PID LOCK_FILE`.

Kinds: moto, ministack, and moto-cloudformation, which is moto as far as our templates need more of it.

Prints one line of JSON, ``{"url": …}`` or ``{"error": …}``, once it answers or never will.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.ports import free_port
from tests.support.run import report, serving

ROOT = Path(__file__).parents[2]
ACCOUNT_ID = "123456789012"
_START_LOOKS = 600  # of a twentieth of a second


def main(kind: str, owner_pid: int, lock_path: Path) -> None:
    """Serve until the owner is gone or SIGTERM arrives."""
    home = Path(tempfile.mkdtemp(prefix=f"taskflow-{kind}-"))
    server: subprocess.Popen[bytes] | None = None
    with serving(owner_pid, lock_path) as wait_for_end:
        try:
            server, url = start(kind, home)
            report({"url": url})
            wait_for_end()
        except (RuntimeError, OSError) as exc:
            report({"error": f"{type(exc).__name__}: {exc}"})
        finally:
            if server is not None:
                os.killpg(server.pid, signal.SIGKILL)  # MiniStack has children of its own
                server.wait()
            shutil.rmtree(home, ignore_errors=True)


def start(kind: str, home: Path) -> tuple[subprocess.Popen[bytes], str]:
    port = free_port()
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.support.guarded_emulator", kind, str(port)]
    if kind == "moto-cloudformation":
        program = [sys.executable, "-m", "tests.support.moto_cloudformation"]
        command = [*program, "-H", "127.0.0.1", "-p", str(port)]
    if kind.startswith("moto"):
        environment["MOTO_ACCOUNT_ID"] = ACCOUNT_ID
    else:
        environment |= {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            # It checks the signatures of presigned URLs, with these: `tests.support.aws.CREDENTIALS`.
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
    log = home / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(_START_LOOKS):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return server, url  # whatever it says, it answers
        except OSError:
            select.select([], [], [], 0.05)
        else:
            return server, url
    raise RuntimeError(f"{kind} did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
