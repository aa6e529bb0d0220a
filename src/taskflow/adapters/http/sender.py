"""HttpSender for URLs that users name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from taskflow.ports.http import HttpAnswer

if TYPE_CHECKING:
    from taskflow.adapters.http.exchange import Exchange


class VettedHttpSender:
    """HttpSender that reaches the public internet only, unless ``allow_private``.

    http and https; no credentials in the URL, no proxies, no cookies, no compression, one connection per request.
    ``resolve`` looks names up (default: the system). The rules are those of OWASP's SSRF prevention cheat sheet.
    Thread safe.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        max_body_bytes: int,
        resolve: Callable[[str, int], list[str]] | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._max_body_bytes = max_body_bytes
        self._resolve = resolve

    @cached_property
    def _exchange(self) -> Exchange:
        # httpx and httpcore cost 0.14 s and 8 MiB: apps that send no requests do not pay them.
        from taskflow.adapters.http.connections import resolve
        from taskflow.adapters.http.exchange import Exchange

        return Exchange(
            allow_private=self._allow_private,
            max_body_bytes=self._max_body_bytes,
            resolve=self._resolve or resolve,
        )

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
    ) -> HttpAnswer:
        return self._exchange.send(
            method, url, headers=headers, body=body, timeout_seconds=timeout_seconds
        )
