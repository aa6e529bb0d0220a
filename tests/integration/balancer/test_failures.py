"""What happens to requests when instances die, hang or talk nonsense."""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from tests.support.balancer import (
    AUTHORIZED,
    BalancerProcess,
    balancing,
    connection,
    converse,
    read_all,
    read_until,
)
from tests.support.instance import Instance, running
from tests.support.ports import free_port
from tests.support.server import ROOT
from tests.support.waiting import wait_for

QUICK = {
    "health_interval_seconds": 0.1, "rise": 1, "slow_start_seconds": 0, "connect_timeout_seconds": 1,
}  # fmt: skip


@contextmanager
def instance_process(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.instance", str(port), str(log)], cwd=ROOT
    ) as process:
        try:
            wait_for(lambda: _listens(port), "the instance listens")
            yield process
        finally:
            process.kill()


def _listens(port: int) -> bool:
    try:
        with connection(port):
            return True
    except OSError:
        return False


def nobody() -> str:
    """An address nobody listens on."""
    return f"http://127.0.0.1:{free_port()}"


def test_an_unreachable_instance_costs_no_request_of_any_method(
    directory: Path, instance: Instance
) -> None:
    other = Instance()
    with ExitStack() as stack:
        stack.enter_context(running(other))
        # Two are asked; of one the listener is gone between two checks.
        with balancing(
            directory, [instance.url, other.url], health_interval_seconds=60
        ) as balancer:
            stack.close()
            with httpx.Client(base_url=balancer.url) as client:
                for method in ("GET", "POST", "PATCH", "DELETE") * 5:
                    assert client.request(method, "/echo").status_code == 200
            assert balancer.states()[other.url] == "down", "ejected without a health check"


def test_an_instance_that_accepts_and_resets_is_ejected(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    urls = [instance.url, other_instance.url]
    with (
        balancing(directory, urls, health_interval_seconds=60) as balancer,
        httpx.Client(base_url=balancer.url) as client,
    ):
        instance.resets = True
        connections = instance.connections
        for _ in range(20):
            assert client.get("/port").text == str(other_instance.port)
        assert balancer.states()[instance.url] == "down"
        assert instance.connections - connections == 3, "TASKFLOW_BALANCER_MAX_FAILURES"


@pytest.mark.parametrize("path", ["/echo", "/chunked", "/until-close"])
def test_answers_that_break_now_and_then_eject_nobody(
    directory: Path, instance: Instance, path: str
) -> None:
    with balancing(directory, [instance.url], health_interval_seconds=60) as balancer:
        with ExitStack() as stack:  # kept connections for all that follows: no new one is made
            waiting = [stack.enter_context(connection(balancer.port)) for _ in range(12)]
            for raw in waiting:
                raw.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: instance.connections > len(waiting), "all have one")
            instance.released.set()
            for raw in waiting:
                read_until(raw, b"waited")
        for _ in range(4):
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(f"{balancer.url}/half")
            for _ in range(2 if path == "/until-close" else 3):
                assert httpx.get(f"{balancer.url}{path}").status_code == 200
        assert balancer.states() == {instance.url: "up"}


def test_a_websocket_that_is_accepted_is_a_sign_of_life(
    directory: Path, instance: Instance
) -> None:
    with balancing(directory, [instance.url], health_interval_seconds=60) as balancer:
        for _ in range(4):
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(f"{balancer.url}/half")
            with connection(balancer.port) as raw:
                raw.sendall(
                    b"GET /shout HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n"
                )
                read_until(raw, b"HI\n")
        assert balancer.states() == {instance.url: "up"}


def test_all_instances_down_is_503_with_a_hint_when_to_come_back(directory: Path) -> None:
    with balancing(directory, [nobody(), nobody()]) as balancer:
        answer = httpx.post(f"{balancer.url}/echo", content=b"x")
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["code"] == "no_instance"


@pytest.mark.parametrize(("method", "sends"), [("GET", 2), ("PUT", 2), ("POST", 1), ("PATCH", 1)])
def test_a_connection_that_breaks_before_the_answer_repeats_idempotent_methods_only(
    directory: Path, instance: Instance, other_instance: Instance, method: str, sends: int
) -> None:
    with balancing(directory, [instance.url, other_instance.url], max_failures=9) as balancer:
        answer = httpx.request(method, f"{balancer.url}/drop", content=b"body")
        assert answer.status_code in {502, 503}
        seen = [*instance.seen, *other_instance.seen]
        assert [(one.method, one.body) for one in seen] == [(method, b"body")] * sends


