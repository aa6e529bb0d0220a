"""What operators see and do: status, metrics, logs, instances at run time, health, drain."""

from __future__ import annotations

import base64
import json
import signal
import threading
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from prometheus_client.parser import text_string_to_metric_families

from tests.support.balancer import (
    AUTHORIZED,
    TOKEN,
    BalancerProcess,
    balancing,
    connection,
    read_all,
    read_until,
)
from tests.support.instance import Instance
from tests.support.waiting import wait_for

PAGES = ["/_balancer", "/_balancer/status", "/_balancer/metrics"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_the_token(balancer: BalancerProcess, path: str) -> None:
    url = balancer.url + path
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Basic !"}).status_code == 401
    assert httpx.get(url, headers=AUTHORIZED).status_code == 200
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    assert httpx.get(url, headers={"Authorization": f"Basic {basic}"}).status_code == 200
    assert httpx.post(url, headers=AUTHORIZED).status_code == 405
    assert httpx.get(f"{url}/nothing", headers=AUTHORIZED).status_code == 404


def test_what_browsers_add_by_themselves_changes_nothing(balancer: BalancerProcess) -> None:
    """A stranger's page can have the browser of an operator who has looked at the status page send a form."""
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()}
    url = f"{balancer.url}/_balancer/instances?url=http://192.0.2.1:80"
    assert httpx.post(url, headers=basic).status_code == 401
    assert "http://192.0.2.1:80" not in balancer.states()


def test_a_client_of_http_1_0_is_not_kept_waiting(balancer: BalancerProcess) -> None:
    with connection(balancer.port) as raw:
        raw.sendall(b"GET /_balancer/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in read_all(raw)


def test_without_a_token_they_are_switched_off(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url], admin_token="") as balancer:
        for path in PAGES:
            answer = httpx.get(balancer.url + path, headers=AUTHORIZED)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert httpx.get(f"{balancer.url}/_balancer/health").json()["status"] == "ok"
    assert [seen for seen in instance.seen if "_balancer" in seen.target] == []


def test_metrics_count_what_passed(balancer: BalancerProcess, instances: list[Instance]) -> None:
    def requests() -> dict[str, float]:
        text = httpx.get(f"{balancer.url}/_balancer/metrics", headers=AUTHORIZED).text
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (
                    sample.name == "taskflow_balancer_requests_total"
                    and sample.labels["status"] == "200"
                ):
                    found[sample.labels["instance"]] = sample.value
        return found

    before = requests()
    for _ in range(10):
        httpx.get(f"{balancer.url}/port")
    after = requests()
    assert {name: after[name] - before.get(name, 0) for name in after if name} == {
        instance.url: 5 for instance in instances
    }


def test_the_page_shows_every_instance(
    balancer: BalancerProcess, instances: list[Instance]
) -> None:
    page = httpx.get(f"{balancer.url}/_balancer", headers=AUTHORIZED).text
    assert all(instance.url in page for instance in instances)


def test_every_request_is_one_json_line(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url]) as balancer:
        httpx.post(
            f"{balancer.url}/echo?password=1", content=b"hello", headers={"X-Request-ID": "mine"}
        )
        httpx.post(f"{balancer.url}/drop")
    lines = [json.loads(line) for line in balancer.log.read_text().splitlines()]
    first, second = [line for line in lines if line["event"] == "http.request"]
    assert "password" not in balancer.log.read_text()
    expected = {
        "level": "info", "service": "balancer", "request_id": "mine", "method": "POST", "path": "/echo", "status": 200,
        "instance": instance.url, "attempts": 1, "client": "127.0.0.1",
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert first["duration_ms"] > 0
    assert first["request_bytes"] > 5
    assert first["response_bytes"] > 5
    assert (second["level"], second["status"]) == ("warning", 502)
    assert {"ts", "logger", "version"} <= set(first)


def test_instances_come_and_go_by_the_admin_endpoint(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url]) as balancer,
        httpx.Client(base_url=balancer.url, headers=AUTHORIZED) as admin,
    ):

        def ports() -> set[str]:
            return {httpx.get(f"{balancer.url}/port").text for _ in range(4)}

        assert ports() == {str(instance.port)}
        other = {"url": other_instance.url}
        admin.post("/_balancer/instances", params=other).raise_for_status()
        wait_for(lambda: balancer.states()[other_instance.url] == "up", "it was asked")
        assert ports() == {str(instance.port), str(other_instance.port)}
        admin.post("/_balancer/instances/drain", params=other).raise_for_status()
        assert ports() == {str(instance.port)}
        admin.post("/_balancer/instances/resume", params=other).raise_for_status()
        assert len(ports()) == 2
        admin.delete("/_balancer/instances", params={"url": instance.url}).raise_for_status()
        assert ports() == {str(other_instance.port)}
        for params in ({}, {"url": "nonsense"}, {"url": "https://a"}):
            assert admin.post("/_balancer/instances", params=params).status_code == 422
        assert admin.delete("/_balancer/instances", params={"url": "http://a"}).status_code == 404
        assert httpx.delete(f"{balancer.url}/_balancer/instances", params=other).status_code == 401


