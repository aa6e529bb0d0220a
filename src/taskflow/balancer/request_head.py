"""Reads a request's head strictly, and writes the one that goes to the instance."""

from __future__ import annotations

from taskflow.balancer.forwarding import CLAIMS, VIA, Peer
from taskflow.balancer.framing import FramingError, UnknownCodingError, body_length, tokens
from taskflow.balancer.grammar import FIELD, HOST, REQUEST_ID, REQUEST_LINE, complaint
from taskflow.balancer.problems import RefusedError

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})
# Between two neighbours only (RFC 9110 §7.6.1), or written anew; the rest of the headers goes on as it came.
_OURS = CLAIMS | {
    b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive",
    b"proxy-authorization", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"x-request-id",
}  # fmt: skip
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})
_NEVER_DROPPED = frozenset({b"content-length", b"host", b"transfer-encoding"})
_H2C = b"h2c"  # a tunnel into another protocol of ours, past every check here (RFC 9113 dropped it)


class RequestFields:
    """What the header lines of a request mean, apart from method and target."""

    __slots__ = (
        "body_length", "closes", "expects_continue", "forward", "host", "lead", "minor", "request_id", "token",
        "upgrade",
    )  # fmt: skip

    minor: int  # of the client's version: 0 or 1
    forward: bytes  # the lines for the instance, up to the value of X-Request-ID
    lead: bytes  # the same from the end of the target on
    host: bytes
    body_length: int | None  # -1: chunked
    closes: bool  # no further request comes over this connection
    expects_continue: bool
    upgrade: bool
    request_id: bytes | None  # given, and fit to be kept
    token: bytes | None  # Authorization


def read_fields(block: bytes, *, minor: int, peer: Peer, max_count: int) -> RequestFields:
    """The meaning of the lines between request line and empty line. Raises RefusedError."""
    found = FIELD.findall(block)
    if sum([len(field[0]) for field in found]) != len(block):
        raise RefusedError("bad_request", complaint(block))
    if len(found) > max_count:
        raise RefusedError(
            "headers_too_large", f"more than {max_count} headers (TASKFLOW_BALANCER_MAX_HEADERS)"
        )
    kept: list[tuple[bytes, bytes]] = []
    special: dict[bytes, list[bytes]] = {}
    fields = RequestFields()
    fields.token = None
    for line, name, value in found:
        lower = name.lower()
        if lower in _OURS:
            special.setdefault(lower, []).append(value.rstrip(b" \t"))
        elif b"_" in lower and lower.replace(b"_", b"-") in _OURS:
            continue  # to a CGI-minded program the same name as one that is ours to say
        else:
            kept.append((lower, line))
            if lower == b"authorization":
                fields.token = value.rstrip(b" \t")
    connection = tokens(special.get(b"connection", []))
    fields.minor = minor
    # HTTP/1.1 keeps connections without being asked.
    fields.closes = b"close" in connection or (minor == 0 and b"keep-alive" not in connection)
    if not _NEVER_DROPPED.isdisjoint(connection):
        raise RefusedError(
            "bad_request", "Connection names a header that a message cannot do without"
        )
    fields.host = _host(special.get(b"host", []), minor)
    try:
        fields.body_length = body_length(
            special.get(b"content-length", []), special.get(b"transfer-encoding", []), minor=minor
        )
    except UnknownCodingError as exc:
        raise RefusedError("not_implemented", exc.args[0]) from None
    except FramingError as exc:
        raise RefusedError("bad_request", exc.args[0]) from None
    fields.expects_continue = _expects_continue(special.get(b"expect", []), minor)
    protocols = special.get(b"upgrade", [])
    fields.upgrade = (
        minor == 1
        and b"upgrade" in connection
        and bool(protocols)
        and _H2C not in tokens(protocols)
        and not fields.body_length
    )
    [given] = special.get(b"x-request-id", [])[:1] or [b""]
    fields.request_id = given if REQUEST_ID.fullmatch(given) else None
    dropped = set(connection)
    fields.forward = b"".join(
        [
            b"Host: " + fields.host + b"\r\n" if fields.host else b"",
            *[line for lower, line in kept if lower not in dropped],
            _framing_line(fields.body_length),
            b"Expect: 100-continue\r\n" if fields.expects_continue else b"",
            b"Connection: Upgrade\r\nUpgrade: " + b", ".join(protocols) + b"\r\n"
            if fields.upgrade
            else b"",
            peer.lines(fields.host, {name: special[name] for name in special if name in CLAIMS}),
            VIA,
            b"X-Request-ID: ",
        ]
    )
    fields.lead = b"".join(
        (
            b" HTTP/1.1\r\n",
            b"" if fields.host or minor else b"Host: localhost\r\n",
            fields.forward,
        )
    )
    return fields


