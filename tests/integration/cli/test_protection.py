"""`taskflow worker` in an ECS container: it asks ECS's agent not to be stopped while attempts run."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskflow.adapters.protection.ecs import ECSProtection
from taskflow.client import Client
from taskflow.ports.protection import ProtectionUnavailableError
from taskflow.worker.protected import Protected
from tests.integration.cli.conftest import PATIENCE_SECONDS, until
from tests.integration.cli.test_processes import Processes, start_processes, until_logged
from tests.support.http_server import Received, Reply, Server, http_server

__all__ = ["start_processes"]  # a fixture

GRANTED = Reply(body=b'{"protection":{"ProtectionEnabled":true,"TaskArn":"arn"}}')
REFUSED = Reply(body=b'{"failure":{"Arn":"arn","Reason":"TASK_NOT_VALID","Detail":null}}')
DENIED = Reply(400, body=b'{"error":{"Code":"AccessDeniedException","Message":"not authorized"}}')
PATH = "/api/0f1e/task-protection/v1/state"


@pytest.fixture
def replies() -> dict[str, Reply]:
    return {PATH: GRANTED}


@pytest.fixture
def agent(replies: dict[str, Reply]) -> Iterator[Server]:
    with http_server(replies) as server:
        yield server


def uri(agent: Server) -> str:
    return f"{agent.url}/api/0f1e"


def asked(agent: Server) -> list[bool]:
    assert {(request.method, request.path) for request in agent.received} <= {("PUT", PATH)}
    return [json.loads(request.body)["ProtectionEnabled"] for request in agent.received]


def test_a_worker_is_protected_while_tasks_run_and_not_while_it_is_idle(
    start_processes: Callable[..., Processes], directory: Path, agent: Server
) -> None:
    processes = start_processes({"ECS_AGENT_URI": uri(agent), "HTTP_PROXY": "http://127.0.0.1:9"})
    _, url = processes.api()
    process, _ = processes.worker()
    with Client(url) as client:
        held = client.submit("hold", marker=str(directory / "marker"))
        until((directory / "marker.started").exists)
        until(lambda: asked(agent) == [True])
        assert json.loads(agent.received[0].body)["ExpiresInMinutes"] > 1
        assert client.submit("greet", "Ann").result(PATIENCE_SECONDS)
        (directory / "marker").touch()
        held.result(PATIENCE_SECONDS)
        until(lambda: asked(agent) == [True, False])

        client.submit("hold", marker=str(directory / "other"))
        until(lambda: asked(agent) == [True, False, True])
    (directory / "other").touch()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert asked(agent) == [True, False, True, False]


@pytest.mark.parametrize("answer", [DENIED, REFUSED, Reply(body=b"<html>")])
def test_an_agent_that_refuses_keeps_no_task_from_running(
    start_processes: Callable[..., Processes],
    agent: Server,
    replies: dict[str, Reply],
    answer: Reply,
) -> None:
    replies[PATH] = answer
    processes = start_processes({"ECS_AGENT_URI": uri(agent)})
    _, url = processes.api()
    process, log = processes.worker()
    with Client(url) as client:
        assert client.submit("greet", "Ann").result(PATIENCE_SECONDS) == "Hello Ann 1"
        until_logged(process, log, "worker.protection_failed")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert log.read_text().count("worker.protection_failed") == 1
    assert answer.body.decode()[:20] in log.read_text().replace('\\"', '"')


def test_without_an_agent_it_is_one_clear_sentence() -> None:
    with pytest.raises(ProtectionUnavailableError, match=r"127\.0\.0\.1 does not answer"):
        ECSProtection("http://127.0.0.1:9/api").switch(on=True, minutes=1)


def test_it_is_renewed_before_it_ends_and_tried_again_when_it_failed() -> None:
    refusals = iter([DENIED, DENIED])
    is_busy = threading.Event()
    is_busy.set()

    def answer(request: Received) -> Reply:
        return next(refusals, GRANTED)

    with http_server(answer) as agent:
        protected = Protected(
            ECSProtection(uri(agent)), is_busy.is_set, renew_seconds=0.02, look_seconds=0.01
        )
        protected.start()
        protected.attempts_claimed()
        until(lambda: len(agent.received) > 5)
        assert all(asked(agent))
        is_busy.clear()
        until(lambda: asked(agent)[-1] is False)
        count = len(agent.received)
        protected.stop()
        assert len(agent.received) == count  # it was off already
