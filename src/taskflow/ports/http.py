"""Sending HTTP requests on behalf of tasks: to addresses that users name, so never into our own network unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class HttpAnswer(NamedTuple):
    status_code: int
    headers: Mapping[str, str]
    body: bytes


class HttpSender(Protocol):
    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_seconds: float
    ) -> HttpAnswer:
        """One request, no redirects followed; at most `max_body_bytes` of the answer are read.

        Raises InvalidRequestError for a URL or address that is not allowed, ConnectionError or TimeoutError otherwise.
        """
        ...
