"""Messages that two programs could read in two ways: each is refused, or passed on so that there is one way left.

Every case goes raw to the balancer and to Nginx, in front of the same kind of instance, which reads with a third parser
(h11). Where Nginx refuses, the balancer refuses; where it is more lenient than Nginx, this table says why.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.balancer import BalancerProcess, balancing, converse
from tests.support.instance import Instance, running
from tests.support.server import free_port

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
PASSED = "passed"
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


class Case(NamedTuple):
    name: str
    request: bytes
    ours: int  # the status; 200: passed on
    nginx: int | None = None  # another status of Nginx's; None: the same
    why: str = ""  # where Nginx refuses and we do not


def head(
    *lines: bytes, target: bytes = b"/echo", method: bytes = b"POST", host: bytes = b"Host: a"
) -> bytes:
    return b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", *([host] if host else []), *lines, b"", b""]
    )


def chunked(body: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked") + body


CASES = [
    # the length of a body
    Case("both lengths", head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN, 400),
    Case("both lengths, other order", head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n" + HIDDEN, 400),
    Case("two different lengths", head(b"Content-Length: 5", b"Content-Length: 0") + b"hello", 400),
    Case("the same length twice", head(b"Content-Length: 5", b"Content-Length: 5") + b"hello", 400),
    Case("a list of lengths", head(b"Content-Length: 5, 5") + b"hello", 400),
    Case("a length with a sign", head(b"Content-Length: +5") + b"hello", 400),
    Case("a negative length", head(b"Content-Length: -5") + b"hello", 400),
    Case("a hexadecimal length", head(b"Content-Length: 0x5") + b"hello", 400),
    Case("a length with an underscore", head(b"Content-Length: 1_0") + b"hellohello", 400),
    Case("an empty length", head(b"Content-Length: ") + HIDDEN, 400),
    Case("a length in words", head(b"Content-Length: five") + b"hello", 400),
    Case("a length beyond 64 bit", head(b"Content-Length: 18446744073709551621") + b"hello", 400),
    Case("a length with leading zeros", head(b"Content-Length: 0005") + b"hello", 200),
    Case("chunked twice", head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    Case("chunked twice in one line", head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n", 400, 501),
    Case("chunked then identity", head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n", 400, 501),
    Case("identity", head(b"Transfer-Encoding: identity") + b"hello", 400, 501),
    Case("another coding before chunked", head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    Case("a coding that only looks like chunked", head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n", 400, 501),
    Case("chunked in quotes", head(b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n", 400, 501),
    Case("chunked with a parameter", head(b"Transfer-Encoding: chunked;a=b") + b"0\r\n\r\n", 400, 501),
    Case("an empty coding", head(b"Transfer-Encoding: ") + b"0\r\n\r\n", 400, 501),
    Case("chunked after a vertical tab", head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n", 400, 501),
    Case("capitals in chunked", head(b"Transfer-Encoding: CHUNKED") + b"5\r\nhello\r\n0\r\n\r\n", 200),
    Case("chunked in HTTP/1.0", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400),
    # chunks
    Case("a good chunk", chunked(b"5\r\nhello\r\n0\r\n\r\n"), 200),
    Case("a chunk that is longer than it says", chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a chunk that is shorter than it says", chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400, 200),
    Case("a size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a size with a sign", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a negative size", chunked(b"-1\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a size with an underscore", chunked(b"1_0\r\nhellohellohello!\r\n0\r\n\r\n"), 400),
    Case("a size beyond 64 bit", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    Case("an empty size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a space before the size", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a space after the size", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400, 200),
    Case("a size line that ends in LF", chunked(b"5\nhello\r\n0\r\n\r\n"), 400, 200),
    Case("chunk data that ends in LF", chunked(b"5\r\nhello\n0\r\n\r\n"), 400, 200),
    Case("a last chunk that ends in LF", chunked(b"5\r\nhello\r\n0\n\n"), 400, 200),
    Case("an extension", chunked(b'5;a=b;c="d e"\r\nhello\r\n0\r\n\r\n'), 200),
    Case("an extension with LF", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    Case("an extension with CR", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    Case("an extension without an end", chunked(b"5;" + b"a" * 100_000), 400),
    Case("a trailer", chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), 200),
    Case("a trailer that is no header", chunked(b"5\r\nhello\r\n0\r\nnothing\r\n\r\n"), 400, 200),
    Case("a length as trailer", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"), 400, 200),
    # lines of the head
    Case("lines that end in LF", b"POST /echo HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello", 400, 200),
    Case("one line that ends in LF", b"POST /echo HTTP/1.1\r\nHost: a\nContent-Length: 5\r\n\r\nhello", 400, 200),
    Case("an empty line of LF alone", b"GET /echo HTTP/1.1\r\nHost: a\r\n\n" + HIDDEN, 400, 200),
    Case("a CR inside a value", head(b"X-A: b\rContent-Length: 5") + b"hello", 400),
    Case("a CR instead of CRLF", b"POST /echo HTTP/1.1\rHost: a\r\n\r\n", 400),
    Case("obs-fold", head(b"X-A: b", b" c"), 400),
    Case("obs-fold with a tab", head(b"X-A: b", b"\tContent-Length: 5") + b"hello", 400),
    Case("obs-fold of a coding", head(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n", 400),
    Case("a space before the first header", b"GET /echo HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    Case("a space before the colon", head(b"Content-Length : 5") + b"hello", 400),
    Case("a tab before the colon", head(b"Transfer-Encoding\t: chunked") + b"0\r\n\r\n", 400),
    Case("a space inside a name", head(b"X A: b"), 400),
    Case("no name", head(b": b"), 400),
    Case("no colon", head(b"nonsense"), 400, 200),
    Case("NUL in a value", head(b"X-A: b\0c"), 400),
    Case("NUL in a name", head(b"X-\0A: b"), 400),
    Case("a control character in a value", head(b"X-A: b\x01c"), 400, 200),
    Case("DEL in a value", head(b"X-A: b\x7fc"), 400, 200),
    Case("a name that is no token", head(b"X-(A): b"), 400, 200),
    Case("a name beyond ASCII", head("X-Ä: b".encode()), 400, 200),
    Case("a value beyond ASCII", head(b"X-A: \xe4\xff"), 200),
    Case("an underscore instead of a dash", head(b"Content_Length: 5", b"Transfer_Encoding: chunked"), 200),
    # the request line
    Case("two spaces", b"GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n", 400, 200),
    Case("a tab", b"GET\t/echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Case("a space at the end", b"GET /echo HTTP/1.1 \r\nHost: a\r\n\r\n", 400, 200),
    Case("a space in the target", b"GET /e cho HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Case("no version", b"GET /echo\r\nHost: a\r\n\r\n", 400),
    Case("HTTP/0.9", b"GET /echo\r\n\r\n", 400, None),
    Case("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 400),
    Case("HTTP/1.2", b"GET /echo HTTP/1.2\r\nHost: a\r\n\r\n", 505, 200),
    Case("HTTP/1.01", b"GET /echo HTTP/1.01\r\nHost: a\r\n\r\n", 400, 200),
    Case("another protocol", b"GET /echo XTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Case("a version in small letters", b"GET /echo http/1.1\r\nHost: a\r\n\r\n", 400),
    Case("a method in small letters", head(method=b"get"), 400),
    Case("a method that is no token", head(method=b"G(T"), 400),
    Case("CONNECT", head(method=b"CONNECT", target=b"a:80"), 405, 400),
    Case("TRACE", head(method=b"TRACE"), 405),
    Case("a target beyond ASCII", head(target=b"/\xe4"), 400, 502),
    Case("a fragment", head(target=b"/echo#a"), 400, 200),
    Case("NUL in the target", head(target=b"/ec\0ho"), 400),
    Case("a target without a slash", head(target=b"echo"), 400),
    Case("an absolute target", head(target=b"http://a/echo", method=b"GET"), 200),
    Case("an absolute target of another host", head(target=b"http://b/echo", method=b"GET"), 400, 200),
    Case("an absolute target of another scheme", head(target=b"ftp://a/echo", method=b"GET"), 400, 200),
    Case("OPTIONS *", head(target=b"*", method=b"OPTIONS"), 200, 400, "RFC 9112 §3.2.4 has it"),
    Case("GET *", head(target=b"*", method=b"GET"), 400),
    Case("one empty line before", b"\r\n" + head(method=b"GET"), 200),
    Case("many empty lines before", b"\r\n" * 50 + head(method=b"GET"), 400, 200),
    # hosts
    Case("no host", b"GET /echo HTTP/1.1\r\n\r\n", 400),
    Case("two hosts", head(b"Host: b"), 400),
    Case("the same host twice", head(b"Host: a"), 400),
    Case("a host with a slash", head(host=b"Host: a/b"), 400),
    Case("a host with a space", head(host=b"Host: a b"), 400),
    Case("a host with an at sign", head(host=b"Host: a@b"), 400, 200),
    Case("a list of hosts", head(host=b"Host: a,b"), 400, 200),
    Case("an address as host", head(host=b"Host: [::1]:80", method=b"GET"), 200),
    # what goes between neighbours
    Case("Connection names the length", head(b"Content-Length: 5", b"Connection: Content-Length") + b"hello", 400, 200),
    Case("Connection names the host", head(b"Connection: close, Host"), 400, 200),
    Case("an unknown expectation", head(b"Expect: 200-ok"), 417, 200),
    # sizes
    Case("a head that is too large", head(b"X-A: " + b"b" * 40_000), 431, 400),
    Case("too many headers", head(*[b"X-%d: a" % n for n in range(101)]), 431, 200),
    Case("a target that is too long", head(target=b"/" + b"a" * 9_000), 414),
    Case("a line that never ends", b"A" * 40_000, 414),
    # several requests
    Case("a body that looks like a request", head(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, 200),
    Case("garbage after a request", head(b"Content-Length: 5") + b"hello\0\0\0", 200),
]  # fmt: skip


@pytest.fixture(scope="module")
def instance_of_ours() -> Iterator[Instance]:
    with running(Instance()) as instance:
        yield instance


@pytest.fixture(scope="module")
def balancer_of_one(
    instance_of_ours: Instance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BalancerProcess]:
    with balancing(tmp_path_factory.mktemp("ours"), [instance_of_ours.url]) as balancer:
        yield balancer


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port: a plain reverse proxy over an instance of its own."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    assert Path(program).exists(), "needed for this test: apt-get install nginx"
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    with running(Instance()) as instance:
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = directory / "nginx.conf"
        configuration.write_text(
            f"daemon off; pid {directory}/pid; worker_processes 1; error_log {directory}/error.log;"
            f"events {{ worker_connections 256; }} http {{ access_log off; {temporary}"
            f"upstream instances {{ server 127.0.0.1:{instance.port}; keepalive 8; }}"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://instances; proxy_http_version 1.1;"
            'proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_request_buffering off; proxy_ignore_client_abort on; } } }'
        )
        with subprocess.Popen(
            [program, "-c", str(configuration), "-e", f"{directory}/error.log"]
        ) as process:
            try:
                for _ in range(500):
                    try:
                        converse(port, b"GET /ready HTTP/1.0\r\n\r\n")
                        break
                    except OSError:
                        assert process.poll() is None
                        try:
                            process.wait(0.02)
                        except subprocess.TimeoutExpired:
                            pass
                yield port
            finally:
                process.terminate()


def final_statuses(answer: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(answer) if not status.startswith(b"1")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_of_the_corpus(
    case: Case, balancer_of_one: BalancerProcess, instance_of_ours: Instance, nginx: int
) -> None:
    instance_of_ours.seen.clear()
    instance_of_ours.broken.clear()
    ours = final_statuses(converse(balancer_of_one.port, case.request))
    theirs = final_statuses(converse(nginx, case.request))
    assert ours[0] == case.ours
    assert (theirs[0] if theirs else 400) == (case.nginx or case.ours)
    if theirs and theirs[0] >= 400 and ours[0] < 400:
        assert case.why, "more lenient than Nginx without a reason"
    # Whatever was passed on, the instance read as whole requests, each of which was answered, and none was hidden.
    assert instance_of_ours.broken == []
    passed = [one for one in ours if one < 400]
    assert len(instance_of_ours.seen) == len(passed)
    assert [one.target for one in instance_of_ours.seen if one.target == "/hidden"] == []


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"get", b"TRACE", b"", b"P\0ST"])
TARGETS = st.sampled_from(
    [b"/echo", b"/", b"*", b"echo", b"http://a/echo", b"/a b", b"/\xff", b"/#"]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\0\r\n"])
NAMES = st.sampled_from(
    [b"Host", b"host", b"Content-Length", b"Content-length", b"Transfer-Encoding", b"Connection", b"Upgrade",
     b"Expect", b"X-A", b"Content_Length", b"Content-Length ", b" Content-Length", b"Transfer-Encoding\t", b"",
     b"X-Request-ID", b"Trailer", b"Keep-Alive", b"TE"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"a", b"0", b"5", b" 5", b"5 ", b"+5", b"5,5", b"00", b"chunked", b"Chunked", b" chunked ", b"gzip, chunked",
     b"identity", b"close", b"keep-alive", b"upgrade", b"100-continue", b"websocket", b"", b"\x0b", b"\xff", b"1\0"]
)  # fmt: skip
HEADERS = st.tuples(NAMES, st.sampled_from([b": ", b":", b" : ", b""]), VALUES, ENDS).map(b"".join)
BODIES = st.sampled_from(
    [b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n",
     b"ffffffffffffffffff\r\n", HIDDEN, b"\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n"]
)  # fmt: skip
GOOD = st.sampled_from([b"Host: a\r\n"] * 8 + [b""])
REQUESTS = st.builds(
    lambda method, target, version, end, host, headers, last, body: (
        method + b" " + target + b" " + version + end + host + b"".join(headers) + last + body
    ),
    METHODS, TARGETS, VERSIONS, ENDS, GOOD, st.lists(HEADERS, max_size=4), ENDS, BODIES,
)  # fmt: skip


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join))
def test_made_up_requests_are_refused_or_read_in_one_way(
    requests: bytes, balancer_of_one: BalancerProcess, instance_of_ours: Instance
) -> None:
    instance_of_ours.seen.clear()
    instance_of_ours.broken.clear()
    statuses = final_statuses(converse(balancer_of_one.port, requests))
    assert instance_of_ours.broken == []
    answered = [status for status in statuses if status < 400]
    assert len(instance_of_ours.seen) == len(answered)
    assert [status for status in statuses if status >= 500 and status not in {501, 505}] == []
    assert all(status < 400 for status in statuses[:-1]), "nothing is read after a refusal"
