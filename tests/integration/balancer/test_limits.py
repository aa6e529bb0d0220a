"""Everything has a limit, and says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.balancer import balancing, connection, converse, read_all
from tests.support.instance import Instance
from tests.support.ports import free_port


def code_of(answer: bytes) -> str:
    code: str = json.loads(answer.partition(b"\r\n\r\n")[2])["code"]
    return code


def test_a_body_over_the_limit_is_413_by_its_length_and_by_its_chunks(
    directory: Path, instance: Instance
) -> None:
    with balancing(directory, [instance.url], max_body_bytes=1_000) as balancer:
        assert httpx.post(f"{balancer.url}/echo", content=b"x" * 1_000).status_code == 200
        over = httpx.post(f"{balancer.url}/echo", content=b"x" * 1_001)
        assert (over.status_code, over.json()["code"]) == (413, "payload_too_large")
        assert "TASKFLOW_BALANCER_MAX_BODY_BYTES" in over.json()["detail"]
        answer = converse(
            balancer.port,
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n"
            + b"x" * 1_000
            + b"\r\n1\r\nx\r\n0\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert [len(seen.body) for seen in instance.seen] == [1_000]


def test_connections_in_all_and_from_one_address_are_limited(
    directory: Path, instance: Instance
) -> None:
    for settings in ({"max_connections": 3}, {"max_client_connections": 3}):
        with balancing(directory, [instance.url], **settings) as balancer, ExitStack() as stack:
            for _ in range(3):
                raw = stack.enter_context(connection(balancer.port))
                raw.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
                assert raw.recv(65_536).startswith(b"HTTP/1.1 200 ")
            refused = converse(balancer.port, b"")
            assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 1\r\n" in refused
            assert code_of(refused) == "too_many_connections"


def test_a_refused_connection_that_stays_is_ended(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url], max_connections=1) as balancer, ExitStack() as stack:
        answer = b""
        while not answer.startswith(b"HTTP/1.1 503 "):
            raw = stack.enter_context(connection(balancer.port))
            raw.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = raw.recv(65_536)
        assert code_of(answer + read_all(raw)) == "too_many_connections"
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            _send_on_and_on(raw)


def _send_on_and_on(raw: socket.socket) -> None:
    while True:
        raw.sendall(b"x")


def test_connections_to_an_instance_are_limited(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    urls = [instance.url, other_instance.url]
    hold = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"
    with balancing(directory, urls, max_instance_connections=1) as balancer, ExitStack() as stack:
        waiting = [stack.enter_context(connection(balancer.port)) for _ in urls]
        for raw, one in zip(waiting, (instance, other_instance), strict=True):
            raw.sendall(hold)
            assert one.arrived.wait(60)
        over = httpx.get(f"{balancer.url}/port")
        assert (over.status_code, over.json()["code"]) == (503, "instances_busy")
        assert over.headers["Retry-After"] == "1"
        assert "TASKFLOW_BALANCER_MAX_INSTANCE_CONNECTIONS" in over.json()["detail"]
        other_instance.released.set()
        assert waiting[1].recv(65_536).startswith(b"HTTP/1.1 200 ")
        ports = {httpx.get(f"{balancer.url}/port").text for _ in range(4)}
        assert ports == {str(other_instance.port)}  # the busy one is passed over
        instance.released.set()
        assert waiting[0].recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_trusted_proxy_may_have_more_connections(directory: Path, instance: Instance) -> None:
    settings = {"max_client_connections": 1, "trusted_proxies": "127.0.0.0/8"}
    with balancing(directory, [instance.url], **settings) as balancer, ExitStack() as stack:
        for _ in range(3):
            raw = stack.enter_context(connection(balancer.port))
            raw.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_trickles_in_is_408_however_lively_it_trickles(
    directory: Path, instance: Instance
) -> None:
    with balancing(directory, [instance.url], head_timeout_seconds=0.5) as balancer:
        with connection(balancer.port) as raw:
            raw.sendall(b"GET /echo HTTP/1.1\r\n")
            raw.settimeout(0.05)
            for _ in range(200):
                try:
                    raw.sendall(b"X-A: b\r\n")
                    answer = raw.recv(65_536)
                    break
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        with connection(balancer.port) as silent:
            assert read_all(silent) == b"", "who says nothing at all is just let go"
        assert instance.seen == []


def test_a_body_that_stops_is_408(directory: Path, instance: Instance) -> None:
    with (
        balancing(directory, [instance.url], idle_timeout_seconds=0.3) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        assert read_all(raw).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert instance.seen == []


def test_a_body_after_a_rest_of_the_connection_has_its_time(
    directory: Path, instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url], idle_timeout_seconds=3) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
        raw.settimeout(2.5)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        raw.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        raw.settimeout(0.8)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        raw.sendall(b"body")
        raw.settimeout(30)
        assert raw.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_thousand_slow_clients_do_not_keep_others_waiting(
    directory: Path, instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url], max_client_connections=0) as balancer,
        ExitStack() as stack,
    ):
        for _ in range(400):
            raw = stack.enter_context(connection(balancer.port))
            raw.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Le")
        for _ in range(20):
            assert httpx.post(f"{balancer.url}/echo", content=b"x").text == "x"


def test_a_kept_connection_is_closed_when_it_is_idle_for_long(
    directory: Path, instance: Instance
) -> None:
    settings = {"keep_alive_seconds": 1, "instance_keep_alive_seconds": 1}
    with (
        balancing(directory, [instance.url], **settings) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_all(raw).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_connection_on_which_the_balancer_itself_is_asked_is_not_idle(directory: Path) -> None:
    with (
        balancing(directory, [f"http://127.0.0.1:{free_port()}"], keep_alive_seconds=3) as balancer,
        connection(balancer.port) as raw,
    ):
        for _ in range(8):
            raw.settimeout(30)
            raw.sendall(b"GET /_balancer/health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
            raw.settimeout(0.4)
            with pytest.raises(TimeoutError):
                raw.recv(1)
        raw.settimeout(30)
        assert read_all(raw) == b"", "it is closed once nobody asks any more"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"instances": ""}, "no instances"),
        ({"instances": "ftp://a"}, "not an address"),
        ({"instances": "http://a..b:80"}, "not the name of a host"),
        ({"trusted_proxies": "x"}, "TASKFLOW_BALANCER_TRUSTED_PROXIES"),
        ({"tls_certificate": "a.pem"}, "belong together"),
        ({"tls_certificate": "a.pem", "tls_key": "b.pem"}, "No such file"),
        ({"redirect_port": 1}, "need a certificate"),
        ({"config_file": "missing.toml"}, "TASKFLOW_BALANCER_CONFIG_FILE"),
        ({"max_connections": 0}, "TASKFLOW_BALANCER_MAX_CONNECTIONS"),
    ],
)
def test_wrong_settings_are_one_sentence(
    directory: Path, settings: dict[str, object], words: str
) -> None:
    variables = {
        f"TASKFLOW_BALANCER_{name.upper()}": str(value) for name, value in settings.items()
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("taskflow"), "balancer", "--port", "0"],
        cwd=directory,
        env={**os.environ, "TASKFLOW_BALANCER_INSTANCES": "http://127.0.0.1:1", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
