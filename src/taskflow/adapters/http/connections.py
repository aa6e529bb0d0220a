"""Connections to vetted addresses only, all of whose waiting together is bounded.

The name is looked up once, here, and the connection goes to an address that was looked at: there is no second look-up
that could answer differently (DNS rebinding). httpcore keeps using the name for Host, SNI and the certificate.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from taskflow.adapters.http.addresses import is_public
from taskflow.core.errors import InvalidRequestError

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Addresses of ``host``, in the order the system prefers. Raises ConnectionError, or InvalidRequestError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise InvalidRequestError(f"{host!r} is not a host name") from None
    except OSError as exc:
        raise ConnectionError(f"{host} cannot be resolved: {exc.strerror or exc}") from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Deadline:
    """What is left of a request's time."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def within(self, timeout: float | None) -> float:
        """``timeout``, or what is left if that is less. Raises TimeoutError when nothing is."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took longer than its timeout")
        return left if timeout is None else min(timeout, left)


class VettedBackend(httpcore.NetworkBackend):
    """Connects by TCP, and unless ``allow_private`` only to hosts all of whose addresses are public."""

    def __init__(self, deadline: Deadline, *, allow_private: bool, resolve: Resolve) -> None:
        self._deadline = deadline
        self._allow_private = allow_private
        self._resolve = resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._resolve(host, port)
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise InvalidRequestError(
                f"{host} is not on the public internet; TASKFLOW_HTTP_ALLOW_PRIVATE=true allows private addresses",
                fields=[{"field": "url", "message": "leads to a private address"}],
            )
        failure: Exception = ConnectionError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._deadline.within(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
            else:
                return _BoundedStream(stream, self._deadline)
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise InvalidRequestError("unix sockets are not reachable by URL")


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.within(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(
            ssl_context, server_hostname, self._deadline.within(timeout)
        )
        return _BoundedStream(stream, self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
