"""Heads read and written: framing, forwarding, and nothing in between that two programs could take differently."""

from __future__ import annotations

import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.balancer.chunked import ChunkedBody
from taskflow.balancer.forwarding import Peer, TrustedProxies
from taskflow.balancer.framing import FramingError
from taskflow.balancer.problems import RefusedError
from taskflow.balancer.request_head import RequestFields, check_target, read_fields
from taskflow.balancer.response_head import (
    UNTIL_CLOSE,
    InvalidAnswerError,
    client_head,
    read_response_head,
)
from taskflow.balancer.websocket import FrameCounter
from taskflow.core.errors import ConfigurationError

STRANGER = Peer("203.0.113.7", scheme="https", trusted=False)
PROXY = Peer("10.0.0.1", scheme="http", trusted=True)


def fields(*lines: bytes, peer: Peer = STRANGER, minor: int = 1) -> RequestFields:
    block = b"".join(line + b"\r\n" for line in (b"Host: example.com", *lines))
    return read_fields(block, minor=minor, peer=peer, max_count=100)


def forwarded(*lines: bytes, peer: Peer = STRANGER) -> dict[str, str]:
    text = (fields(*lines, peer=peer).forward + b"id\r\n").decode("latin-1")
    pairs = [line.split(": ", 1) for line in text.splitlines()]
    assert len({name.lower() for name, _ in pairs}) == len(pairs), text
    return dict((name, value) for name, value in pairs)  # noqa: C402 - pairs are lists


def test_a_strangers_claims_are_replaced() -> None:
    told = forwarded(
        b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: ftp", b"X-Forwarded-Host: evil", b"Forwarded: for=1.1.1.1",
        b"X-Real-IP: 1.1.1.1", b"X_Forwarded_For: 1.1.1.1", b"X-Forwarded-Prefix: /admin",
    )  # fmt: skip
    assert told == {
        "Host": "example.com",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "example.com",
        "Forwarded": 'for=203.0.113.7;proto=https;host="example.com"',
        "Via": "1.1 taskflow",
        "X-Request-ID": "id",
    }


def test_a_trusted_proxys_claims_are_kept_and_extended() -> None:
    told = forwarded(
        b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2", b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: shop", b"Forwarded: for=1.1.1.1", b"X-Forwarded-Port: 443",
        b"X-Real-IP: 1.1.1.1", peer=PROXY,
    )  # fmt: skip
    assert told["X-Forwarded-For"] == "1.1.1.1, 2.2.2.2, 10.0.0.1"
    assert told["X-Forwarded-Proto"] == "https"
    assert told["X-Forwarded-Host"] == "shop"
    assert told["Forwarded"] == 'for=1.1.1.1, for=10.0.0.1;proto=http;host="example.com"'
    assert told["x-forwarded-port"] == "443"
    assert told["x-real-ip"] == "1.1.1.1", "nothing of ours says this one, so it is passed on"


def test_an_ipv6_address_is_quoted_where_it_must_be() -> None:
    told = forwarded(peer=Peer("2001:db8::1", scheme="http", trusted=False))
    assert told["X-Forwarded-For"] == "2001:db8::1"
    assert told["Forwarded"].startswith('for="[2001:db8::1]";')


def test_trusted_proxies_are_addresses_and_networks() -> None:
    trusted = TrustedProxies(["10.0.0.0/8", "::1"])
    assert "10.1.2.3" in trusted
    assert "::ffff:10.1.2.3" in trusted
    assert "::1" in trusted
    assert "11.0.0.1" not in trusted
    assert "unknown" not in trusted
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES"):
        TrustedProxies(["10.0.0.0/33"])


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        (b"abc-1.2_3", b"abc-1.2_3"),
        (b"a b", None),
        (b"", None),
        (b"x" * 129, None),
        (b"\xe4", None),
    ],
)
def test_a_request_id_is_kept_when_it_is_fit(given_id: bytes, kept: bytes | None) -> None:
    assert fields(b"X-Request-ID: " + given_id).request_id == kept


def test_what_connection_names_is_dropped() -> None:
    told = forwarded(b"Connection: keep-alive, X-Mine", b"X-Mine: 1", b"X-Yours: 2")
    assert "X-Mine" not in told
    assert told["X-Yours"] == "2"


@pytest.mark.parametrize(
    ("method", "target", "passed"),
    [
        (b"GET", b"/a?b", b"/a?b"), (b"OPTIONS", b"*", b"*"), (b"GET", b"http://example.com/a?b", b"/a?b"),
        (b"GET", b"HTTP://EXAMPLE.com", b"/"), (b"GET", b"http://example.com?q=/x", b"/?q=/x"),
        (b"OPTIONS", b"http://example.com", b"*"), (b"OPTIONS", b"http://example.com/", b"/"),
        (b"OPTIONS", b"http://example.com?q", b"/?q"),
    ],
)  # fmt: skip
def test_targets_become_paths(method: bytes, target: bytes, passed: bytes) -> None:
    assert check_target(method, target, b"example.com") == passed


ANSWER = b"HTTP/1.1 200 OK\r\nX-A: b\r\n"


