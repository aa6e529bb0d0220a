"""The handlers that TaskFlow brings along."""

from __future__ import annotations

from pydantic import Field


class Handlers:
    """http_request and email."""

    # Built-in handlers
    http_allow_private: bool = Field(
        False, description="Let http_request reach private and loopback addresses"
    )
    http_max_response_bytes: int = Field(
        2**19,
        ge=1,
        description="Most of an answer that http_request reads; less than max_payload_bytes, it is a result",
    )
    http_max_redirects: int = Field(
        3, ge=0, le=20, description="Most redirects that http_request follows, if it is asked to"
    )
    smtp_url: str = Field(
        "", description="smtp://user:password@host:587; empty: mail goes into the home's mailbox"
    )
    email_from: str = Field("taskflow@localhost", description="Sender of mail by the email handler")
