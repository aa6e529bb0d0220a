"""The load balancer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from taskflow.settings.names import Names


class Balancer:
    """Its instances, limits and times."""

    # Load balancer
    balancer_host: str = Field("127.0.0.1", description="Address the balancer listens on")
    balancer_port: int = Field(
        8080, ge=0, le=65535, description="Port the balancer listens on; 0: any free one"
    )
    balancer_instances: Names = Field(
        (), description="Instances, comma-separated, e.g. http://127.0.0.1:8001"
    )
    balancer_config_file: str = Field(
        "", description="TOML file with further instances, read again on SIGHUP; empty: none"
    )
    balancer_strategy: Literal["round_robin", "least_connections"] = Field(
        "round_robin", description="Who gets the next request: round_robin or least_connections"
    )
    balancer_health_path: str = Field(
        "/health", pattern=r"^/[\x21-\x7e]*$", description="What instances are asked"
    )
    balancer_health_interval_seconds: float = Field(
        2.0, gt=0, description="From one health check of an instance to the next"
    )
    balancer_health_timeout_seconds: float = Field(
        2.0, gt=0, description="How long an instance may take to answer a health check"
    )
    balancer_rise: int = Field(2, ge=1, description="Good checks in a row that bring it back")
    balancer_fall: int = Field(3, ge=1, description="Bad checks in a row that take it out")
    balancer_max_failures: int = Field(
        3, ge=1, description="Connection errors in a row that eject an instance between two checks"
    )
    balancer_slow_start_seconds: float = Field(
        10.0, ge=0, description="How long an instance that came back gets less than its share"
    )
    balancer_connect_timeout_seconds: float = Field(
        2.0, gt=0, description="How long to wait for an instance to accept a connection"
    )
    balancer_first_byte_timeout_seconds: float = Field(
        60.0, gt=0, description="How long an instance may take to begin its answer"
    )
    balancer_idle_timeout_seconds: float = Field(
        60.0, gt=0, description="Longest silence in the middle of a request or an answer"
    )
    balancer_request_timeout_seconds: float = Field(
        3_600.0, ge=0, description="Longest exchange, apart from tunnels; 0: no limit"
    )
    balancer_head_timeout_seconds: float = Field(
        10.0, gt=0, description="How long the head of a request may take to arrive"
    )
    balancer_keep_alive_seconds: float = Field(
        75.0, gt=0, description="How long a client's connection is kept between requests"
    )
    balancer_instance_keep_alive_seconds: float = Field(
        60.0, gt=0, description="The same to instances: less than they keep it themselves"
    )
    balancer_tunnel_timeout_seconds: float = Field(
        3_600.0, ge=0, description="Longest silence in a WebSocket or another tunnel; 0: no limit"
    )
    balancer_drain_seconds: float = Field(
        30.0, ge=0, description="How long a stopping balancer lets exchanges finish"
    )
    balancer_max_head_bytes: int = Field(
        32_768, ge=512, description="Largest head of a request: its line and its headers"
    )
    balancer_max_headers: int = Field(100, ge=1, description="Most headers of a request")
    balancer_max_target_bytes: int = Field(
        8_192, ge=16, description="Longest path with query of a request"
    )
    balancer_max_body_bytes: int = Field(
        0, ge=0, description="Largest body of a request; 0: no limit but the instances'"
    )
    balancer_max_connections: int = Field(
        10_000, ge=1, description="Most connections from clients at once"
    )
    balancer_max_client_connections: int = Field(
        1_024,
        ge=0,
        description="Most of them from one address that is no trusted proxy; 0: no limit",
    )
    balancer_max_instance_connections: int = Field(
        0,
        ge=0,
        description="Most connections to one instance; 0: no limit but the one on clients",
    )
    balancer_buffer_bytes: int = Field(
        65_536,
        ge=4_096,
        description="What is read ahead for one connection, and kept of a request to send it again",
    )
    balancer_trusted_proxies: Names = Field(
        (), description="Addresses and networks whose X-Forwarded-* is believed, comma-separated"
    )
    balancer_tls_certificate: str = Field(
        "", description="File with the certificate chain (PEM): HTTPS; empty: HTTP"
    )
    balancer_tls_key: str = Field("", description="File with the certificate's key (PEM)")
    balancer_tls_minimum: Literal["1.2", "1.3"] = Field(
        "1.2", description="Lowest version of TLS: 1.2 or 1.3"
    )
    balancer_hsts_seconds: int = Field(
        0, ge=0, description="Strict-Transport-Security: max-age of HTTPS answers; 0: no header"
    )
    balancer_redirect_port: int = Field(
        0, ge=0, le=65535, description="Port that sends HTTP clients to HTTPS; 0: none"
    )
    balancer_admin_token: str = Field(
        "", description="Token for /_balancer: status, metrics, instances; empty: switched off"
    )
    balancer_access_log: bool = Field(True, description="Log a line per request")