def _framing_line(length: int | None) -> bytes:
    if length is None:
        return b""
    return b"Transfer-Encoding: chunked\r\n" if length < 0 else b"Content-Length: %d\r\n" % length


def _host(values: list[bytes], minor: int) -> bytes:
    if len(values) > 1:
        raise RefusedError("bad_request", "Host is given several times")
    if not values:
        if minor == 1:
            raise RefusedError("bad_request", "HTTP/1.1 needs a Host")
        return b""
    if values[0] and not HOST.fullmatch(values[0]):
        raise RefusedError("bad_request", "Host is not a host name with an optional port")
    return values[0]


def _expects_continue(values: list[bytes], minor: int) -> bool:
    if not values or minor == 0:
        return False  # RFC 9110 §10.1.1: from HTTP/1.0 it is ignored
    if len(values) > 1 or values[0].lower() != b"100-continue":
        raise RefusedError("expectation_failed", "only Expect: 100-continue is known")
    return True


def check_target(method: bytes, target: bytes, host: bytes) -> bytes:
    """The target for the instance: a path, or * for OPTIONS. Raises RefusedError."""
    if method in _REFUSED_METHODS:
        raise RefusedError("method_not_allowed", f"{method.decode()} is not offered here")
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return target
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in {b"http", b"https"}:
        authority, slash, path = rest.partition(b"/")
        if b"?" in authority:
            authority, _, query = authority.partition(b"?")
            slash, path = b"/", b"?" + query + slash + path
        if authority.lower() != host.lower() or not authority:
            raise RefusedError("bad_request", "the target names another host than Host does")
        if method == b"OPTIONS" and not slash:
            return b"*"  # of the host as a whole (RFC 9112 §3.2.4)
        return b"/" + path
    raise RefusedError("bad_request", "the target is not a path")


def refuse_request_line(head: bytes) -> RefusedError:
    """Why `REQUEST_LINE` does not match."""
    line, _, _ = head.partition(b"\r\n")
    if b"\n" in line or b"\r" in line:
        return RefusedError("bad_request", "a line ends in LF or CR alone")
    parts = line.split(b" ")
    if len(parts) != 3 or not all(parts):
        return RefusedError(
            "bad_request", "the request line is not: method, space, target, space, version"
        )
    if parts[2].startswith(b"HTTP/") and parts[2] not in {b"HTTP/1.0", b"HTTP/1.1"}:
        major_minor = parts[2][5:].split(b".")
        if all(part.isdigit() and len(part) == 1 for part in major_minor):
            return RefusedError(
                "version_not_supported", "only HTTP/1.1 and HTTP/1.0 are spoken here"
            )
    if REQUEST_LINE.match(b"GET " + parts[1] + b" HTTP/1.1\r\n") is None:
        return RefusedError("bad_request", "the target has characters that are not allowed")
    if REQUEST_LINE.match(parts[0] + b" / HTTP/1.1\r\n") is None:
        return RefusedError("bad_request", "the method is not one")
    return RefusedError("bad_request", "the version is not HTTP/1.1 or HTTP/1.0")