def test_what_began_to_be_answered_is_not_repeated(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    partial = base64.b64encode(b"HTTP/1.1 200 OK\r\nContent-").decode()
    with balancing(directory, [instance.url, other_instance.url]) as balancer:
        answer = httpx.get(f"{balancer.url}/raw", params={"answer": partial})
        assert (answer.status_code, answer.json()["code"]) == (502, "instance_lost")
        assert len(instance.seen) + len(other_instance.seen) == 1


def test_a_kept_connection_that_the_instance_closed_is_not_used_for_a_post(
    directory: Path, instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url]) as balancer,
        httpx.Client(base_url=balancer.url) as client,
    ):
        for _ in range(20):
            assert client.get("/half-way").status_code == 200
            assert client.get("/until-close").status_code == 200  # the instance closes
            assert client.post("/echo", content=b"x").status_code == 200
        assert len([one for one in instance.seen if one.method == "POST"]) == 20


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_an_answer_that_is_not_valid_http_is_not_passed_on(
    balancer: BalancerProcess, answer: bytes
) -> None:
    encoded = base64.b64encode(answer).decode().replace("+", "%2B")
    got = converse(balancer.port, f"GET /raw?answer={encoded} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["code"] in {
        "instance_answer_invalid",
        "instance_lost",
    }


def test_a_head_without_bounds_is_not_passed_on(balancer: BalancerProcess) -> None:
    answer = httpx.get(f"{balancer.url}/large-head")
    assert (answer.status_code, answer.json()["code"]) == (502, "instance_answer_invalid")


@pytest.mark.parametrize("body", [b"5\r\nhello", b"zz\r\n", b"3\r\nhello\r\n0\r\n\r\n"])
def test_a_body_that_goes_wrong_breaks_the_clients_connection(
    balancer: BalancerProcess, body: bytes
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" + body
    encoded = base64.b64encode(answer).decode().replace("+", "%2B")
    got = converse(balancer.port, f"GET /raw?answer={encoded} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert not got.endswith(b"0\r\n\r\n"), "the client can tell that it is not whole"


def test_no_answer_in_time_is_504(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url], first_byte_timeout_seconds=0.3) as balancer:
        answer = httpx.get(f"{balancer.url}/wait")
        assert (answer.status_code, answer.json()["code"]) == (504, "instance_timeout")
        assert len(instance.seen) == 1, "a timeout is no reason to ask again"


def test_an_exchange_that_takes_too_long_in_all_is_504(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url], request_timeout_seconds=0.3) as balancer:
        assert httpx.get(f"{balancer.url}/wait").status_code == 504


def test_an_answer_that_falls_silent_breaks_off(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url], idle_timeout_seconds=0.3) as balancer:
        got = converse(balancer.port, b"GET /half-then-wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert got.endswith(b"only this")


def test_an_upload_that_goes_on_is_not_idle_though_the_answer_has_begun(
    directory: Path, instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url], idle_timeout_seconds=3) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"POST /begins-early HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
        read_until(raw, b"begun")
        raw.settimeout(0.4)
        for _ in range(8):
            with pytest.raises(TimeoutError):
                raw.recv(1)
            raw.sendall(b"x")
        raw.settimeout(30)
        assert read_until(raw, b"ended").endswith(b"ended")


def test_an_upload_that_stops_after_the_answer_has_begun_is_broken_off(
    directory: Path, instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url], idle_timeout_seconds=2) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"POST /begins-early HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
        assert read_all(raw).endswith(b"begun")


def test_an_instance_that_accepts_no_connection_costs_no_request_and_alone_it_is_504(
    directory: Path, instance: Instance
) -> None:
    with (
        _full() as full,
        balancing(
            directory,
            [instance.url],
            connect_timeout_seconds=0.3,
            max_failures=100,
            health_interval_seconds=60,
            health_timeout_seconds=30,
        ) as balancer,
        httpx.Client(base_url=balancer.url, headers=AUTHORIZED) as client,
    ):
        client.post("/_balancer/instances", params={"url": full}).raise_for_status()
        assert {client.post("/echo").status_code for _ in range(4)} == {200}
        client.delete("/_balancer/instances", params={"url": instance.url}).raise_for_status()
        answer = client.post("/echo")
        assert (answer.status_code, answer.json()["code"]) == (504, "instance_timeout")


