"""An endpoint that is not as it should be: said at once, with what was found and where to look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deployment import env_file
from deployment.errors import DeployError
from deployment.smoke import Endpoint, SmokeTest
from tests.infra.deploy.conftest import Small
from tests.support.http_server import Received, Reply, http_server

pytestmark = pytest.mark.timeout(600)

Answers = dict[str, tuple[int, object]]
_WELL: Answers = {
    "/health": (200, {}),
    "/api/v1/handlers": (200, {"items": [{"task": "echo"}, {"task": "shop.sell"}]}),
    "/api/v1/tasks": (202, {"task_id": "t1", "status": "pending"}),
    "/api/v1/tasks/t1": (200, {"task_id": "t1", "status": "completed", "duration_ms": 1}),
}


@contextmanager
def answering(answers: Answers) -> Iterator[str]:
    """A program's address that answers so, by path, and 500 to all else."""

    def reply(asked: Received) -> Reply:
        status, value = answers.get(asked.path.partition("?")[0], (500, {}))
        return Reply(status, {}, json.dumps(value).encode())

    with http_server(reply) as server:
        yield server.url


@pytest.mark.parametrize(
    ("answers", "words", "look_at"),
    [
        ({"/health": (503, {})}, "HTTP 503", "logs api"),
        ({"/api/v1/handlers": (200, [])}, "not TaskFlow's answer", "logs api"),
        ({"/api/v1/tasks": (422, {})}, "POST /api/v1/tasks", "logs api"),
        (
            {
                "/api/v1/tasks/t1": (
                    200,
                    {"status": "failed", "error": {"message": "no such table"}},
                )
            },
            "task t1 is failed: no such table",
            "logs worker",
        ),
    ],
)
def test_what_was_found_is_told(answers: Answers, words: str, look_at: str) -> None:
    pauses: list[float] = []
    with answering({**_WELL, **answers}) as url:
        test = SmokeTest(Endpoint(url), healthy_within_seconds=0.05, pause=pauses.append)
        with pytest.raises(DeployError) as caught:
            test.run()
    assert caught.value.code == "smoke_test_failed"
    assert words in caught.value.message
    assert url in caught.value.message
    assert f"deploy.py {look_at}" in caught.value.next_step


def test_what_is_well_is_told_too() -> None:
    with answering(_WELL) as url:
        checks = SmokeTest(Endpoint(url)).run()
    assert [check.name for check in checks] == ["health", "handlers", "task"]


def test_a_stage_whose_endpoint_fails_is_there_and_tested_again_by_the_next_run(
    stage: Small,
) -> None:
    serves = stage.balancer.port
    with answering({"/health": (200, {})}) as url:
        stage.balancer.port = int(url.rpartition(":")[2])
        failed = stage.up("--json")
    assert (failed.code, failed.json["error"]["code"]) == (1, "smoke_test_failed")
    assert "The stack is there, but" in failed.errors
    assert stage.status() == "UPDATE_COMPLETE"
    assert "TASKFLOW_URL" in env_file.read(stage.deploy.directory / ".env")
    stage.balancer.port = serves
    again = stage.up("--json").json
    assert again["changes"] == []
    assert [check["name"] for check in again["checks"]] == ["health", "handlers", "task"]
