"""HTTP requests to one server: connections, repetition where it is safe, errors as TaskFlow's."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import orjson

from taskflow import __version__
from taskflow.client.problems import error_of, not_taskflow, problem_of
from taskflow.core.errors import ConfigurationError, ServerUnavailableError

_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.1
_GATEWAY_STATUS = frozenset({502, 503, 504})  # a proxy could not reach the server behind it
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
# The request has not left this machine, so it may be repeated whatever it does.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Transport:
    """Thread safe; its asynchronous half works on any number of event loops, with connections for each."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        try:
            self.url = httpx.URL(url.rstrip("/"))
        except (httpx.InvalidURL, TypeError) as exc:
            raise ConfigurationError(f"not a server address: {url!r} ({exc})") from None
        if self.url.scheme not in ("http", "https") or not self.url.host:
            raise ConfigurationError(
                f"not a server address: {url!r}; it looks like http://localhost:8000"
            )
        self._timeout_seconds = timeout_seconds
        # Making one costs 20 ms, and a plain connection needs none.
        self._tls: ssl.SSLContext | bool = (
            httpx.create_ssl_context() if self.url.scheme == "https" else False
        )
        self._http = httpx.Client(**self._options())
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        repeatable: bool,
        extra_seconds: float = 0.0,
    ) -> Any:
        """The JSON of a successful answer. ``extra_seconds`` are added to the timeout, for answers held back;
        ``body`` is JSON's values, or JSON as bytes.

        What did not reach the server is repeated a few times; with ``repeatable`` also what perhaps did. Raises the
        server's TaskFlowError, or ServerUnavailableError.
        """
        request = self._request(self._http, method, path, params, body, extra_seconds)
        return _value(self._send(request, repeatable=repeatable))

    def content(self, path: str) -> tuple[bytes, str | None]:
        """The body of a GET as it is; or, where the server says that it is elsewhere, the address."""
        answer = self._send(
            self._request(self._http, "GET", path, None, None, 0.0), repeatable=True
        )
        return answer.content, answer.headers.get("Location") if answer.is_redirect else None

    def _send(self, request: httpx.Request, *, repeatable: bool) -> httpx.Response:
        self._check_open()
        for pause in _pauses():
            try:
                return _good(self._http.send(request), last=pause is None or not repeatable)
            except (_Again, httpx.TransportError) as exc:
                self._give_up(exc, repeatable=repeatable, last=pause is None)
            assert pause is not None
            time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def get_async(self, path: str, *, params: Mapping[str, Any], extra_seconds: float) -> Any:
        """`request` of a GET, on the running event loop."""
        self._check_open()
        async with self._async_client() as http:
            request = self._request(http, "GET", path, params, None, extra_seconds)
            for pause in _pauses():
                try:
                    return _value(_good(await http.send(request), last=pause is None))
                except (_Again, httpx.TransportError) as exc:
                    self._give_up(exc, repeatable=True, last=pause is None)
                assert pause is not None
                await asyncio.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _options(self) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "timeout": self._timeout_seconds,
            "verify": self._tls,
            "limits": _NO_LIMITS,
            "headers": {"User-Agent": f"taskflow/{__version__}", "Accept": "application/json"},
        }

    def _request(
        self,
        http: httpx.Client | httpx.AsyncClient,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Any,
        extra_seconds: float,
    ) -> httpx.Request:
        return http.build_request(
            method,
            path,
            params={name: value for name, value in (params or {}).items() if value is not None},
            content=body if body is None or isinstance(body, bytes) else orjson.dumps(body),
            headers={} if body is None else {"Content-Type": "application/json"},
            timeout=self._timeout_seconds + extra_seconds,
        )

    def _give_up(self, exc: Exception, *, repeatable: bool, last: bool) -> None:
        """Raise ServerUnavailableError unless the request should be sent once more."""
        never_sent = isinstance(exc, _NEVER_SENT)
        if not last and (never_sent or repeatable):
            return
        if isinstance(exc, httpx.TimeoutException) and not never_sent:
            what = f"did not answer within {self._timeout_seconds:g} s"
        elif never_sent:
            what = f"cannot be reached ({exc})"
        else:
            what = f"broke off the connection ({exc})"
        raise ServerUnavailableError(f"the TaskFlow server at {self.url} {what}") from exc

    def _check_open(self) -> None:
        if self._http.is_closed:
            raise ServerUnavailableError(f"this Client of {self.url} is closed; make a new one")

    @asynccontextmanager
    async def _async_client(self) -> AsyncIterator[httpx.AsyncClient]:
        """One client per event loop, shared by all who wait there, closed by the last of them."""
        loop = asyncio.get_running_loop()
        shared = self._loops.get(loop)
        if shared is None:
            shared = self._loops[loop] = _Shared(httpx.AsyncClient(**self._options()))
        shared.users += 1
        try:
            yield shared.http
        finally:
            shared.users -= 1
            if not shared.users:
                self._loops.pop(loop, None)
                await shared.http.aclose()


class _Shared:
    __slots__ = ("http", "users")

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.users = 0


class _Again(Exception):  # noqa: N818 - never leaves this module
    """A gateway in front of the server answered for it."""


def _good(answer: httpx.Response, *, last: bool) -> httpx.Response:
    if answer.status_code in _GATEWAY_STATUS and not last and problem_of(answer) is None:
        raise _Again(f"status {answer.status_code}")
    if answer.status_code >= 400:
        raise error_of(answer)
    return answer


def _value(answer: httpx.Response) -> Any:
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        raise not_taskflow(answer) from None


def _pauses() -> Iterator[float | None]:
    """Seconds to wait after each attempt that failed; None after the last one."""
    for attempt in range(_ATTEMPTS - 1):
        yield _FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.0)
    yield None
