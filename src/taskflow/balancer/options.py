"""What the balancer is told: plain values, from settings at the edge (`cli.balancer_settings`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

StrategyName = Literal["round_robin", "least_connections"]


@dataclass(frozen=True, slots=True)
class Limits:
    max_head_bytes: int = 32_768
    max_headers: int = 100
    max_target_bytes: int = 8_192
    max_body_bytes: int = 0  # 0: any
    max_connections: int = 10_000
    max_client_connections: int = 1_024  # from one address; 0: any number
    max_instance_connections: int = 0  # to one instance; 0: any number
    buffer_bytes: int = 65_536  # read ahead for one connection, kept for a retry


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. For those that may be 0, that means never."""

    connect: float = 2.0
    head: float = 10.0  # for a request's head, and a TLS handshake
    first_byte: float = 60.0
    idle: float = 60.0
    request: float = 3_600.0  # 0: never
    keep_alive: float = 75.0
    instance_keep_alive: float = 60.0  # less than Uvicorn's, so that it is we who close
    tunnel: float = 3_600.0
    drain: float = 30.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    path: str = "/health"
    interval: float = 2.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    max_failures: int = 3  # connection errors in a row that eject without waiting for a check
    slow_start: float = 10.0


@dataclass(frozen=True, slots=True)
class Tls:
    certificate: Path
    key: Path
    minimum: Literal["1.2", "1.3"] = "1.2"


@dataclass(frozen=True, slots=True)
class BalancerOptions:
    instances: tuple[str, ...] = ()
    config_file: Path | None = None
    strategy: StrategyName = "round_robin"
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    health: HealthCheck = field(default_factory=HealthCheck)
    trusted_proxies: tuple[str, ...] = ()
    tls: Tls | None = None
    hsts_seconds: int = 0
    admin_token: str = ""
    access_log: bool = True


@dataclass(frozen=True, slots=True)
class Process:
    """All that the balancer's process has to know."""

    options: BalancerOptions
    host: str
    port: int
    redirect_port: int  # 0: none
    log_level: str
    log_format: Literal["auto", "json", "console"]
