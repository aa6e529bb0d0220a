"""`taskflow balancer`: the load balancer in front of several instances."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Host, Port, given

if TYPE_CHECKING:
    from taskflow.balancer.options import BalancerOptions
    from taskflow.settings import Settings


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
    settings = settings_here(
        **given(
            balancer_instances=instances,
            balancer_host=host,
            balancer_port=port,
            balancer_strategy=strategy,
            balancer_config_file=str(config) if config is not None else None,
        )
    )
    raise typer.Exit(_run(settings))


def _run(settings: Settings) -> int:
    from taskflow import logs
    from taskflow.balancer.clock import MachineClock
    from taskflow.balancer.server import Listeners, serve
    from taskflow.listening import address_of, listen

    options = options_of(settings)
    logs.configure(settings.log_level, settings.log_format, service="balancer")
    scheme = "https" if options.tls is not None else "http"
    with ExitStack() as closing:
        main = closing.enter_context(
            listen(
                settings.balancer_host,
                settings.balancer_port,
                option="--port, TASKFLOW_BALANCER_PORT",
            )
        )
        redirect = None
        if settings.balancer_redirect_port:
            redirect = closing.enter_context(
                listen(
                    settings.balancer_host,
                    settings.balancer_redirect_port,
                    option="TASKFLOW_BALANCER_REDIRECT_PORT",
                )
            )

        def greet() -> None:
            if sys.stdout.isatty():
                address = address_of(main).replace("http", scheme, 1)
                print(f"TaskFlow's balancer listens on {address}. Ctrl-C stops.", flush=True)

        return serve(options, MachineClock(), Listeners(main, redirect), on_started=greet)


def options_of(settings: Settings) -> BalancerOptions:
    """Raises ConfigurationError for settings that do not fit together."""
    from taskflow.balancer.options import BalancerOptions, HealthCheck, Limits, Timeouts, Tls
    from taskflow.core.errors import ConfigurationError

    if not settings.balancer_instances and not settings.balancer_config_file:
        raise ConfigurationError(
            "no instances: name them as arguments, in TASKFLOW_BALANCER_INSTANCES or in a file (--config)"
        )
    certificate, key = settings.balancer_tls_certificate, settings.balancer_tls_key
    if bool(certificate) != bool(key):
        raise ConfigurationError(
            "TASKFLOW_BALANCER_TLS_CERTIFICATE and TASKFLOW_BALANCER_TLS_KEY belong together"
        )
    if not certificate and (settings.balancer_redirect_port or settings.balancer_hsts_seconds):
        raise ConfigurationError(
            "TASKFLOW_BALANCER_REDIRECT_PORT and TASKFLOW_BALANCER_HSTS_SECONDS need a certificate"
        )
    return BalancerOptions(
        instances=settings.balancer_instances,
        config_file=Path(settings.balancer_config_file) if settings.balancer_config_file else None,
        strategy=settings.balancer_strategy,
        limits=Limits(
            max_head_bytes=settings.balancer_max_head_bytes,
            max_headers=settings.balancer_max_headers,
            max_target_bytes=settings.balancer_max_target_bytes,
            max_body_bytes=settings.balancer_max_body_bytes,
            max_connections=settings.balancer_max_connections,
            max_client_connections=settings.balancer_max_client_connections,
        ),
        timeouts=Timeouts(
            connect=settings.balancer_connect_timeout_seconds,
            head=settings.balancer_head_timeout_seconds,
            first_byte=settings.balancer_first_byte_timeout_seconds,
            idle=settings.balancer_idle_timeout_seconds,
            request=settings.balancer_request_timeout_seconds,
            keep_alive=settings.balancer_keep_alive_seconds,
            instance_keep_alive=settings.balancer_instance_keep_alive_seconds,
            tunnel=settings.balancer_tunnel_timeout_seconds,
            drain=settings.balancer_drain_seconds,
        ),
        health=HealthCheck(
            path=settings.balancer_health_path,
            interval=settings.balancer_health_interval_seconds,
            timeout=settings.balancer_health_timeout_seconds,
            rise=settings.balancer_rise,
            fall=settings.balancer_fall,
            max_failures=settings.balancer_max_failures,
            slow_start=settings.balancer_slow_start_seconds,
        ),
        trusted_proxies=settings.balancer_trusted_proxies,
        tls=(
            Tls(Path(certificate), Path(key), settings.balancer_tls_minimum)
            if certificate
            else None
        ),
        hsts_seconds=settings.balancer_hsts_seconds,
        admin_token=settings.balancer_admin_token,
        access_log=settings.balancer_access_log,
    )
