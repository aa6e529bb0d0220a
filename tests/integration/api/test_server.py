"""The API as a process of its own: limits on what streams in, connections, logs, signals, ports."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse, parse_headers
from pathlib import Path
from typing import Any

import psutil
import pytest

from taskflow.listening import CannotListenError, address_of, listen
from tests.support.server import ServerProcess, serving

pytestmark = pytest.mark.xdist_group("api-server")  # they share one

LIMIT = 65_536
SETTINGS = {
    "TASKFLOW_MAX_BODY_BYTES": str(LIMIT),
    "TASKFLOW_LOG_FORMAT": "json",
    "TASKFLOW_LOG_LEVEL": "info",
    "TASKFLOW_NUM_WORKERS": "1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("server"), environment=SETTINGS) as server:
        yield server


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.connect()
    yield connection
    connection.close()


def read(connection: HTTPConnection) -> tuple[int, dict[str, Any]]:
    """The next answer on a connection whose request was written by hand."""
    answer = HTTPResponse(connection.sock)
    answer.begin()
    return answer.status, json.loads(answer.read())


def get(connection: HTTPConnection, path: str) -> tuple[int, dict[str, Any]]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def post(connection: HTTPConnection, body: bytes) -> tuple[int, dict[str, Any]]:
    connection.request("POST", "/tasks", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def logged(server: ServerProcess) -> list[dict[str, Any]]:
    lines = server.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def echo(size: int) -> bytes:
    """A submission of exactly ``size`` bytes."""
    empty = json.dumps({"task": "echo", "kwargs": {"message": ""}})
    return json.dumps({"task": "echo", "kwargs": {"message": "x" * (size - len(empty))}}).encode()


# --- limits ----------------------------------------------------------------------------------------


def test_a_body_of_just_the_limit_is_accepted(connection: HTTPConnection) -> None:
    assert len(echo(LIMIT)) == LIMIT
    assert post(connection, echo(LIMIT))[0] == 202


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(
    connection: HTTPConnection,
) -> None:
    connection.sock.sendall(
        b"POST /tasks HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000000000\r\n\r\n"
    )
    status, problem = read(connection)
    assert (status, problem["code"]) == (413, "payload_too_large")
    assert "TASKFLOW_MAX_BODY_BYTES" in problem["detail"]


def test_a_stream_over_the_limit_is_refused_and_not_kept(
    connection: HTTPConnection, server: ServerProcess
) -> None:
    before = psutil.Process(server.process.pid).memory_info().rss
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    connection.sock.sendall(
        b"POST /tasks HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for _ in range(64):
        connection.sock.sendall(chunk)
    connection.sock.sendall(b"0\r\n\r\n")
    status, problem = read(connection)

    assert (status, problem["code"]) == (413, "payload_too_large")
    grown = psutil.Process(server.process.pid).memory_info().rss - before
    assert grown < 32 * 2**20
    assert get(connection, "/health")[0] == 200  # the connection is still good


def test_a_stream_within_the_limit_is_accepted(connection: HTTPConnection) -> None:
    body = echo(LIMIT)
    connection.sock.sendall(
        b"POST /tasks HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for start in range(0, LIMIT, 16_384):
        connection.sock.sendall(b"4000\r\n" + body[start : start + 16_384] + b"\r\n")
    connection.sock.sendall(b"0\r\n\r\n")
    assert read(connection)[0] == 202


def test_a_client_that_goes_away_in_the_middle_harms_nobody(
    connection: HTTPConnection, server: ServerProcess
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(
            b"POST /tasks HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
    assert post(connection, echo(100))[0] == 202
    get(connection, "/health")
    assert not [line for line in logged(server) if line["level"] in ("warning", "error")]


def test_one_connection_serves_many_requests(connection: HTTPConnection) -> None:
    used = connection.sock
    for _ in range(20):
        assert post(connection, echo(100))[0] == 202
        assert get(connection, "/nowhere")[0] == 404
    assert connection.sock is used


def test_pipelined_requests_are_answered_in_order(connection: HTTPConnection) -> None:
    ask = b"GET /tasks/%d HTTP/1.1\r\nHost: t\r\n\r\n"
    connection.sock.sendall(b"".join(ask % number for number in range(10)))
    answered = []
    with connection.sock.makefile("rb") as stream:
        while len(answered) < 10:
            assert stream.readline().startswith(b"HTTP/1.1 404 ")
            length = int(parse_headers(stream)["Content-Length"])
            answered.append(json.loads(stream.read(length))["instance"])
    assert answered == [f"/tasks/{number}" for number in range(10)]


# --- logs ------------------------------------------------------------------------------------------


def test_every_request_is_one_json_line_with_its_id_and_duration(
    connection: HTTPConnection, server: ServerProcess
) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "find-me.1"}
    connection.request("POST", "/api/v1/tasks", echo(100), headers)
    answer = connection.getresponse()
    task_id = json.loads(answer.read())["task_id"]
    get(connection, "/health")  # on the same connection: the line before it is written by now

    [line] = [
        line
        for line in logged(server)
        if line["event"] == "http.request" and line.get("request_id") == "find-me.1"
    ]
    assert list(line)[:6] == ["ts", "level", "event", "logger", "service", "version"]
    assert (line["level"], line["status"], line["route"]) == ("info", 202, "/api/v1/tasks")
    assert line["task_id"] == task_id
    assert line["duration_ms"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["ts"])


def test_the_address_is_logged_at_the_start(server: ServerProcess) -> None:
    [line] = [line for line in logged(server) if line["event"] == "server.started"]
    assert line["address"] == server.url


def test_all_lines_have_one_shape_also_those_of_libraries(server: ServerProcess) -> None:
    lines = logged(server)
    assert {line["logger"].split(".")[0] for line in lines} >= {"taskflow", "uvicorn"}
    for line in lines:
        assert {"ts", "level", "event", "logger", "service", "version"} <= line.keys()


# --- signals and ports -------------------------------------------------------------------------------


def test_a_stopping_server_answers_who_waits_and_ends_in_good_order(tmp_path: Path) -> None:
    answers: list[tuple[int, dict[str, Any]]] = []
    with serving(tmp_path, environment=SETTINGS) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        body = json.dumps({"task": "echo", "delay": 3600}).encode()
        task_id = post(connection, body)[1]["task_id"]
        connection.request("GET", f"/tasks/{task_id}?wait=30")
        waits = threading.Thread(target=lambda: answers.append(_answer(connection)))
        waits.start()
        # The server has read the held request once it answers one that came after it.
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as later:
            assert get(later, "/health")[0] == 200
        server.process.terminate()
        assert server.process.wait(20) == 0
        waits.join(20)
        connection.close()

    [(status, task)] = answers
    assert (status, task["status"]) == (200, "scheduled")
    assert [line for line in logged(server) if line["event"] == "server.stopped"]


def _answer(connection: HTTPConnection) -> tuple[int, dict[str, Any]]:
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_port_in_use_is_one_clear_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListenError, match=rf"127\.0\.0\.1:{port}.*in use.*TASKFLOW_PORT"):
            listen("127.0.0.1", port)


def test_a_port_in_use_ends_the_command_with_that_sentence(
    server: ServerProcess, tmp_path: Path
) -> None:
    taskflow = str(Path(sys.executable).with_name("taskflow"))
    command = [taskflow, "dev", "--port", str(server.port)]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert f":{server.port}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / ".taskflow" / "taskflow.db").exists()


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_an_address_that_is_not_here_is_one_clear_sentence(host: str) -> None:
    with pytest.raises(CannotListenError, match=f"cannot listen on {host}"):
        listen(host, 0)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", r"http://127\.0\.0\.1:\d+"), ("::1", r"http://\[::1\]:\d+")]
)
def test_a_free_port_is_found_and_told(host: str, address: str) -> None:
    with listen(host, 0) as listener:
        assert re.fullmatch(address, address_of(listener))
