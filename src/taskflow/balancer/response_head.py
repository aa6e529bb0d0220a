"""Reads the head of an instance's answer, as strictly as a request's, and writes the one for the client."""

from __future__ import annotations

from taskflow.balancer.forwarding import VIA
from taskflow.balancer.framing import FramingError, body_length, tokens
from taskflow.balancer.grammar import FIELD, ORDINARY_ANSWER, STATUS_LINE, complaint

MAX_HEAD_BYTES = 65_536
UNTIL_CLOSE = -2
# Between two neighbours only, or written anew.
_OURS = frozenset(
    {
        b"connection", b"content-length", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
        b"proxy-connection", b"te", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip


class InvalidAnswerError(Exception):
    """What the instance sent cannot be passed on. ``args[0]`` says why."""


class ResponseHead:
    """``body``: bytes that follow, -1 when chunked, `UNTIL_CLOSE` when only the end of the connection tells."""

    __slots__ = ("body", "close", "has_request_id", "kept", "length", "status", "upgrade")

    status: int
    kept: bytes  # status line and header lines for the client
    body: int
    length: (
        int | None
    )  # Content-Length as given, unless `kept` says it: HEAD and 304 tell it without a body
    close: bool  # the instance will close the connection
    upgrade: bytes | None
    has_request_id: bool


def read_response_head(head: bytes, *, is_head: bool) -> ResponseHead:
    """``head`` up to and with its empty line. Raises InvalidAnswerError."""
    ordinary = ORDINARY_ANSWER.fullmatch(head)
    if ordinary is not None:
        answer = ResponseHead()
        status, one_id, length_text, other_id = ordinary.groups()
        answer.status = int(status)
        answer.body = 0 if is_head else int(length_text)
        answer.kept = head[:-2]
        answer.length = answer.upgrade = None
        answer.close = False
        answer.has_request_id = one_id is not None or other_id is not None
        return answer
    line = STATUS_LINE.match(head)
    if line is None:
        raise InvalidAnswerError("the status line is not HTTP/1")
    minor = 1 if line[1] == b"1" else 0
    start = line.end()
    found = FIELD.findall(head, start)
    if sum([len(field[0]) for field in found]) != len(head) - start - 2:
        raise InvalidAnswerError(complaint(head[start:-2]))
    answer = ResponseHead()
    answer.status = status = int(line[2])
    answer.has_request_id = False
    kept = [b"HTTP/1.1 ", line[2], b" ", line[3] or b"", b"\r\n"]
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrades: list[bytes] = []
    for whole, name, value in found:
        lower = name.lower()
        if lower not in _OURS:
            kept.append(whole)
            if lower == b"x-request-id":
                answer.has_request_id = True
        elif lower == b"content-length":
            lengths.append(value)
        elif lower == b"connection":
            connection.append(value)
        elif lower == b"transfer-encoding":
            codings.append(value)
        elif lower == b"upgrade":
            upgrades.append(value)
    named: list[bytes] = tokens(connection) if connection else []
    answer.close = b"close" in named or (minor == 0 and b"keep-alive" not in named)
    answer.upgrade = b", ".join(upgrades) if status == 101 and upgrades else None
    if named and named not in ([b"close"], [b"keep-alive"], [b"upgrade"]):
        dropped = set(named)
        kept[5:] = [
            whole
            for whole, name, _ in found
            if (low := name.lower()) not in _OURS and low not in dropped
        ]
        answer.has_request_id &= b"x-request-id" not in dropped
    answer.kept = b"".join(kept)
    try:
        length = body_length(lengths, codings, minor=minor)
    except FramingError as exc:
        raise InvalidAnswerError(exc.args[0]) from None
    answer.length = length if length is not None and length >= 0 else None
    if status < 200 or status == 204:
        answer.body, answer.length = 0, None
    elif is_head or status == 304:
        answer.body = 0
    elif length is None:
        answer.body, answer.close = UNTIL_CLOSE, True
    else:
        answer.body = length
    return answer


def client_head(
    answer: ResponseHead, *, chunked: bool, request_id: bytes, connection: bytes, extra: bytes
) -> bytes:
    """The head for the client. ``connection`` and ``extra``: whole lines."""
    length = answer.length
    return b"".join(
        (
            answer.kept,
            b"Transfer-Encoding: chunked\r\n"
            if chunked
            else b""
            if length is None
            else b"Content-Length: %d\r\n" % length,
            b"" if answer.has_request_id else b"X-Request-ID: " + request_id + b"\r\n",
            VIA,
            extra,
            connection,
            b"\r\n",
        )
    )
