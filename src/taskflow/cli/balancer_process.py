"""The balancer's process: `python -m taskflow.cli.balancer_process DESCRIPTOR`, a pickled `Process` behind it.

`taskflow balancer` becomes it once it has read its command line and settings: what reads those takes 20 MiB.
"""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import ExitStack

from taskflow import logs
from taskflow.balancer.clock import MachineClock
from taskflow.balancer.options import Process
from taskflow.balancer.server import Listeners, serve
from taskflow.core.errors import ConfigurationError, TaskFlowError
from taskflow.listening import address_of, listen

_EXIT_FAILED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130  # as of all commands


def main(descriptor: int) -> int:
    """The exit code."""
    with os.fdopen(descriptor, "rb") as file:
        process: Process = pickle.load(file)  # noqa: S301 - written by this program a moment ago
    return run(process)


def run(process: Process) -> int:
    """The exit code, once it has been told to stop."""
    try:
        return _run(process)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except TaskFlowError as exc:
        print(f"taskflow: {exc.detail}", file=sys.stderr)
        return _EXIT_USAGE if isinstance(exc, ConfigurationError) else _EXIT_FAILED


def _run(process: Process) -> int:
    options = process.options
    logs.configure(process.log_level, process.log_format, service="balancer")
    with ExitStack() as closing:
        main_port = closing.enter_context(
            listen(process.host, process.port, option="--port, TASKFLOW_BALANCER_PORT")
        )
        redirect = None
        if process.redirect_port:
            redirect = closing.enter_context(
                listen(
                    process.host, process.redirect_port, option="TASKFLOW_BALANCER_REDIRECT_PORT"
                )
            )

        def greet() -> None:
            if sys.stdout.isatty():
                scheme = "https" if options.tls is not None else "http"
                address = address_of(main_port).replace("http", scheme, 1)
                print(f"TaskFlow's balancer listens on {address}. Ctrl-C stops.", flush=True)

        return serve(options, MachineClock(), Listeners(main_port, redirect), on_started=greet)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
