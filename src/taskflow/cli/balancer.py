"""`taskflow balancer`: the load balancer in front of several instances."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from taskflow.cli.options import Host, Port, given


def balancer(
    instances: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL…]",
            help="Instances, e.g. http://127.0.0.1:8001. Default: TASKFLOW_BALANCER_INSTANCES.",
        ),
    ] = None,
    host: Host = None,
    port: Port = None,
    strategy: Annotated[
        str | None, typer.Option(help="round_robin or least_connections.", metavar="NAME")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with further instances, read again on SIGHUP.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Spread requests over several `taskflow api` instances that share one store.

    Sick instances are taken out and brought back. SIGHUP reads the configuration file and the certificate again;
    SIGTERM and Ctrl-C stop in good order, a second one at once. Everything else is a setting: TASKFLOW_BALANCER_….
    """
    _become(
        given(
            balancer_instances=instances,
            balancer_host=host,
            balancer_port=port,
            balancer_strategy=strategy,
            balancer_config_file=str(config) if config is not None else None,
        )
    )


def _become(options_given: dict[str, Any]) -> NoReturn:
    """This process goes on as the balancer, and forgets what reading command line and settings took: 20 MiB.

    Not where another thread lives in it, which would end: that of `taskflow cluster` that waits for its parent to end.
    """
    import pickle
    import tempfile
    import threading

    from taskflow.cli.balancer_settings import process_of
    from taskflow.cli.connection import settings_here

    process = process_of(settings_here(**options_given))
    if threading.active_count() > 1:
        from taskflow.cli.balancer_process import run

        sys.exit(run(process))
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it stays open for whom this process becomes
    pickle.dump(process, file)
    file.seek(0)
    os.set_inheritable(file.fileno(), True)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-P", "-m", "taskflow.cli.balancer_process", str(file.fileno())]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter with our own code
