"""Bodies flow through: at once, in constant memory, and no faster than the slower side."""

from __future__ import annotations

import socket

import psutil
import pytest

from tests.support.balancer import BalancerProcess, connection, read_until
from tests.support.instance import Instance
from tests.support.waiting import wait_for

MIB = 2**20
BODY_BYTES = 1024 * MIB
UNREAD_BYTES = 64 * MIB  # more than the network holds between client and instance
GROWTH_BYTES = 24 * MIB


@pytest.fixture
def memory(balancer: BalancerProcess) -> psutil.Process:
    return psutil.Process(balancer.process.pid)


def test_server_sent_events_are_not_held_back(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_until(raw, b"data: 1\n\n\r\n"), "before the instance has gone on"
        for instance in instances:
            instance.released.set()
        assert read_until(raw, b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


def test_a_large_answer_passes_in_constant_memory(
    balancer: BalancerProcess, memory: psutil.Process
) -> None:
    before = memory.memory_info().rss
    most = received = 0
    with connection(balancer.port) as raw:
        raw.sendall(b"GET /big?bytes=%d HTTP/1.1\r\nHost: a\r\n\r\n" % BODY_BYTES)
        buffer = bytearray(MIB)
        while received < BODY_BYTES:
            received += raw.recv_into(buffer)
            most = max(most, memory.memory_info().rss) if received % 7 == 0 else most
    assert max(most, memory.memory_info().rss) - before < GROWTH_BYTES


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_request_passes_in_constant_memory(
    balancer: BalancerProcess, memory: psutil.Process, chunked: bool
) -> None:
    before = most = memory.memory_info().rss
    piece = bytes(MIB)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % BODY_BYTES
    with connection(balancer.port, timeout=60) as raw:
        raw.sendall(b"POST /count HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        for _ in range(BODY_BYTES // MIB):
            raw.sendall(b"%x\r\n%b\r\n" % (MIB, piece) if chunked else piece)
            most = max(most, memory.memory_info().rss)
        if chunked:
            raw.sendall(b"0\r\n\r\n")
        assert read_until(raw, b"%d" % BODY_BYTES).startswith(b"HTTP/1.1 200 OK\r\n")
    assert most - before < GROWTH_BYTES


def test_a_client_that_does_not_read_stops_the_instance(
    balancer: BalancerProcess, instances: list[Instance], memory: psutil.Process
) -> None:
    before = memory.memory_info().rss
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw.settimeout(30)
        raw.connect(("127.0.0.1", balancer.port))
        raw.sendall(b"GET /big?bytes=%d HTTP/1.1\r\nHost: a\r\n\r\n" % BODY_BYTES)
        assert raw.recv(1)
        for _ in range(30):  # other requests go on meanwhile
            with connection(balancer.port) as other:
                other.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
                read_until(other, b"\r\n\r\n")
        assert memory.memory_info().rss - before < GROWTH_BYTES
    wait_for(lambda: any(one.gone.is_set() for one in instances), "the instance is told to stop")


def test_an_instance_that_does_not_read_a_body_stops_the_client(
    balancer: BalancerProcess, instances: list[Instance], memory: psutil.Process
) -> None:
    before = memory.memory_info().rss
    with connection(balancer.port, timeout=1) as raw:
        raw.sendall(
            b"POST /reads-late HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % UNREAD_BYTES
        )
        wait_for(lambda: any(one.arrived.is_set() for one in instances), "it has the head")
        left = _sent_until_blocked(raw, memoryview(bytes(UNREAD_BYTES)))
        assert left, "somebody has taken all of it"
        assert memory.memory_info().rss - before < UNREAD_BYTES // 8
        for instance in instances:
            instance.released.set()
        raw.settimeout(30)
        raw.sendall(left)
        assert read_until(raw, b"%d" % UNREAD_BYTES).startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_instance_that_does_not_read_stops_the_client(
    balancer: BalancerProcess, instances: list[Instance], memory: psutil.Process
) -> None:
    """A tunnel to an instance that echoes, with a client that never reads the echo: both directions fill up."""
    before = memory.memory_info().rss
    with connection(balancer.port) as raw:
        raw.sendall(
            b"GET /shout HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n"
        )
        read_until(raw, b"HI\n")
        raw.settimeout(1)
        with pytest.raises(TimeoutError):
            raw.sendall(bytes(200 * MIB))
        assert memory.memory_info().rss - before < GROWTH_BYTES


def test_a_client_that_leaves_takes_its_request_along(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        wait_for(lambda: _active(balancer) == 1, "the instance has the first half")
    wait_for(lambda: _active(balancer) == 0, "it is given up")
    assert [seen for one in instances for seen in one.seen] == [], "half a request is none"


def _sent_until_blocked(raw: socket.socket, data: memoryview) -> memoryview:
    """What is left when the other side takes no more."""
    try:
        while data:
            data = data[raw.send(data[:MIB]) :]
    except TimeoutError:
        pass
    return data


def _active(balancer: BalancerProcess) -> int:
    instances = balancer.status()["instances"]
    assert isinstance(instances, list)
    return sum(one["active"] for one in instances)