def test_the_configuration_file_is_read_again_on_sighup(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    file = directory / "balancer.toml"
    file.write_text(f'instances = ["{instance.url}"]')
    with (
        balancing(directory, [], arguments=["--config", str(file)]) as balancer,
        connection(balancer.port) as raw,
    ):
        raw.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        read_until(raw, b"data: 1\n\n\r\n")
        file.write_text(f'instances = ["{other_instance.url}"]')
        balancer.process.send_signal(signal.SIGHUP)
        wait_for(lambda: set(balancer.states()) == {other_instance.url}, "the file was read")
        assert httpx.get(f"{balancer.url}/port").text == str(other_instance.port)
        instance.released.set()
        read_until(raw, b"0\r\n\r\n")  # what the removed one was doing, it finishes
        for wrong in ("instances = 5", "nonsense", 'instances = ["x"]', "other = 1"):
            file.write_text(wrong)
            answer = httpx.post(f"{balancer.url}/_balancer/reload", headers=AUTHORIZED)
            assert answer.status_code == 422
            assert str(file) in answer.json()["detail"]
        assert set(balancer.states()) == {other_instance.url}


def test_a_reload_changes_what_has_changed_in_the_file_and_nothing_else(directory: Path) -> None:
    def url(number: int) -> str:
        return f"http://127.0.0.2:{number}"

    def write(*numbers: int) -> None:
        file.write_text(f"instances = {json.dumps([url(number) for number in numbers])}")

    file = directory / "balancer.toml"
    write(1, 2)
    with (
        balancing(directory, [url(3)], arguments=["--config", str(file)]) as balancer,
        httpx.Client(base_url=f"{balancer.url}/_balancer", headers=AUTHORIZED) as admin,
    ):

        def instances() -> set[str]:
            return set(balancer.states())

        admin.delete("/instances", params={"url": url(1)}).raise_for_status()
        admin.delete("/instances", params={"url": url(3)}).raise_for_status()
        admin.post("/instances", params={"url": url(4)}).raise_for_status()
        admin.post("/instances/drain", params={"url": url(2)}).raise_for_status()
        balancer.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "balancer.reloaded" in balancer.log.read_text(), "it is read again")
        assert instances() == {url(2), url(4)}
        assert balancer.states()[url(2)] == "draining"
        write(1, 5)
        admin.post("/reload").raise_for_status()
        assert instances() == {url(4), url(5)}, "2 is gone from the file, 5 is new, 1 is neither"
        write(5)
        admin.post("/reload").raise_for_status()
        write(1, 3, 5)
        admin.post("/reload").raise_for_status()
        assert instances() == {url(1), url(4), url(5)}, "named anew, and configured all the time"


def test_the_strategy_is_the_one_that_was_chosen(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    urls = [instance.url, other_instance.url]
    with balancing(directory, urls, strategy="least_connections") as balancer:
        assert balancer.status()["strategy"] == "least_connections"
        with connection(balancer.port) as busy:
            busy.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: any(one.arrived.is_set() for one in (instance, other_instance)), "it")
            idle = other_instance if instance.arrived.is_set() else instance
            ports = {httpx.get(f"{balancer.url}/port").text for _ in range(6)}
            assert ports == {str(idle.port)}
            instance.released.set()
            other_instance.released.set()
            read_until(busy, b"waited")
        wait_for(lambda: {one["active"] for one in _instances(balancer)} == {0}, "it is over")
        assert len({httpx.get(f"{balancer.url}/port").text for _ in range(4)}) == 2


def _instances(balancer: BalancerProcess) -> list[dict[str, object]]:
    instances = balancer.status()["instances"]
    assert isinstance(instances, list)
    return instances


