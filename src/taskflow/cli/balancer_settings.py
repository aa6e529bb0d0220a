"""The balancer's settings, read by a process of its own: what reads settings takes 13 MiB, and the balancer runs on.

`python -m taskflow.cli.balancer_settings` reads options of the command line as JSON, and writes what comes of them
and of the environment, or what is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from taskflow.balancer.options import BalancerOptions, HealthCheck, Limits, Timeouts, Tls
from taskflow.core.errors import ConfigurationError

if TYPE_CHECKING:
    from taskflow.settings import Settings


@dataclass(frozen=True, slots=True)
class BalancerSettings:
    options: BalancerOptions
    host: str
    port: int
    redirect_port: int
    log_level: str
    log_format: Literal["auto", "json", "console"]


def read(given: Mapping[str, Any]) -> BalancerSettings:
    """``given`` wins over the environment. Raises ConfigurationError."""
    done = subprocess.run(  # noqa: S603 - our own interpreter with our own code
        [sys.executable, "-m", __name__],
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigurationError(f"the settings could not be read (exit code {done.returncode})")
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        raise ConfigurationError(found["error"])
    return _from_json(found)


def _main() -> None:
    from taskflow.cli.connection import settings_here

    try:
        answer = _to_json(settings_here(**json.load(sys.stdin)))
    except ConfigurationError as exc:
        answer = {"error": exc.detail}
    json.dump(answer, sys.stdout, default=str)  # str: paths


def _to_json(settings: Settings) -> dict[str, Any]:
    return {
        "options": asdict(options_of(settings)),
        "host": settings.balancer_host,
        "port": settings.balancer_port,
        "redirect_port": settings.balancer_redirect_port,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
    }


def _from_json(found: dict[str, Any]) -> BalancerSettings:
    options = found.pop("options")
    file, tls = options["config_file"], options["tls"]
    return BalancerSettings(
        options=BalancerOptions(
            **{
                **options,
                "instances": tuple(options["instances"]),
                "trusted_proxies": tuple(options["trusted_proxies"]),
                "config_file": Path(file) if file is not None else None,
                "limits": Limits(**options["limits"]),
                "timeouts": Timeouts(**options["timeouts"]),
                "health": HealthCheck(**options["health"]),
                "tls": (
                    Tls(Path(tls["certificate"]), Path(tls["key"]), tls["minimum"])
                    if tls is not None
                    else None
                ),
            }
        ),
        **found,
    )


def options_of(settings: Settings) -> BalancerOptions:
    """Raises ConfigurationError for settings that do not fit together."""
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


if __name__ == "__main__":
    _main()