@pytest.mark.parametrize(
    ("head", "is_head", "body", "close"),
    [
        (ANSWER + b"Content-Length: 5\r\n\r\n", False, 5, False),
        (ANSWER + b"Content-Length: 5\r\n\r\n", True, 0, False),
        (ANSWER + b"Transfer-Encoding: chunked\r\n\r\n", False, -1, False),
        (ANSWER + b"\r\n", False, UNTIL_CLOSE, True),
        (ANSWER + b"Connection: close\r\nContent-Length: 0\r\n\r\n", False, 0, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", False, 1, True),
        (
            b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
            False,
            1,
            False,
        ),
        (b"HTTP/1.1 204 \r\n\r\n", False, 0, False),
        (b"HTTP/1.1 304\r\nContent-Length: 9\r\n\r\n", False, 0, False),
    ],
)
def test_how_long_an_answer_is(head: bytes, is_head: bool, body: int, close: bool) -> None:
    answer = read_response_head(head, is_head=is_head)
    assert (answer.body, answer.close) == (body, close)


TOKENS = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).filter(lambda value: h11_accepts(value))
NAMES_OF_OURS = {
    b"connection", b"content-length", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
    b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"x-request-id",
}  # fmt: skip


def h11_accepts(value: bytes) -> bool:
    return all(
        byte == 9 or 32 <= byte < 127 or byte > 127 for byte in value
    ) and value == value.strip(b" \t")


@given(headers=st.lists(st.tuples(TOKENS, VALUES), max_size=6), status=st.integers(200, 599))
def test_h11_reads_the_written_answer_as_the_instance_meant_it(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    block = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    head = b"HTTP/1.1 %d X\r\nContent-Length: 3\r\n%b\r\n" % (status, block)
    if any(name.lower() in NAMES_OF_OURS for name, _ in headers):
        return
    answer = read_response_head(head, is_head=False)
    written = client_head(answer, chunked=False, request_id=b"id", connection=b"", extra=b"")
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(written + b"abc")
    read = reader.next_event()
    assert isinstance(read, h11.Response)
    assert read.status_code == status
    kept = [
        (name, value)
        for name, value in read.headers
        if name not in {b"content-length", b"via", b"x-request-id"}
    ]
    assert kept == [(name.lower(), value) for name, value in headers if name.lower() != b"via"]


@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_reading_of_heads(data: bytes) -> None:
    with contextlib.suppress(RefusedError):
        read_fields(data, minor=1, peer=STRANGER, max_count=10)
    with contextlib.suppress(InvalidAnswerError):
        read_response_head(data, is_head=False)


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@given(
    chunks=CHUNKS,
    cuts=st.lists(st.integers(1, 9), max_size=60),
    rest=st.binary(max_size=9),
    upper=st.booleans(),
)
def test_chunks_cut_anywhere_are_followed_to_their_end(
    chunks: list[bytes], cuts: list[int], rest: bytes, upper: bool
) -> None:
    size = b"%X" if upper else b"%x"
    framed = b"".join(size % len(chunk) + b";e=1\r\n" + chunk + b"\r\n" for chunk in chunks)
    framed += b"0\r\nX-T: 1\r\n\r\n"
    data, body, payload, position = framed + rest, ChunkedBody(), list[bytes](), 0
    pieces = iter(cuts)
    while not body.done:
        step = next(pieces, 1_000)
        piece = data[position : position + step]
        position += body.feed(piece, 0, payload)
    assert data[position:] == rest
    assert b"".join(payload) == b"".join(chunks)
    assert body.payload_bytes == len(b"".join(chunks))


@given(data=st.binary(max_size=80), cuts=st.lists(st.integers(1, 5), max_size=80))
def test_how_chunks_are_cut_decides_nothing(data: bytes, cuts: list[int]) -> None:
    def read(steps: list[int]) -> tuple[str, bytes]:
        body, payload, position = ChunkedBody(), list[bytes](), 0
        pieces = iter(steps)
        try:
            while position < len(data) and not body.done:
                piece = data[position : position + next(pieces, 1_000)]
                position += body.feed(piece, 0, payload)
        except FramingError:
            return "refused", b""
        return ("done" if body.done else "open"), b"".join(payload)

    whole, cut = read([]), read(cuts)
    if "open" not in {whole[0], cut[0]}:
        assert whole[0] == cut[0]
    if whole[0] == "done":
        assert whole == cut


LENGTHS = st.integers(0, 300) | st.sampled_from([65_535, 65_536, 70_000])


@given(lengths=st.lists(LENGTHS, max_size=5), masked=st.booleans(), cut=st.integers(1, 9))
def test_frames_end_where_they_end(lengths: list[int], masked: bool, cut: int) -> None:
    frames = [frame(length, masked) for length in lengths]
    counter, data = FrameCounter(), b"".join(frames)
    for position in range(0, len(data), cut * 1_000 if len(data) > 10_000 else cut):
        step = cut * 1_000 if len(data) > 10_000 else cut
        counter.feed(data[position : position + step])
    assert counter.at_boundary
    if frames:
        counter.feed(data[:1])
        assert not counter.at_boundary
        assert counter.up_to_boundary(data[1:]) == len(frames[0]) - 1


def frame(length: int, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    if length < 126:
        head = bytes([0x81, bit | length])
    elif length < 65_536:
        head = bytes([0x81, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x81, bit | 127]) + length.to_bytes(8, "big")
    return head + (b"mask" if masked else b"") + bytes(length)
