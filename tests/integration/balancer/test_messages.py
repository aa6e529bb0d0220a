"""Every kind of message HTTP/1 knows passes unchanged, apart from what a proxy has to change."""

from __future__ import annotations

import itertools
import json
import socket
from http.client import HTTPConnection

import pytest

from tests.support.balancer import BalancerProcess, connection, converse, read_until
from tests.support.instance import Instance


def seen_by(instances: list[Instance]) -> list[str]:
    return [f"{one.method} {one.target}" for instance in instances for one in instance.seen]


def test_requests_take_turns_over_the_instances(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    client = HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    bodies = []
    for _ in range(6):
        client.request("GET", "/port")
        bodies.append(client.getresponse().read().decode())
    client.close()
    assert sorted(set(bodies)) == sorted(str(instance.port) for instance in instances)
    assert all(first != second for first, second in itertools.pairwise(bodies))


def test_a_body_with_a_length_arrives_whole(balancer: BalancerProcess) -> None:
    body = bytes(range(256)) * 4_000
    client = HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    client.request("PUT", "/echo", body)
    assert client.getresponse().read() == body
    client.close()


def test_a_chunked_body_arrives_whole_with_its_trailers(balancer: BalancerProcess) -> None:
    request = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5\r\nhello\r\nA;x=y\r\n, world!!!\r\n0\r\nX-Check: 1\r\n\r\n"
    )
    answer = converse(balancer.port, request)
    assert answer.endswith(b"\r\n\r\nhello, world!!!")


def test_chunks_may_be_cut_anywhere(balancer: BalancerProcess) -> None:
    request = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    )
    with connection(balancer.port) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(request)):
            raw.sendall(request[position : position + 1])
        assert read_until(raw, b"hello!").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_chunked_answer_keeps_its_chunks_and_trailers(balancer: BalancerProcess) -> None:
    answer = converse(balancer.port, b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"6;a=b\r\nhello \r\n5\r\nworld\r\n0\r\nX-Sum: 11\r\n\r\n"


def test_a_client_of_http_1_0_gets_chunks_unpacked_and_the_end_as_a_close(
    balancer: BalancerProcess,
) -> None:
    answer = converse(balancer.port, b"GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert body == b"hello world"


def test_a_client_of_http_1_0_may_keep_its_connection(balancer: BalancerProcess) -> None:
    request = b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    with connection(balancer.port) as raw:
        for _ in range(3):
            raw.sendall(request)
            assert b"Connection: keep-alive\r\n" in read_until(raw, b"\r\n\r\n")


def test_a_client_of_http_1_0_without_a_host_is_served(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    assert converse(balancer.port, b"GET /echo HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert seen_by(instances) == ["GET /echo"]


def test_an_answer_that_ends_with_its_connection_becomes_chunks(balancer: BalancerProcess) -> None:
    client = HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    for _ in range(2):  # and the client's connection goes on
        client.request("GET", "/until-close")
        answer = client.getresponse()
        assert answer.getheader("Transfer-Encoding") == "chunked"
        assert answer.read() == b"until the end"
    client.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "length"),
    [
        ("HEAD", "/head", 200, "12345"),
        ("HEAD", "/chunked", 200, None),
        ("GET", "/no-content", 204, None),
        ("GET", "/not-modified", 304, "77"),
    ],
)
def test_answers_without_a_body_do_not_make_the_next_one_wait(
    balancer: BalancerProcess, method: str, path: str, status: int, length: str | None
) -> None:
    client = HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    for _ in range(3):
        client.request(method, path)
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Content-Length")) == (status, length)
        assert answer.read() == b""
    client.request("GET", "/until-close")
    assert client.getresponse().read() == b"until the end"
    client.close()


def test_100_continue_comes_from_the_instance_before_the_body_is_sent(
    balancer: BalancerProcess,
) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert read_until(raw, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"hello")
        assert read_until(raw, b"\r\n\r\nhello").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_refusal_instead_of_100_continue_reaches_the_client(balancer: BalancerProcess) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(
            b"POST /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n"
        )
        answer = read_until(raw, b"\r\n\r\nbig")
        assert answer.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert b"\r\nConnection: close\r\n" in answer, "the client must not keep the connection"
        assert raw.recv(1) == b"", "the body was never sent: the connection cannot go on"


def test_an_answer_that_comes_before_the_body_has_been_sent_is_not_lost(
    balancer: BalancerProcess,
) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        try:
            for _ in range(50):
                raw.sendall(bytes(10_000))
        except OSError:
            pass
        assert read_until(raw, b"\r\n\r\nbig").startswith(b"HTTP/1.1 413 Too Large\r\n")


def test_other_informational_answers_pass_and_http_1_0_sees_none(balancer: BalancerProcess) -> None:
    answer = converse(balancer.port, b"GET /hints HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"
    )
    old = converse(balancer.port, b"GET /hints HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(balancer: BalancerProcess) -> None:
    count = 200
    requests = b"".join(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%04d" % number
        if number % 3
        else b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n%04d\r\n0\r\n\r\n"
        % number
        for number in range(count)
    )
    answer = converse(balancer.port, requests, timeout=30)
    bodies = [part[:4] for part in answer.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"%04d" % number for number in range(count)]


def test_an_upgrade_to_any_protocol_becomes_a_tunnel(balancer: BalancerProcess) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(
            b"GET /shout HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nearly "
        )
        assert read_until(raw, b"HI\nEARLY ").startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        raw.sendall(b"quiet words")
        assert read_until(raw, b"QUIET WORDS")
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1) == b""


def test_an_upgrade_the_instance_declines_is_an_ordinary_answer(balancer: BalancerProcess) -> None:
    request = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"
    with connection(balancer.port) as raw:
        for _ in range(2):
            raw.sendall(request)
            assert read_until(raw, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_tunnel_into_http_2_is_not_asked_for(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    converse(
        balancer.port,
        b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    [seen] = [one for instance in instances for one in instance.seen]
    assert {"upgrade", "connection", "http2-settings"}.isdisjoint(name for name, _ in seen.headers)


def test_headers_between_neighbours_stay_between_them(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    request = (
        b"GET /hop HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n"
        b"TE: trailers\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nX-Public: 2\r\n\r\n"
    )
    head = converse(balancer.port, request).partition(b"\r\n\r\n")[0].lower()
    assert b"x-public: 2" in head
    assert b"x-private" not in head
    assert b"keep-alive:" not in head
    [seen] = [one for instance in instances for one in instance.seen]
    assert {name for name, _ in seen.headers} == {
        "host", "x-public", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via",
        "x-request-id",
    }  # fmt: skip


def test_an_instance_that_says_too_much_or_too_little_gets_502_or_a_broken_connection(
    balancer: BalancerProcess,
) -> None:
    answer = converse(balancer.port, b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"only this"), "no second answer is appended to half a first one"


def test_a_problem_of_the_balancer_reads_like_one_of_the_api(balancer: BalancerProcess) -> None:
    answer = converse(
        balancer.port, b"POST /drop?secret=1 HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\n\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/problem+json\r\n"
    )
    problem = json.loads(body)
    assert {**problem, "detail": ""} == {
        "type": "urn:taskflow:problem:instance_lost",
        "title": "The instance went away",
        "status": 502,
        "detail": "",
        "code": "instance_lost",
        "instance": "/drop",
        "request_id": "mine",
        "errors": [],
    }
