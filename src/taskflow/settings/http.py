"""The API over HTTP."""

from __future__ import annotations

from pydantic import Field

from taskflow.core.addresses import reachable, url_of
from taskflow.settings.names import Names


class Http:
    """Where it listens, and how much it takes and waits."""

    # HTTP
    host: str = Field("127.0.0.1", description="Address the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0: any free one")
    url: str = Field(
        "", description="Server that the command line talks to; empty: http://host:port"
    )
    cors_origins: Names = Field(
        (), description="Origins browsers may call the API from, comma-separated; *: all"
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="Largest request body")
    max_batch_size: int = Field(
        1_000, ge=1, le=10_000, description="Most submissions in one batch request"
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        description="How long an API serves on after SIGTERM, /health saying draining; balancers need 2 checks' time",
    )
    max_wait_seconds: float = Field(30.0, ge=0, description="Longest ?wait= of GET /tasks/{id}")

    @property
    def resolved_url(self) -> str:
        return self.url or url_of(reachable(self.host), self.port)
