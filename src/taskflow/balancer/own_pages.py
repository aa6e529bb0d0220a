"""What the balancer answers itself, below `/_balancer`: health, status, metrics, and what an operator may change."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from taskflow import __version__
from taskflow.balancer.address import parse_address
from taskflow.balancer.problems import MEDIA_TYPE, RefusedError, answer, problem_body
from taskflow.balancer.status_page import status, status_html
from taskflow.core.errors import ConfigurationError

if TYPE_CHECKING:
    from taskflow.balancer.balancer import Balancer
    from taskflow.balancer.instances import Instance
    from taskflow.balancer.request_head import RequestFields

PREFIX = b"/_balancer"
_JSON = b"application/json"
_HTML = b"text/html; charset=utf-8"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_READS = frozenset({b"GET", b"HEAD"})


def own_page(
    shared: Balancer, method: bytes, target: bytes, fields: RequestFields, *, close: bool
) -> bytes:
    """The whole response."""
    request_id = fields.request_id or shared.new_request_id()
    path, _, query = target.partition(b"?")
    headers = (
        b"X-Request-ID: " + request_id + b"\r\nCache-Control: no-store\r\n" + shared.extra_headers
    )
    try:
        code, kind, body = _page(shared, method, path, query, fields.token)
    except RefusedError as error:
        shared.metrics.refusals[error.code] += 1
        code, kind = error.status, MEDIA_TYPE
        body = problem_body(
            error, path=path.decode("ascii", "replace"), request_id=request_id.decode()
        )
        if code == 401:
            headers += b'WWW-Authenticate: Basic realm="taskflow balancer"\r\n'
    return answer(
        code, body, content_type=kind, headers=headers, close=close, with_body=method != b"HEAD"
    )


def _page(
    shared: Balancer, method: bytes, path: bytes, query: bytes, token: bytes | None
) -> tuple[int, bytes, bytes]:
    name = path[len(PREFIX) :].rstrip(b"/")
    if name == b"/health" and method in _READS:
        state = "draining" if shared.is_draining else "ok"
        body = orjson.dumps(
            {"status": state, "version": __version__, "available": len(shared.instances.available)}
        )
        return (503 if shared.is_draining else 200), _JSON, body
    _authenticate(shared, token, with_basic=method in _READS)
    match method, name:
        case ((b"GET" | b"HEAD"), b""):
            return 200, _HTML, status_html(shared).encode()
        case ((b"GET" | b"HEAD"), b"/status"):
            return 200, _JSON, orjson.dumps(status(shared))
        case ((b"GET" | b"HEAD"), b"/metrics"):
            from taskflow.balancer.exposition import exposition

            return 200, _TEXT, exposition(shared)
        case b"POST", b"/instances":
            shared.instances.add(_url(query))
        case b"DELETE", b"/instances":
            shared.instances.remove(_known(shared, query))
        case b"POST", b"/instances/drain":
            _known(shared, query).ask_to_drain(True)
        case b"POST", b"/instances/resume":
            _known(shared, query).ask_to_drain(False)
        case b"POST", b"/reload":
            if problems := shared.reload():
                raise RefusedError("invalid_request", "; ".join(problems))
        case _, (b"" | b"/status" | b"/metrics" | b"/instances" | b"/instances/drain"
                 | b"/instances/resume" | b"/reload" | b"/health"):  # fmt: skip
            raise RefusedError("method_not_allowed", "this path knows another method")
        case _:
            raise RefusedError("not_found", "the balancer has no such page")
    return 200, _JSON, orjson.dumps(status(shared))


def _authenticate(shared: Balancer, given: bytes | None, *, with_basic: bool) -> None:
    """`Bearer TOKEN`; `Basic` with the token as password, so that a browser can show the page. Only that: browsers add
    what they know of `Basic` also to what pages of strangers have them send."""
    wanted = shared.options.admin_token
    if not wanted:
        raise RefusedError("forbidden", "switched off: TASKFLOW_BALANCER_ADMIN_TOKEN is not set")
    kind, _, credentials = (given or b"").partition(b" ")
    if kind.lower() == b"basic" and with_basic:
        try:
            _, _, credentials = base64.b64decode(credentials, validate=True).partition(b":")
        except binascii.Error:
            credentials = b""
    elif kind.lower() != b"bearer":
        credentials = b""
    if not hmac.compare_digest(credentials.strip(), wanted.encode()):
        raise RefusedError("unauthorized", "the admin token is needed (Authorization: Bearer …)")


def _url(query: bytes) -> str:
    values = parse_qs(query.decode("ascii", "replace")).get("url", [])
    if len(values) != 1:
        raise RefusedError(
            "invalid_request", "?url= names one instance, e.g. http://127.0.0.1:8001"
        )
    try:
        return parse_address(values[0]).url
    except ConfigurationError as exc:
        raise RefusedError("invalid_request", exc.detail) from None


def _known(shared: Balancer, query: bytes) -> Instance:
    instance = shared.instances.get(_url(query))
    if instance is None:
        raise RefusedError("not_found", "there is no such instance")
    return instance
