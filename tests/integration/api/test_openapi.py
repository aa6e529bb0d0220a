"""The OpenAPI document is true: what it says is taken, what it does not say is not answered."""

from __future__ import annotations

import copy
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from taskflow.api.app import create_app
from taskflow.bootstrap import Runtime, build
from taskflow.core import jsontext
from taskflow.core.errors import InvalidJSONError
from taskflow.core.submission import Accepted, Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT
from taskflow.settings import load
from tests.integration.api.conftest import submit, work, works
from tests.integration.api.samples import sample_registry

pytestmark = pytest.mark.xdist_group("api-openapi")  # they share an application

load_all_checks()
MUST_BE_STATED = ("get", "post", "put", "patch", "delete")
# No generated artifact is there, and no attempt has put one there: tests/integration/artifacts/test_http.py does.
NEVER_THERE = {"GET /api/v1/tasks/{task_id}/artifacts/{name}"}


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
        ({"task": "echo", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, True),
        ({"task": "echo", "traceparent": f"00-{'0' * 32}-{'b' * 16}-01"}, False),
        ({"task": "echo", "priority": 1.0, "max_retries": 3.0}, True),
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


@works
async def test_real_answers_to_changes_fit_their_schemas(
    client: httpx.AsyncClient, document: dict[str, Any], runtime: Any
) -> None:
    """Where the route writes its answer itself nothing else looks at it. No property that is not documented, either."""
    document = _without_more(document)
    seen = set()

    async def ask(method: str, path: str, status: int, *, body: Any = None) -> Any:
        answer = await client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        template = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "{task_id}", path.partition("?")[0])
        stated = document["paths"][template][method.lower()]["responses"][str(status)]
        [(kind, content)] = stated["content"].items()
        schema = {**content["schema"], "components": document["components"]}
        jsonschema_rs.validate(schema, answer.json(), validate_formats=True)
        assert answer.headers["Content-Type"] == kind
        assert {name.lower() for name in stated["headers"]} <= answer.headers.keys()
        seen.add((template, status))
        return answer.json()

    for path in ("/api/v1/tasks", "/tasks"):
        for body in (
            {"task": "echo", "kwargs": {"message": "m"}, "tags": ["t"], "metadata": {"k": [1]}},
            {"func_name": "add", "args": [1], "kwargs": {"b": 2}, "priority": 1},
            {"name": "n", "task_type": "add", "payload": {"a": 1}, "priority": "high"},
            {"task": "echo", "delay": 60, "expires_in": 600, "timeout": 1.5, "max_retries": 0},
        ):
            accepted = await ask("POST", path, 202, body=body)
            await ask("GET", f"{path}/{accepted['task_id']}", 200)
        keyed = {"task": "echo", "idempotency_key": path, "kwargs": {"message": "again"}}
        await ask("POST", path, 202, body=keyed)
        await ask("POST", path, 200, body=keyed)
        work(runtime)
        await ask("POST", path, 200, body=keyed)
        await ask("POST", path, 422, body={**keyed, "kwargs": {}})
    child = {"task": "echo", "depends_on": [accepted["task_id"]]}
    tasks = [keyed, child, {"task": "nothing"}, {"task": "add"}, {"task": "fail"}]
    answer = await ask("POST", "/api/v1/tasks/batch", 202, body={"tasks": tasks})
    assert ["task_id" in item for item in answer["items"]] == [True, True, False, False, True]
    later = f"/api/v1/tasks/{accepted['task_id']}"
    for action, status in (("cancel", 200), ("cancel", 409), ("retry", 200), ("retry", 409)):
        await ask("POST", f"{later}/{action}", status)
    await ask("GET", f"{later}?wait=0.01", 200)
    work(runtime)
    await ask("GET", f"{later}?wait=20", 200)
    await ask("GET", f"{later}/history", 200)
    await ask("POST", "/api/v1/dead-letters/redrive", 200, body={"all": True})
    work(runtime)
    await ask("POST", "/api/v1/dead-letters/discard", 200, body={"task": "fail"})
    assert {("/tasks", 200), ("/api/v1/tasks/{task_id}/retry", 409)} <= seen


