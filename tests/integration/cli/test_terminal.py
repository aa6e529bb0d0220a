"""What people see on a screen of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from taskflow.app import TaskFlow
from tests.integration.cli.conftest import PATIENCE_SECONDS, Cli

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_screen(directory: Path, *command: str, columns: int = 80) -> list[str]:
    """The lines that ``taskflow command`` shows on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "taskflow", *command],
        cwd=directory,
        env=environment | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:
        pass  # how Linux tells that nobody writes any more
    os.close(ours)
    assert process.wait(PATIENCE_SECONDS) == 0, shown
    return [line.rstrip() for line in _CONTROLS.sub("", shown.decode()).splitlines()]


def failed_task(cli: Cli) -> str:
    reason = "reason=the order 7 of Ann cannot be found in any of the databases that were asked"
    task_id: str = cli.json("submit", "boom", reason, "--priority", "critical")["task_id"]
    with TaskFlow(home=cli.directory / ".taskflow", tasks=("cli_tasks",)) as app:
        app.wait(task_id, PATIENCE_SECONDS)
    return task_id


def test_lists_keep_words_whole_and_say_what_else_there_is_below(cli: Cli) -> None:
    task_id = failed_task(cli)

    for command in (["list"], ["dead-letters", "list"]):
        header, row, details = on_a_screen(cli.directory, *command)
        assert header.split() == ["ID", "TASK", "STATUS", "CREATED"]
        assert row.split()[:3] == [task_id, "boom", "failed"]
        assert details.startswith("  critical, ValueError: the order 7 of Ann")
        assert max(map(len, (header, row, details))) <= 80


def test_ids_and_fingerprints_can_be_copied(cli: Cli) -> None:
    task_id = failed_task(cli)
    [group] = cli.json("dead-letters", "groups")

    header, row, details = on_a_screen(cli.directory, "dead-letters", "groups")
    assert header.split() == ["COUNT", "TASK", "LAST", "FINGERPRINT"]
    assert row.split()[-1] == group["fingerprint"]
    assert details.startswith(f"  {task_id}  ValueError: the order")


def test_a_wide_screen_has_room_for_all_columns(cli: Cli) -> None:
    task_id = failed_task(cli)

    header, row, *_ = on_a_screen(cli.directory, "list", columns=140)
    assert header.split() == ["ID", "TASK", "STATUS", "PRIORITY", "ATTEMPT", "CREATED", "NOTE"]
    assert row.split()[:5] == [task_id, "boom", "failed", "critical", "1"]