@contextmanager
def _full() -> Iterator[str]:
    """An address whose queue of connections to be accepted is full: nobody answers, nobody refuses."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}"


def hammer(
    port: int, stop: threading.Event, outcomes: Counter[object], *, method: str, prefix: str
) -> None:
    """Requests with a number each, over one kept connection, until told to stop."""
    client = HTTPConnection("127.0.0.1", port, timeout=20)
    number = 0
    while not stop.is_set():
        number += 1
        try:
            client.request(
                method, f"/count?{prefix}-{number}", b"body" if method == "POST" else None
            )
            answer = client.getresponse()
            answer.read()
            outcomes[answer.status] += 1
        except OSError as exc:
            outcomes[type(exc).__name__] += 1
            client.close()
    client.close()


def test_kill_9_under_load_fails_no_get_and_sends_no_post_twice(directory: Path) -> None:
    ports = [free_port() for _ in range(3)]
    logs = [directory / f"instance-{port}.log" for port in ports]
    stop = threading.Event()
    gets, posts = Counter[object](), Counter[object]()
    with ExitStack() as stack:
        processes = [
            stack.enter_context(instance_process(port, log))
            for port, log in zip(ports, logs, strict=True)
        ]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        balancer = stack.enter_context(balancing(directory, urls, **QUICK))
        threads = [
            threading.Thread(
                target=hammer,
                args=(balancer.port, stop, gets if kind == "GET" else posts),
                kwargs={"method": kind, "prefix": f"{kind}{number}"},
            )
            for kind in ("GET", "POST")
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for turn in range(4):
            victim = turn % 3
            count = gets[200]
            wait_for(lambda count=count: gets[200] > count + 100, "load")  # type: ignore[misc]
            os.kill(processes[victim].pid, signal.SIGKILL)
            processes[victim].wait()
            count = gets[200]
            wait_for(lambda count=count: gets[200] > count + 100, "load goes on")  # type: ignore[misc]
            processes[victim] = stack.enter_context(instance_process(ports[victim], logs[victim]))
            wait_for(lambda: set(balancer.states().values()) == {"up"}, "it is back")
        stop.set()
        for thread in threads:
            thread.join()
    assert set(gets) == {200}
    assert set(posts) <= {200, 502}
    assert posts[502] <= 4 * 4, "at most what was in flight on the one that was killed"
    received = Counter(
        line for log in logs for line in log.read_text().splitlines() if line.startswith("POST")
    )
    assert max(received.values()) == 1
    assert posts[200] <= len(received) <= posts[200] + posts[502]


def test_an_answer_being_given_does_not_notice_that_another_instance_dies(
    directory: Path, instance: Instance
) -> None:
    port = free_port()
    other = f"http://127.0.0.1:{port}"
    with (
        instance_process(port, directory / "log") as process,
        balancing(directory, [instance.url], **QUICK) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        read_until(raw, b"data: 1\n\n\r\n")
        httpx.post(
            f"{balancer.url}/_balancer/instances", params={"url": other}, headers=AUTHORIZED
        ).raise_for_status()
        wait_for(lambda: balancer.states()[other] == "up", "it is there")
        process.kill()
        wait_for(lambda: balancer.states()[other] == "down", "it is taken out")
        instance.released.set()
        read_until(raw, b"0\r\n\r\n")


def test_having_no_files_left_is_no_fault_of_an_instance(
    directory: Path, instance: Instance
) -> None:
    rules = {"health_interval_seconds": 0.1, "health_timeout_seconds": 0.1}
    with balancing(directory, [instance.url], **rules) as balancer:
        wait_for(lambda: "up" in balancer.states().values(), "it is up")
        files = Path(f"/proc/{balancer.process.pid}/fd")
        most = len(list(files.iterdir())) + 10
        resource.prlimit(balancer.process.pid, resource.RLIMIT_NOFILE, (most, most))
        with ExitStack() as stack:
            clients = [stack.enter_context(connection(balancer.port)) for _ in range(20)]
            wait_for(lambda: len(list(files.iterdir())) >= most - 1, "its files are used up")
            for raw in clients[:5]:
                raw.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            answered = select.select(clients[:5], [], [], 10)[0]
            assert b"can be opened here" in answered[0].recv(65_536)
            select.select([], [], [], 0.5)  # for several health checks
            instance.released.set()
        assert httpx.post(f"{balancer.url}/echo", content=b"x").text == "x"
        log = balancer.log.read_text()
    assert '"state":"down"' not in log
