"""The OpenAPI document is true: what it says is taken, what it does not say is not answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from taskflow.api.app import create_app
from taskflow.bootstrap import build
from taskflow.settings import load
from tests.integration.api.conftest import submit, work, works
from tests.integration.api.samples import sample_registry

load_all_checks()
MUST_BE_STATED = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """It says the same on every backend."""
    home = tmp_path_factory.mktemp("document")
    runtime = build(load(home=home), registry=sample_registry(), with_worker=False)
    yield create_app(runtime).openapi()
    runtime.close()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_operation_has_a_name_a_summary_and_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert method in MUST_BE_STATED
        assert operation["description"], path
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (path, status)
    assert "HTTPValidationError" not in str(document)


def test_every_body_has_examples_that_fit_its_schema(document: dict[str, Any]) -> None:
    seen = 0
    for path, _, operation in operations(document):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        for example in content["examples"].values():
            assert jsonschema_rs.is_valid(schema, example["value"]), (path, example)
            seen += 1
    assert seen >= 10


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"task": "echo"}, True),
        ({"func_name": "echo", "args": [1], "kwargs": {}, "priority": 1}, True),
        ({"name": "n", "task_type": "compute", "payload": {"n": 1}, "priority": "high"}, True),
        ({"task": "echo", "task_type": "echo"}, False),
        ({"task": "echo", "kwargs": {}, "payload": {}}, False),
        ({"args": []}, False),
        ({"task": "echo", "priority": "urgent"}, False),
        ({"task": "echo", "more": 1}, False),
    ],
)
def test_the_schema_of_a_submission_knows_its_spellings(
    document: dict[str, Any], body: dict[str, Any], fits: bool
) -> None:
    schema = {"$ref": "#/components/schemas/SubmitTask", "components": document["components"]}
    assert jsonschema_rs.is_valid(schema, body) is fits


@works
async def test_real_answers_fit_their_schemas(
    client: httpx.AsyncClient, document: dict[str, Any], runtime: Any
) -> None:
    """With tasks in every state a page can show: generated requests rarely get that far."""
    for task in ("echo", "fail", "crash"):
        await submit(client, task, idempotency_key=task, tags=["t"], metadata={"k": 1})
    work(runtime)
    task_id = await submit(client, "add", args=[1], delay=60, expires_in=600)
    for path in (
        "/api/v1/tasks",
        f"/api/v1/tasks/{task_id}",
        f"/api/v1/tasks/{task_id}/history",
        "/api/v1/dead-letters",
        "/api/v1/dead-letters/groups",
        "/api/v1/handlers",
        "/api/v1/metrics",
        "/api/v1/workers",
        "/stats",
        "/health/ready",
    ):
        template = path.replace(task_id, "{task_id}")
        content = document["paths"][template]["get"]["responses"]["200"]["content"]
        schema = {**content["application/json"]["schema"], "components": document["components"]}
        jsonschema_rs.validate(schema, (await client.get(path)).json())


# --- generated requests -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home: Path = tmp_path_factory.mktemp("schemathesis") / "home"
    runtime = build(load(home=home, max_wait_seconds=0.01), registry=sample_registry())
    yield schemathesis.openapi.from_asgi("/openapi.json", create_app(runtime))
    runtime.close()


# Threads of this process draw their jitter from `random` meanwhile; Hypothesis takes that for our strategies' doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests_get_documented_answers(api_schema: Any, mode: GenerationMode) -> None:
    """No 5xx, no status, header or body that the document does not state, nothing invalid accepted."""
    tried = set()
    for result in api_schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
            continue

        @settings(
            max_examples=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_documented(case: schemathesis.Case[Any]) -> None:
            tried.add(case.operation.label)
            # A generated task name is no registered one: what fits the schema may still be refused.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        answers_as_documented()
    assert len(tried) >= (21 if mode is GenerationMode.POSITIVE else 10)


def _can_be_wrong(operation: Any) -> bool:
    """Whether there is anything to send: a request without parameters and body cannot break its schema."""
    return bool(operation.body) or any(
        len(group) for group in (operation.query, operation.path_parameters, operation.headers)
    )
