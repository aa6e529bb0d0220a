"""`taskflow balancer`: the load balancer in front of several instances."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

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
    code = _run(
        given(
            balancer_instances=instances,
            balancer_host=host,
            balancer_port=port,
            balancer_strategy=strategy,
            balancer_config_file=str(config) if config is not None else None,
        )
    )
    raise typer.Exit(code)


def _run(options_given: dict[str, Any]) -> int:
    from taskflow import logs
    from taskflow.balancer.clock import MachineClock
    from taskflow.balancer.server import Listeners, serve
    from taskflow.cli import balancer_settings
    from taskflow.listening import address_of, listen

    settings = balancer_settings.read(options_given)
    options = settings.options
    logs.configure(settings.log_level, settings.log_format, service="balancer")
    scheme = "https" if options.tls is not None else "http"
    with ExitStack() as closing:
        main = closing.enter_context(
            listen(
                settings.host,
                settings.port,
                option="--port, TASKFLOW_BALANCER_PORT",
            )
        )
        redirect = None
        if settings.redirect_port:
            redirect = closing.enter_context(
                listen(
                    settings.host,
                    settings.redirect_port,
                    option="TASKFLOW_BALANCER_REDIRECT_PORT",
                )
            )

        def greet() -> None:
            if sys.stdout.isatty():
                address = address_of(main).replace("http", scheme, 1)
                print(f"TaskFlow's balancer listens on {address}. Ctrl-C stops.", flush=True)

        return serve(options, MachineClock(), Listeners(main, redirect), on_started=greet)
