"""What the client makes of a bad network and of answers that are not TaskFlow's."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from taskflow.client import Client
from taskflow.client.problems import error_of_problem
from taskflow.core import errors
from taskflow.core.errors import (
    ConfigurationError,
    InvalidArgumentsError,
    QueueFullError,
    ServerUnavailableError,
    StatementTimeoutError,
    StoreLockedError,
    TaskFailedError,
    TaskFlowError,
)
from taskflow.core.events import EventType
from tests.integration.python_api.samples import PATIENCE_SECONDS
from tests.support.http_server import Received, Reply, http_server

TASK_ID = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
ACCEPTED = {"task_id": TASK_ID, "task": "add", "status": "pending", "replayed": False}


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode())


def in_turn(*replies: Reply) -> Callable[[Received], Reply]:
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


BAD_GATEWAY = Reply(502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>")


def test_a_submission_that_is_repeated_carries_the_same_key() -> None:
    with (
        http_server(in_turn(BAD_GATEWAY, BAD_GATEWAY, reply(ACCEPTED, 202))) as server,
        Client(server.url) as client,
    ):
        assert client.submit("add", 1).id == TASK_ID

    keys = [json.loads(asked.body)["idempotency_key"] for asked in server.received]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len(keys[0]) >= 32


def test_every_submission_has_a_key_of_its_own_or_the_given_one() -> None:
    with http_server(lambda _: reply(ACCEPTED, 202)) as server, Client(server.url) as client:
        client.submit("add", 1)
        client.submit("add", 1)
        client.options(idempotency_key="order-7").submit("add", 1)

    first, second, given = (json.loads(r.body)["idempotency_key"] for r in server.received)
    assert first != second
    assert given == "order-7"


def test_a_lost_answer_does_not_make_a_second_task(server_url: str) -> None:
    with _losing_answers(server_url, lost=1) as url, Client(url) as client:
        handle = client.submit("add", 1)

        assert handle.result(PATIENCE_SECONDS) == 2
        assert not handle.replayed  # it was our own repetition
        assert len(client.list().items) == 1


def test_cancelling_is_not_repeated_when_the_answer_was_lost(server_url: str) -> None:
    with Client(server_url) as direct:
        handle = direct.options(delay=3_600).submit("add", 1)
        with (
            _losing_answers(server_url, lost=1) as url,
            Client(url) as client,
            pytest.raises(ServerUnavailableError, match="broke off"),
        ):
            client.cancel(handle.id)

        assert [event.type for event in handle.history()].count(EventType.CANCELLED) == 1


def test_a_server_that_is_not_there_is_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        port = taken.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(ServerUnavailableError) as caught:
                client.get(TASK_ID)
            with pytest.raises(ServerUnavailableError):
                asyncio.run(client.handle(TASK_ID).wait_async(1))

    assert caught.value.detail.startswith(
        f"the TaskFlow server at http://127.0.0.1:{port} cannot be reached"
    )
    assert "\n" not in caught.value.detail


def test_a_server_that_does_not_answer_in_time_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05) as client,
        pytest.raises(ServerUnavailableError, match=r"did not answer within 0\.05 s"),
    ):
        client.get(TASK_ID)


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, {}, b"<html>hello</html>"),
        Reply(404, {}, b"not found"),
        reply({"detail": "Not Found"}, 404),
        reply(["a list"], 200),
        reply({"task_id": TASK_ID}, 200),
        Reply(302, {"Location": "/login"}, b""),
    ],
)
def test_something_else_on_that_port_is_not_taken_for_taskflow(answer: Reply) -> None:
    with (
        http_server(lambda _: answer) as server,
        Client(server.url) as client,
        pytest.raises(ServerUnavailableError),
    ):
        client.get(TASK_ID)


def test_every_error_of_the_server_becomes_the_same_class_here() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, TaskFlowError)
        # What they add stays at the server.
        and kind not in (TaskFailedError, StoreLockedError, StatementTimeoutError)
    ]
    assert len(kinds) > 25

    for kind in kinds:
        error = error_of_problem(
            {
                "code": kind.code,
                "detail": "what happened",
                "errors": [{"field": "a", "message": "b"}],
            }
        )
        assert type(error) is kind
        assert (error.detail, error.fields) == ("what happened", [{"field": "a", "message": "b"}])


def test_an_error_of_a_newer_server_is_still_one_of_ours() -> None:
    error = error_of_problem({"code": "not_invented_yet", "title": "Something new"})

    assert type(error) is TaskFlowError
    assert error.detail == "Something new"


def test_a_full_queue_says_when_to_come_back() -> None:
    problem = {"code": "queue_full", "detail": "10 tasks are waiting"}
    with (
        http_server(lambda _: reply(problem, 429, **{"Retry-After": "3"})) as server,
        Client(server.url) as client,
        pytest.raises(QueueFullError) as caught,
    ):
        client.submit("add", 1)

    assert caught.value.retry_after_seconds == 3
    assert len(server.received) == 1  # what to do about it is the caller's decision


def test_wrong_fields_are_named_as_the_server_named_them(client: Client) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        client.submit("add", "x")

    assert [field["field"] for field in caught.value.fields] == ["a"]


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://example.com", "http://", "http://example.com:port"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not a server address"):
        Client(url)


def test_a_closed_client_says_so(client: Client) -> None:
    handle = client.submit("add", 1)
    client.close()

    with pytest.raises(ServerUnavailableError, match="is closed"):
        handle.status()
    with pytest.raises(ServerUnavailableError, match="is closed"):
        asyncio.run(handle.wait_async(1))


def test_a_path_before_the_api_is_kept() -> None:
    with (
        http_server(lambda _: reply(ACCEPTED, 202)) as server,
        Client(f"{server.url}/queue/") as client,
    ):
        client.submit("add", 1)

    assert server.received[0].path == "/queue/api/v1/tasks"


def test_fields_that_a_newer_server_adds_are_left_out(client: Client) -> None:
    known = client.submit("add", 1).task().model_dump(mode="json")
    with (
        http_server(lambda _: reply(known | {"colour": "green"})) as server,
        Client(server.url) as newer,
    ):
        assert newer.get(TASK_ID).task == "add"


def test_a_server_that_allows_no_waiting_is_not_hammered(client: Client) -> None:
    task = client.options(delay=3_600).submit("add", 1).task().model_dump(mode="json")
    with http_server(lambda _: reply(task)) as server, Client(server.url) as impatient:
        assert not impatient.wait(TASK_ID, 0.4).status.is_final

    assert len(server.received) <= 10


@pytest.mark.parametrize("loops", [1, 2])
def test_waiting_works_on_every_event_loop(client: Client, loops: int) -> None:
    handle = client.submit("add", 1)

    for _ in range(loops):
        assert asyncio.run(handle.result_async(PATIENCE_SECONDS)) == 2


@contextmanager
def _losing_answers(url: str, *, lost: int) -> Iterator[str]:
    """A proxy that breaks off the connection in the middle of its first ``lost`` answers."""
    left = lost

    def forward(asked: Received) -> Reply:
        nonlocal left
        kind = {"Content-Type": asked.headers["Content-Type"]} if asked.body else {}
        answer = httpx.request(asked.method, url + asked.path, content=asked.body, headers=kind)
        if left:
            left -= 1
            return Reply(
                answer.status_code, {"Content-Length": "999999", "Connection": "close"}, b"{"
            )
        return Reply(answer.status_code, {"Content-Type": "application/json"}, answer.content)

    with http_server(forward) as server:
        yield server.url
