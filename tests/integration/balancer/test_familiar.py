"""What a client or an instance says again and again is recognised by its bytes, and means what it meant when read."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.support.balancer import BalancerProcess, connection, converse, read_until
from tests.support.instance import Instance

REQUEST_ID = re.compile(rb"\r\nx-request-id: ([^\r]+)\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
TAIL = b" HTTP/1.1\r\nHost: a\r\n\r\n"
REPETITIONS = 12  # more than both instances together need to be known


def ask(raw: socket.socket, request: bytes, *, body: bool = True) -> tuple[bytes, bytes]:
    """Head and body of one answer."""
    raw.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += raw.recv(65_536)
    head, _, rest = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head + b"\r\n")
    assert length is not None
    while body and len(rest) < int(length[1]):
        rest += raw.recv(65_536)
    return head + b"\r\n", rest


@pytest.fixture(params=[b"/port", b"/id"], ids=["without an id", "with the request's id"])
def path(request: pytest.FixtureRequest) -> bytes:
    """Of answers that do not say the request's id, or do."""
    found: bytes = request.param
    return found


@pytest.fixture
def raw(balancer: BalancerProcess, path: bytes) -> Iterator[socket.socket]:
    """A connection over which the same has been asked often."""
    with connection(balancer.port) as one:
        for _ in range(REPETITIONS):
            ask(one, b"GET " + path + TAIL)
        yield one


def test_each_request_has_its_own_target_and_id(
    raw: socket.socket, path: bytes, instances: list[Instance]
) -> None:
    told = {}
    for number in range(REPETITIONS):
        target = path + b"?n=%d" % number
        head, body = ask(raw, b"GET " + target + TAIL)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.lower().count(b"\r\nx-request-id: ") == 1
        assert head.count(b"\r\nVia: 1.1 taskflow\r\n") == 1
        assert body
        [told[target.decode()]] = REQUEST_ID.findall(head)
    seen = {one.target: one.header("x-request-id") for i in instances for one in i.seen}
    assert len(set(told.values())) == REPETITIONS
    assert {target: value.decode() for target, value in told.items()} == {
        target: seen[target] for target in told
    }


def test_other_requests_in_between_are_read_as_what_they_are(
    raw: socket.socket, path: bytes
) -> None:
    head, body = ask(raw, b"HEAD " + path + TAIL, body=False)
    assert (LENGTH.search(head) is not None, body) == (True, b"")
    assert ask(raw, b"GET " + path + TAIL)[1]
    _, body = ask(raw, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert body == b"hello"
    head, _ = ask(raw, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\n\r\n")
    assert REQUEST_ID.findall(head) == [b"mine"]
    _, body = ask(raw, b"GET /headers HTTP/1.1\r\nX-Mine: 1\r\nHost: a\r\n\r\n")
    assert ["x-mine", "1"] in json.loads(body)
    head, _ = ask(raw, b"GET " + path + b" HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    assert b"\r\nConnection: keep-alive\r\n" in head
    raw.sendall(b"GET " + path + TAIL + b"GET /headers" + TAIL)
    first, _, second = read_until(raw, b"]]").partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 ")
    assert first
    assert second.startswith(b"200 OK\r\n")
    head, body = ask(raw, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in head
    assert (body != b"", raw.recv(1)) == (True, b"")


@pytest.mark.parametrize(
    "start",
    [
        b"GET /a b", b"GET /\0", b"GET  /port", b"GET port", b"get /port", b"TRACE /port", b"CONNECT a:80",
        b"GET /port#x", b"", b"\r\n\r\n", b"GET /" + b"x" * 8_193, b"GET http://b/", b"GET /port HTTP/1.1\r\nX-A: b\n",
        b"GET /port HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nX-A: b",
        b"GET /port HTTP/1.1\r\nHost: b\r\nX-A: b", b"GET /port HTTP/1.1\r\nX-A: b",
    ],
    ids=lambda start: repr(start[:40]),
)  # fmt: skip
def test_what_stands_before_familiar_headers_is_read_as_strictly_as_ever(
    start: bytes, balancer: BalancerProcess
) -> None:
    fresh = converse(balancer.port, start + TAIL)
    with connection(balancer.port) as raw:
        ask(raw, b"GET /port" + TAIL)
        head, _ = ask(raw, start + TAIL, body=False)
    assert fresh.partition(b"\r\n")[0] == head.partition(b"\r\n")[0]


def test_an_answer_in_pieces_is_read_on(balancer: BalancerProcess) -> None:
    with connection(balancer.port) as raw:
        for size in (70_000, 10, 70_000, 70_000, 10, 10, 300_000, 70_000):
            assert len(ask(raw, b"GET /big?bytes=%d" % size + TAIL)[1]) == size
