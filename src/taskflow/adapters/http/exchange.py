"""One HTTP request over a connection whose address was vetted. Built on httpcore, which lets us choose the address."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cached_property

import httpcore
import httpx

from taskflow.adapters.http.connections import Deadline, Resolve, VettedBackend
from taskflow.core.errors import InvalidRequestError
from taskflow.ports.http import HttpAnswer

# Set by the sender itself: a caller who sets them could make two servers see two different requests.
_OWN_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
    }
)


class Exchange:
    """Sends requests. Thread safe."""

    def __init__(self, *, allow_private: bool, max_body_bytes: int, resolve: Resolve) -> None:
        self._allow_private = allow_private
        self._max_body_bytes = max_body_bytes
        self._resolve = resolve

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpcore.default_ssl_context()  # takes hundredths of a second: once

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
    ) -> HttpAnswer:
        target = _parse(url)
        deadline = Deadline(timeout_seconds)
        request = httpcore.Request(
            method.encode("ascii"),
            httpcore.URL(
                scheme=target.raw_scheme,
                host=target.raw_host,
                port=target.port,
                target=target.raw_path or b"/",
            ),
            headers=_headers(headers, target, body),
            content=body or b"",
            extensions={
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_seconds)
            },
        )
        backend = VettedBackend(deadline, allow_private=self._allow_private, resolve=self._resolve)
        try:
            with httpcore.ConnectionPool(
                ssl_context=self._tls if target.scheme == "https" else None, network_backend=backend
            ) as pool:
                response = pool.handle_request(request)
                try:
                    return self._read(response)
                finally:
                    response.close()
        except httpcore.TimeoutException as exc:
            raise TimeoutError(
                f"{target.host} did not answer within {timeout_seconds:g} s"
            ) from exc
        except httpcore.LocalProtocolError as exc:
            raise InvalidRequestError(f"the request cannot be sent: {exc}") from exc
        except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
            raise ConnectionError(f"{target.host}: {str(exc) or type(exc).__name__}") from exc

    def _read(self, response: httpcore.Response) -> HttpAnswer:
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_body_bytes:
                break
        return HttpAnswer(
            response.status,
            httpx.Headers(response.headers),
            b"".join(chunks)[: self._max_body_bytes],
            truncated=size > self._max_body_bytes,
        )


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as exc:
        raise _refusal(f"is not a URL: {exc}") from exc
    if parsed.scheme not in ("http", "https"):
        raise _refusal("must start with http:// or https://")
    if not parsed.host:
        raise _refusal("names no host")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise _refusal("has a port that does not exist")
    if parsed.userinfo:
        raise _refusal("must not carry a user name or password; use a header")
    return parsed


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"url {message}", fields=[{"field": "url", "message": message}])


def _headers(
    headers: Mapping[str, str], target: httpx.URL, body: bytes | None
) -> list[tuple[bytes, bytes]]:
    for name in headers:
        if name.lower() in _OWN_HEADERS or name.lower().startswith("proxy-"):
            raise InvalidRequestError(
                f"header {name} cannot be set",
                fields=[{"field": "headers", "message": f"{name} cannot be set"}],
            )
    raw = [(b"Host", target.netloc)]
    try:
        raw += [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    except UnicodeEncodeError:
        raise InvalidRequestError("header names must be ASCII and values Latin-1") from None
    if body is not None:
        raw.append((b"Content-Length", b"%d" % len(body)))
    raw.append((b"Connection", b"close"))
    return raw
