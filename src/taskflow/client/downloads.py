"""Reads what a server keeps elsewhere, from the addresses it gives out (presigned URLs)."""

from __future__ import annotations

import hashlib
import threading
import time

import httpx

from taskflow import __version__
from taskflow.core.errors import (
    PayloadCorruptError,
    PayloadMissingError,
    ServerUnavailableError,
)

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.2
_CHECKSUM = "x-amz-meta-taskflow-sha256"  # as `adapters.payloads.s3` writes it


class Downloads:
    """Thread safe. Connections of its own: nothing that proves to the server who we are goes to other hosts."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._opened: httpx.Client | None = None
        self._closed = False

    def get(self, url: str) -> bytes:
        """Raises PayloadMissingError for an address that works no more, PayloadCorruptError, ServerUnavailableError.

        None of them names the whole URL: who reads it in a log could use it.
        """
        host = httpx.URL(url).host
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._http().get(url)
            except httpx.TransportError as exc:
                failure = ServerUnavailableError(
                    f"{host}, where a payload is, does not answer: {exc}"
                )
            else:
                if answer.is_success:
                    return _checked(answer)
                failure = ServerUnavailableError(
                    f"{host}, where a payload is, answered {answer.status_code}"
                )
                if answer.status_code in (400, 403, 404, 410):
                    raise PayloadMissingError(
                        f"the payload cannot be read at {host} any more ({answer.status_code})"
                    )
            if attempt < _ATTEMPTS:
                time.sleep(_PAUSE_SECONDS * attempt)
        raise failure

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._opened is not None:
                self._opened.close()

    def _http(self) -> httpx.Client:
        with self._lock:
            if self._closed:
                raise ServerUnavailableError("this Client is closed; make a new one")
            if self._opened is None:  # few clients need it, and it costs 20 ms
                self._opened = httpx.Client(
                    timeout=self._timeout_seconds,
                    follow_redirects=True,
                    headers={"User-Agent": f"taskflow/{__version__}"},
                )
            return self._opened


def _checked(answer: httpx.Response) -> bytes:
    expected = answer.headers.get(_CHECKSUM)
    if expected is not None and hashlib.sha256(answer.content).hexdigest() != expected:
        raise PayloadCorruptError(f"the payload from {answer.url.host} does not match its checksum")
    return answer.content