def test_health_checks_take_out_and_bring_back(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    settings = {"health_interval_seconds": 0.05, "rise": 2, "fall": 2, "slow_start_seconds": 0}
    with balancing(directory, [instance.url, other_instance.url], **settings) as balancer:

        def state() -> str:
            return balancer.states()[instance.url]

        wait_for(lambda: state() == "up", "it is well")
        instance.health = (500, b"")
        wait_for(lambda: state() == "down", "it is sick")
        assert {httpx.get(f"{balancer.url}/port").text for _ in range(4)} == {
            str(other_instance.port)
        }
        instance.health = (200, b"anything")
        wait_for(lambda: state() == "up", "it is well again")
        assert len({httpx.get(f"{balancer.url}/port").text for _ in range(4)}) == 2
        for body in (
            b'{"status": "draining"}',
            b'{"detail": "draining: this instance is about to stop"}',
        ):
            instance.health = (503, body)
            wait_for(lambda: state() == "draining", "it says that it drains")
            assert {httpx.get(f"{balancer.url}/port").text for _ in range(4)} == {
                str(other_instance.port)
            }
            instance.health = (200, b"{}")
            wait_for(lambda: state() == "up", "it is well again")


def test_sigterm_lets_exchanges_finish_and_takes_no_new_ones(
    directory: Path, instance: Instance
) -> None:
    with (
        balancing(directory, [instance.url]) as balancer,
        connection(balancer.port) as busy,
        connection(balancer.port) as idle,
    ):
        idle.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
        read_until(idle, str(instance.port).encode())
        busy.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert instance.arrived.wait(60)
        balancer.process.send_signal(signal.SIGTERM)
        assert read_all(idle) == b"", "a kept connection is closed"
        with pytest.raises(ConnectionRefusedError), connection(balancer.port):
            pass
        assert balancer.process.poll() is None
        instance.released.set()
        answer = read_all(busy)
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"waited")
        assert balancer.process.wait(60) == 0


def test_a_second_sigterm_does_not_wait(directory: Path, instance: Instance) -> None:
    with balancing(directory, [instance.url]) as balancer, connection(balancer.port) as busy:
        busy.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert instance.arrived.wait(60)
        balancer.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "balancer.draining" in balancer.log.read_text(), "it drains")
        balancer.process.send_signal(signal.SIGTERM)
        assert balancer.process.wait(60) == 1


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_websocket_closes_with_1001_at_both_ends_when_the_balancer_drains(
    directory: Path, instance: Instance, compression: str | None
) -> None:
    with balancing(directory, [instance.url]) as balancer:
        url = f"ws://127.0.0.1:{balancer.port}/websocket"
        with websockets.sync.client.connect(url, compression=compression) as socket:
            socket.send("x" * 70_000)
            assert socket.recv(60) == "x" * 70_000
            balancer.process.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.exceptions.ConnectionClosedOK) as caught:
                socket.recv(60)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
        assert balancer.process.wait(60) == 0
        wait_for(
            lambda: [one for one in instance.seen if one.method == "CLOSE"], "the instance is told"
        )
        assert [one.target for one in instance.seen if one.method == "CLOSE"] == ["03e9"]


def test_a_websocket_stays_open_while_another_instance_dies(
    directory: Path, instance: Instance, other_instance: Instance
) -> None:
    settings = {
        "health_interval_seconds": 0.05, "fall": 1, "idle_timeout_seconds": 1, "keep_alive_seconds": 1,
        "request_timeout_seconds": 1, "head_timeout_seconds": 1, "first_byte_timeout_seconds": 1,
    }  # fmt: skip
    with balancing(directory, [instance.url], **settings) as balancer:
        url = f"ws://127.0.0.1:{balancer.port}/websocket"
        with websockets.sync.client.connect(url, compression=None, ping_interval=None) as socket:
            balancer.add(other_instance.url)
            wait_for(lambda: balancer.states()[other_instance.url] == "up", "it is there")
            other_instance.health = (500, b"")
            wait_for(lambda: balancer.states()[other_instance.url] == "down", "it is gone")
            # Longer than every timeout there is but the tunnel's own.
            threading.Event().wait(1.5)
            for turn in range(5):
                socket.send(f"still here {turn}")
                assert socket.recv(60) == f"still here {turn}"
