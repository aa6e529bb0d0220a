"""Clients that people really use."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
import requests
import websockets.asyncio.client
import websockets.sync.client

from tests.support.balancer import BalancerProcess
from tests.support.instance import Instance

BODY = bytes(range(256)) * 300


def curl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("curl")
    assert program is not None, "needed for this test: apt-get install curl"
    return subprocess.run(
        [program, "-sS", "--fail-with-body", "-m", "30", *arguments],
        input=data,
        capture_output=True,
        check=True,
    )


def test_http_client_keeps_one_connection(balancer: BalancerProcess) -> None:
    before = balancer.status()["connections_accepted_total"]
    client = HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS") * 3:
        client.request(method, "/echo", BODY if method in {"POST", "PUT", "PATCH"} else None)
        answer = client.getresponse()
        assert answer.status == 200
        answer.read()
    client.request(
        "POST",
        "/echo",
        iter([b"in ", b"chunks"]),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert client.getresponse().read() == b"in chunks"
    client.close()
    after = balancer.status()["connections_accepted_total"]
    assert isinstance(before, int)
    assert after == before + 2, "its own and one for the status"


def test_httpx_one_after_the_other_and_at_once(balancer: BalancerProcess) -> None:
    with httpx.Client(base_url=balancer.url) as client:
        assert client.post("/echo", content=BODY).content == BODY
        assert client.post("/echo", content=iter([b"a", b"b"])).content == b"ab"
        assert client.head("/head").headers["Content-Length"] == "12345"
        with client.stream("GET", "/chunked") as answer:
            assert b"".join(answer.iter_raw()) == b"hello world"

    async def many() -> list[bytes]:
        async with httpx.AsyncClient(base_url=balancer.url) as client:
            answers = await asyncio.gather(
                *(client.post("/echo", content=b"%d" % number) for number in range(100))
            )
            return [answer.content for answer in answers]

    assert asyncio.run(many()) == [b"%d" % number for number in range(100)]


def test_requests_with_a_session(balancer: BalancerProcess) -> None:
    with requests.Session() as session:
        for _ in range(5):
            assert session.post(f"{balancer.url}/echo", data=BODY, timeout=10).content == BODY
        assert (
            session.post(f"{balancer.url}/echo", data=iter([b"a", b"b"]), timeout=10).content
            == b"ab"
        )
        assert session.get(f"{balancer.url}/until-close", timeout=10).text == "until the end"


def test_curl_keeps_its_connection(balancer: BalancerProcess) -> None:
    done = curl(
        "-v",
        f"{balancer.url}/echo",
        f"{balancer.url}/chunked",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
    )
    assert b"Re-using existing connection" in done.stderr


def test_curl_as_http_1_0(balancer: BalancerProcess) -> None:
    assert curl("--http1.0", f"{balancer.url}/chunked").stdout == b"hello world"


def test_curl_with_chunks_and_with_100_continue(balancer: BalancerProcess, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(BODY * 20)
    url = f"{balancer.url}/echo"
    assert (
        curl("-H", "Transfer-Encoding: chunked", "--data-binary", f"@{file}", url).stdout
        == BODY * 20
    )
    done = curl("-v", "-H", "Expect: 100-continue", "--data-binary", f"@{file}", url)
    assert done.stdout == BODY * 20
    assert b"HTTP/1.1 100 Continue" in done.stderr
    assert curl("-T", "-", url, data=BODY).stdout == BODY


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536, 900_000])
def test_websockets_of_every_size(balancer: BalancerProcess, size: int) -> None:
    url = f"ws://127.0.0.1:{balancer.port}/websocket"
    with websockets.sync.client.connect(url, compression=None) as socket:
        for _ in range(2):
            socket.send("x" * size)
            assert socket.recv(60) == "x" * size


def test_many_websockets_at_once(balancer: BalancerProcess, instances: list[Instance]) -> None:
    async def one(number: int) -> None:
        url = f"ws://127.0.0.1:{balancer.port}/websocket"
        async with websockets.asyncio.client.connect(url, compression=None) as socket:
            for turn in range(10):
                await socket.send(f"{number}:{turn}")
                assert await socket.recv() == f"{number}:{turn}"

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(many())
    closes = [seen for instance in instances for seen in instance.seen if seen.method == "CLOSE"]
    assert [seen.target for seen in closes] == ["03e8"] * 50, (
        "every close came from the client (1000)"
    )