def _without_more(document: dict[str, Any]) -> dict[str, Any]:
    """The same with objects that have no other properties than those that are named, unless they say so."""
    strict = copy.deepcopy(document)
    for schema in strict["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return strict


# --- generated requests -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    home: Path = tmp_path_factory.mktemp("schemathesis") / "home"
    runtime = build(load(home=home, max_wait_seconds=0.01), registry=sample_registry())
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def api_schema(served: Runtime) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(served))


# Threads of this process draw their jitter from `random` meanwhile; Hypothesis takes that for our strategies' doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests_get_documented_answers(
    api_schema: Any, served: Runtime, mode: GenerationMode
) -> None:
    """No 5xx, no status, header or body that the document does not state, nothing invalid accepted. Every other valid
    request is about what there is: it must be accepted, too."""
    answered: defaultdict[str, set[int]] = defaultdict(set)
    turns = itertools.count()
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
            is_real = mode is GenerationMode.POSITIVE and next(turns) % 2 == 0
            if is_real:
                _about_what_there_is(case, served)
            response = case.call()
            # A generated task name is no registered one: what fits the schema may still be refused.
            excluded = [] if is_real else [positive_data_acceptance]
            case.validate_response(response, excluded_checks=excluded)
            answered[case.operation.label].add(response.status_code)

        answers_as_documented()
    assert len(answered) >= (21 if mode is GenerationMode.POSITIVE else 10)
    if mode is GenerationMode.POSITIVE:
        failed = {label for label, codes in answered.items() if not {200, 202} & codes}
        assert failed <= NEVER_THERE


def _about_what_there_is(case: schemathesis.Case[Any], runtime: Runtime) -> None:
    """With names that are registered, ids that exist, and none of the contradictions that no schema can rule out."""
    label = case.operation.label
    case.query = {name: value for name, value in (case.query or {}).items() if name != "cursor"}
    if "task_id" in (case.path_parameters or {}):
        task_id = _waiting(runtime)
        if label.endswith("/retry"):
            runtime.tasks.cancel(DEFAULT_TENANT, task_id)
        case.path_parameters = {**case.path_parameters, "task_id": task_id}
    if label in ("POST /tasks", "POST /api/v1/tasks"):
        case.body = _acceptable(case.body, runtime)
        if "Idempotency-Key" in (case.headers or {}):
            case.body.pop("idempotency_key", None)
            case.headers["Idempotency-Key"] = uuid4().hex
    elif label.endswith("/batch"):
        case.body = {"tasks": [_acceptable(task, runtime) for task in case.body["tasks"]]}
    elif label.startswith("POST /api/v1/dead-letters"):
        unwanted = ("task", "fingerprint", "all") if case.body.get("task_ids") else ()
        body = {name: value for name, value in case.body.items() if name not in unwanted}
        case.body = body if unwanted else {**body, "all": True}


def _acceptable(body: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
    kept = dict(body)
    for name in ("task", "func_name", "task_type"):
        if name in kept:
            kept[name] = "keep"
    for name in ("args", "kwargs", "payload"):
        kept.pop(name, None)
    kept["payload"] = {"value": body.get("args")}
    for one, other in (("delay", "run_at"), ("expires_in", "expires_at")):
        if kept.get(one) is not None:
            kept.pop(other, None)
    if kept.get("idempotency_key") is not None:  # not that of another request
        kept["idempotency_key"] = uuid4().hex
    if kept.get("depends_on"):
        kept["depends_on"] = [_waiting(runtime)]
    for name in ("payload", "metadata"):  # a schema cannot say what I-JSON is
        try:
            jsontext.check(kept.get(name, {}))
        except InvalidJSONError:
            del kept[name]
    return kept


def _waiting(runtime: Runtime) -> str:
    """The id of a task that can be cancelled."""
    submission = Submission("echo", options=SubmitOptions(delay=3_600))
    [answer] = runtime.submissions.submit(DEFAULT_TENANT, (submission,))
    assert isinstance(answer, Accepted)
    return answer.task_id


def _can_be_wrong(operation: Any) -> bool:
    """Whether there is anything to send: a request without parameters and body cannot break its schema."""
    return bool(operation.body) or any(
        len(group) for group in (operation.query, operation.path_parameters, operation.headers)
    )
