"""`http_request`: one HTTP request to the public internet; an answer other than 2xx is a failed attempt."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from email.message import Message
from itertools import count
from typing import Annotated, Any, Literal
from urllib.parse import urljoin, urlsplit

from pydantic import Field, JsonValue

import taskflow
from taskflow.core import jsontext
from taskflow.core.context import TaskContext
from taskflow.core.errors import InvalidJSONError
from taskflow.core.http_answers import retry_after_of
from taskflow.ports.http import HttpAnswer, HttpSender

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
MAX_TIMEOUT_SECONDS = 3_600.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_METHOD_KEPT = frozenset({307, 308})
_KEPT_ACROSS_ORIGINS = frozenset({"accept", "accept-language", "content-type", "user-agent"})


class HttpStatusError(Exception):
    """The server answered, but not with success. Retried or not by its status and its Retry-After."""

    def __init__(self, method: str, url: str, answer: HttpAnswer, why: str = "") -> None:
        super().__init__(f"{method} {_without_query(url)} answered {answer.status_code}{why}")
        self.status_code = answer.status_code
        self.response = answer
        self.retry_after_seconds = retry_after_of(answer.headers)


class UnfollowedRedirectError(HttpStatusError, ValueError):
    """A redirect that must not be followed, or one too many. Sending the same request again would not help."""


def http_request_handler(http: HttpSender, *, max_redirects: int) -> Callable[..., dict[str, Any]]:
    """The handler; requests go through ``http``, which decides what may be reached."""

    def http_request(
        ctx: TaskContext,
        url: str,
        method: Method = "GET",
        headers: dict[str, str] | None = None,
        json: JsonValue = None,
        body: str | None = None,
        timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS)] = 30.0,
        follow_redirects: bool = False,
    ) -> dict[str, Any]:
        """Send ``json`` or ``body`` (text) to ``url``; all of it within ``timeout`` seconds.

        Returns ``status_code``, ``url``, ``headers`` (lower-case names) and ``body``, which is parsed JSON, text or
        base64, as ``encoding`` says; ``truncated`` when it was over TASKFLOW_HTTP_MAX_RESPONSE_BYTES. Raises
        HttpStatusError unless the status is 2xx, ConnectionError, TimeoutError, InvalidRequestError. At most
        TASKFLOW_HTTP_MAX_REDIRECTS are followed, each to an address that is checked anew, never from https to http.
        Requests that may change something carry the task's id as ``Idempotency-Key``, since an attempt may be repeated;
        all carry the task's ``traceparent``, if it has one.
        """
        if json is not None and body is not None:
            raise ValueError("give either json or body")
        ends = time.monotonic() + min(timeout, ctx.seconds_left)
        content = body.encode() if body is not None else None
        sent = {"User-Agent": f"taskflow/{taskflow.__version__}", **(headers or {})}
        if json is not None:
            content = jsontext.dumps(json).encode()
            sent = {"Content-Type": "application/json", **sent}
        if method not in ("GET", "HEAD", "OPTIONS"):
            sent = {"Idempotency-Key": ctx.task_id, **sent}
        if ctx.traceparent is not None and "traceparent" not in map(str.lower, sent):
            sent["traceparent"] = ctx.traceparent
        verb: str = method
        for redirects in count():
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{_without_query(url)} did not answer within {timeout:g} s")
            answer = http.send(verb, url, headers=sent, body=content, timeout_seconds=left)
            if 200 <= answer.status_code < 300:
                return _result(url, answer)
            target = answer.headers.get("location")
            if not follow_redirects or answer.status_code not in _REDIRECTS or not target:
                break
            if redirects == max_redirects:
                why = f", and TASKFLOW_HTTP_MAX_REDIRECTS allows only {max_redirects} redirects"
                raise UnfollowedRedirectError(verb, url, answer, why)
            url, sent = _redirected(verb, url, target, sent, answer)
            if answer.status_code not in _METHOD_KEPT and verb != "HEAD":
                verb, content = "GET", None
                sent = {
                    name: value for name, value in sent.items() if name.lower() != "content-type"
                }
        error = UnfollowedRedirectError if 300 <= answer.status_code < 400 else HttpStatusError
        raise error(verb, url, answer)

    return http_request


def _redirected(
    method: str, url: str, target: str, headers: Mapping[str, str], answer: HttpAnswer
) -> tuple[str, dict[str, str]]:
    """Where the redirect leads, and what may be sent there: credentials stay with the origin they were meant for."""
    new = urljoin(url, target)
    before, after = urlsplit(url), urlsplit(new)
    if before.scheme == "https" and after.scheme != "https":
        raise UnfollowedRedirectError(method, url, answer)
    if (before.scheme, before.netloc) == (after.scheme, after.netloc):
        return new, dict(headers)
    return new, {
        name: value for name, value in headers.items() if name.lower() in _KEPT_ACROSS_ORIGINS
    }


def _result(url: str, answer: HttpAnswer) -> dict[str, Any]:
    encoding, body = _decoded(answer)
    result = {
        "status_code": answer.status_code,
        "url": url,
        "headers": {name.lower(): value for name, value in answer.headers.items()},
        "encoding": encoding,
        "body": body,
    }
    return {**result, "truncated": True} if answer.truncated else result


def _decoded(answer: HttpAnswer) -> tuple[str, JsonValue]:
    kind = Message()
    kind["content-type"] = answer.headers.get("content-type", "application/octet-stream")
    subtype = kind.get_content_subtype()
    if subtype == "json" or subtype.endswith("+json"):
        try:
            return "json", jsontext.loads(answer.body)
        except InvalidJSONError:
            pass  # cut off, or mislabelled: it is still text
    try:
        text = answer.body.decode(kind.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        text = "\x00"
    if "\x00" in text:
        return "base64", base64.b64encode(answer.body).decode()
    return "text", text


def _without_query(url: str) -> str:
    """Queries often carry keys; errors are stored and shown."""
    return url.partition("?")[0].partition("#")[0]
