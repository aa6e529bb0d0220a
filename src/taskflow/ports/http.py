"""Sending HTTP requests on behalf of tasks: to addresses that users name, so never into our own network unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class HttpAnswer(NamedTuple):
    """``headers`` are found in any case. ``truncated``: there was more than the sender reads of a body."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False


class HttpSender(Protocol):
    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
    ) -> HttpAnswer:
        """One request, no redirects followed; a bounded part of the answer's body is read.

        ``timeout_seconds`` bounds all of it together, from the look-up of the name to the last byte read. Raises
        InvalidRequestError for a URL, header or address that is not allowed, ConnectionError or TimeoutError otherwise.
        """
        ...
