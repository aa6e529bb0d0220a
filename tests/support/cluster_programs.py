"""Programs for tests of the cluster's supervisor: small ones, that start quickly."""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def steady() -> None:
    """Touches the file argv[1], runs until SIGTERM, and adds its name to the file argv[2]."""
    name, ready, stopped = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM}
    )  # it may come as soon as we are ready
    print(f"{name} runs", flush=True)
    ready.touch()
    signal.sigwait({signal.SIGTERM})
    with stopped.open("a") as file:
        file.write(f"{name}\n")


def stubborn() -> None:
    """Touches the file argv[1] and does not care for SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(sys.argv[1]).touch()
    while True:
        signal.pause()


def fails() -> None:
    """Says why, and ends with exit code 3."""
    print("the reason why", flush=True)
    raise SystemExit(3)


def counts() -> None:
    """Appends a line to the file argv[1], and is done."""
    with Path(sys.argv[1]).open("a") as file:
        file.write("once\n")
