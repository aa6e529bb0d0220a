"""From settings to what the balancer is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from taskflow.balancer.options import BalancerOptions, HealthCheck, Limits, Process, Timeouts, Tls
from taskflow.core.errors import ConfigurationError

if TYPE_CHECKING:
    from taskflow.settings import Settings

_Group = TypeVar("_Group", Limits, Timeouts, HealthCheck)
# Where the setting is not called as the option is.
_TIMEOUTS = {
    "connect": "connect_timeout_seconds",
    "head": "head_timeout_seconds",
    "first_byte": "first_byte_timeout_seconds",
    "idle": "idle_timeout_seconds",
    "request": "request_timeout_seconds",
    "keep_alive": "keep_alive_seconds",
    "instance_keep_alive": "instance_keep_alive_seconds",
    "tunnel": "tunnel_timeout_seconds",
    "drain": "drain_seconds",
}
_HEALTH = {
    "path": "health_path",
    "interval": "health_interval_seconds",
    "timeout": "health_timeout_seconds",
    "slow_start": "slow_start_seconds",
}


def process_of(settings: Settings) -> Process:
    """Raises ConfigurationError for settings that do not fit together."""
    return Process(
        options=_options(settings),
        host=settings.balancer_host,
        port=settings.balancer_port,
        redirect_port=settings.balancer_redirect_port,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


def _options(settings: Settings) -> BalancerOptions:
    if not settings.balancer_instances and not settings.balancer_config_file:
        raise ConfigurationError(
            "no instances: name them as arguments, in TASKFLOW_BALANCER_INSTANCES or in a file (--config)"
        )
    return BalancerOptions(
        instances=settings.balancer_instances,
        config_file=Path(settings.balancer_config_file) if settings.balancer_config_file else None,
        strategy=settings.balancer_strategy,
        limits=_group(Limits, settings, {}),
        timeouts=_group(Timeouts, settings, _TIMEOUTS),
        health=_group(HealthCheck, settings, _HEALTH),
        trusted_proxies=settings.balancer_trusted_proxies,
        tls=_tls(settings),
        hsts_seconds=settings.balancer_hsts_seconds,
        admin_token=settings.balancer_admin_token,
        access_log=settings.balancer_access_log,
    )


def _group(kind: type[_Group], settings: Settings, names: Mapping[str, str]) -> _Group:
    """Each field from the setting of its name."""
    values: dict[str, Any] = {
        field.name: getattr(settings, f"balancer_{names.get(field.name, field.name)}")
        for field in fields(kind)
    }
    return kind(**values)


def _tls(settings: Settings) -> Tls | None:
    certificate, key = settings.balancer_tls_certificate, settings.balancer_tls_key
    if bool(certificate) != bool(key):
        raise ConfigurationError(
            "TASKFLOW_BALANCER_TLS_CERTIFICATE and TASKFLOW_BALANCER_TLS_KEY belong together"
        )
    if certificate:
        return Tls(Path(certificate), Path(key), settings.balancer_tls_minimum)
    if settings.balancer_redirect_port or settings.balancer_hsts_seconds:
        raise ConfigurationError(
            "TASKFLOW_BALANCER_REDIRECT_PORT and TASKFLOW_BALANCER_HSTS_SECONDS need a certificate"
        )
    return None
