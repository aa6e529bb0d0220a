"""The API function on the events of everything that can stand in front of it, over Lambda's runtime protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.lambdas.conftest import Cloud
from tests.support.lambda_events import alb, body_of, function_url, http_api, json_of
from tests.support.lambda_runtime import FunctionError, LambdaFunction

pytestmark = pytest.mark.xdist_group("lambdas-api")  # they share a cloud and functions

COUNTED = "tests.integration.lambdas.handlers,tests.integration.lambdas.counted_app"
JSON = {"content-type": "application/json"}
UNKNOWN = "01890000-0000-7000-8000-000000000000"

Front = Callable[..., dict[str, Any]]


def alb_multi(method: str, path: str, **options: Any) -> dict[str, Any]:
    return alb(method, path, multi=True, **options)


FRONTS = pytest.mark.parametrize("front", [alb, alb_multi, http_api, function_url])


@pytest.fixture(scope="module")
def api(cloud: Cloud) -> LambdaFunction:
    return cloud.function("api")


def header(answer: dict[str, Any], name: str) -> str:
    """Of an answer in any of the shapes."""
    for key, values in answer.get("multiValueHeaders", {}).items():
        if key.lower() == name:
            return ", ".join(values)
    headers = {key.lower(): value for key, value in answer.get("headers", {}).items()}
    return str(headers[name])


def submission(**fields: Any) -> bytes:
    return json.dumps({"task": "lambda_echo", **fields}).encode()


@FRONTS
def test_a_task_is_submitted_and_found_again(
    cloud: Cloud, api: LambdaFunction, front: Front
) -> None:
    body = submission(args=["grüße 😀"], priority="high")
    answer = api.invoke(front("POST", "/api/v1/tasks", headers=JSON, body=body))
    assert answer["statusCode"] == 202
    task_id = json_of(answer)["task_id"]
    assert header(answer, "location") == f"/api/v1/tasks/{task_id}"
    assert cloud.get(task_id).args == ["grüße 😀"]
    assert cloud.count("outbox") == 0  # the message was sent before the function was frozen
    [record] = cloud.source("high").receive(1)
    assert json.loads(record["body"])["task_id"] == task_id
    cloud.source("high").settle([record], {"batchItemFailures": []})

    found = api.invoke(front("GET", f"/api/v1/tasks/{task_id}"))
    assert found["statusCode"] == 200
    assert found["isBase64Encoded"] is False
    assert json_of(found)["status"] == "pending"


@FRONTS
def test_a_problem_is_readable_json(api: LambdaFunction, front: Front) -> None:
    answer = api.invoke(front("GET", f"/api/v1/tasks/{UNKNOWN}"))
    assert answer["statusCode"] == 404
    assert header(answer, "content-type") == "application/problem+json"
    assert answer["isBase64Encoded"] is False
    assert json_of(answer)["code"] == "task_not_found"


@FRONTS
def test_query_parameters_arrive_decoded(cloud: Cloud, api: LambdaFunction, front: Front) -> None:
    tag = "50% & more+ü"
    wanted = cloud.submit("lambda_echo", tags=[tag])
    cloud.submit("lambda_echo", tags=["other"])
    answer = api.invoke(front("GET", "/api/v1/tasks", query={"tag": tag, "limit": "5"}))
    assert wanted in [item["task_id"] for item in json_of(answer)["items"]]
    assert all(item["tags"] == [tag] for item in json_of(answer)["items"])


@FRONTS
def test_a_body_in_base64_is_the_same_body(api: LambdaFunction, front: Front) -> None:
    answers = [
        api.invoke(
            front("POST", "/tasks", headers=JSON, body=submission(args=["ß"]), binary=binary)
        )
        for binary in (True, False)
    ]
    assert [answer["statusCode"] for answer in answers] == [202, 202]


@FRONTS
def test_a_body_that_is_no_json_is_refused(api: LambdaFunction, front: Front) -> None:
    answer = api.invoke(front("POST", "/tasks", headers=JSON, body=b"\xff\xfe\x00", binary=True))
    assert answer["statusCode"] == 400
    assert json_of(answer)["code"] == "invalid_json"


def test_binary_files_come_as_base64(api: LambdaFunction) -> None:
    page = api.invoke(http_api("GET", "/docs"))
    assert page["statusCode"] == 200
    assert page["isBase64Encoded"] is False
    icon = api.invoke(http_api("GET", "/docs/assets/favicon.png"))
    assert icon["statusCode"] == 200
    assert icon["isBase64Encoded"] is True
    assert body_of(icon).startswith(b"\x89PNG")


def test_a_repeated_header_keeps_its_values_where_the_front_can_carry_them(
    api: LambdaFunction,
) -> None:
    """A load balancer without multi-value headers has sent only the last one; API Gateway has joined them, and two
    ids in one are none."""
    given = {"x-request-id": ["first", "second"]}
    assert header(api.invoke(alb_multi("GET", "/health", headers=given)), "x-request-id") == "first"
    assert header(api.invoke(alb("GET", "/health", headers=given)), "x-request-id") == "second"
    made_here = header(api.invoke(http_api("GET", "/health", headers=given)), "x-request-id")
    assert made_here not in {"first", "second", "first,second"}


@FRONTS
@pytest.mark.parametrize("host", ["[2600:1f18::1]:8443", "[2600:1f18::1]", "lb.example.com:8443"])
def test_whatever_the_host_of_a_request_is_it_is_answered(
    api: LambdaFunction, front: Front, host: str
) -> None:
    """Whoever asks chooses it: by the address of a load balancer, with a port or without."""
    answer = api.invoke(front("GET", "/api/v1/tasks/", headers={"host": host}))
    assert answer["statusCode"] == 307
    assert header(answer, "location") == f"https://{host}/api/v1/tasks"


@pytest.mark.parametrize("host", ["", ":", "lb.example.com:", "lb.example.com:https", "a:b:c"])
def test_a_host_without_a_meaning_fails_no_function(api: LambdaFunction, host: str) -> None:
    assert api.invoke(alb("GET", "/health", headers={"host": host}))["statusCode"] == 200


@FRONTS
@pytest.mark.parametrize("port", ["443,443", "", "https"])
def test_a_port_without_a_meaning_fails_no_function(
    api: LambdaFunction, front: Front, port: str
) -> None:
    event = front("GET", "/health", headers={"x-forwarded-port": port})
    assert api.invoke(event)["statusCode"] == 200


def test_idempotency_works_across_containers(cloud: Cloud, api: LambdaFunction) -> None:
    request = alb("POST", "/tasks", headers={**JSON, "idempotency-key": "k-1"}, body=submission())
    first = api.invoke(request)
    second = cloud.function("api").invoke(request)
    assert (first["statusCode"], second["statusCode"]) == (202, 200)
    assert json_of(first)["task_id"] == json_of(second)["task_id"]
    assert header(second, "idempotency-replayed") == "true"


def test_the_application_is_built_once_and_survives_being_frozen(cloud: Cloud) -> None:
    api = cloud.function("api", tasks=COUNTED)
    api.invoke(alb("GET", "/health"))
    cloud.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    answer = api.invoke(alb("GET", f"/api/v1/tasks/{UNKNOWN}"))
    assert answer["statusCode"] == 404  # not 503: the dead connection was noticed, and replaced
    assert api.starts == 1
    assert api.invoke(alb("GET", "/health/ready"))["statusCode"] == 200
    assert len(api.lines("app.created")) == 1


def test_one_connection_is_enough(cloud: Cloud, worker: LambdaFunction) -> None:
    before = cloud.connections("taskflow%")
    api = cloud.function("api")
    batch = json.dumps({"tasks": [{"task": "lambda_echo", "args": [n]} for n in range(50)]})
    answer = api.invoke(alb("POST", "/api/v1/tasks/batch", headers=JSON, body=batch.encode()))
    assert answer["statusCode"] in {200, 202}
    assert len(json_of(answer)["items"]) == 50
    api.invoke(alb("GET", "/api/v1/metrics"))
    assert cloud.connections("taskflow%") == before + 1
    cloud.source().drain(worker)


@pytest.mark.parametrize("written", ["/prod", "/prod/", "prod"])
def test_a_stage_prefix_is_taken_off_and_put_back(cloud: Cloud, written: str) -> None:
    api = cloud.function("api", lambda_base_path=written)
    event = http_api("POST", "/api/v1/tasks", headers=JSON, body=submission(), stage="prod")
    answer = api.invoke(event)
    assert answer["statusCode"] == 202
    task_id = json_of(answer)["task_id"]
    assert header(answer, "location") == f"/prod/api/v1/tasks/{task_id}"
    assert api.lines("http.request")[-1]["path"] == "/prod/api/v1/tasks"
    home = api.invoke(http_api("GET", "/", stage="prod"))
    assert header(home, "location") == "/prod/docs"
    page = body_of(api.invoke(http_api("GET", "/docs", stage="prod"))).decode()
    assert '"/prod/docs/assets/swagger-ui.css"' in page
    icon = api.invoke(http_api("GET", "/docs/assets/favicon.png", stage="prod"))
    assert body_of(icon).startswith(b"\x89PNG")


def test_a_held_request_is_answered_before_the_function_ends(
    cloud: Cloud, api: LambdaFunction
) -> None:
    task_id = cloud.submit("lambda_echo", delay=3_600)
    began = time.monotonic()
    event = alb("GET", f"/api/v1/tasks/{task_id}", query={"wait": "30"})
    answer = api.invoke(event, timeout_seconds=4)
    assert json_of(answer)["status"] == "scheduled"
    assert time.monotonic() - began < 30
    assert api.starts == 1  # nobody had to kill it
    assert api.invoke(alb("GET", "/health"))["statusCode"] == 200  # it is not draining for good


def test_an_answer_too_large_for_a_load_balancer_says_so(cloud: Cloud, api: LambdaFunction) -> None:
    for _ in range(20):
        cloud.submit("lambda_echo", "x" * 60_000, tags=["large"], delay=3_600)
    query = {"tag": "large", "limit": "20"}
    through_alb = api.invoke(alb("GET", "/api/v1/tasks", query=query))
    assert through_alb["statusCode"] == 500
    assert json_of(through_alb)["code"] == "response_too_large"
    through_gateway = api.invoke(http_api("GET", "/api/v1/tasks", query=query))
    assert len(json_of(through_gateway)["items"]) == 20


def test_an_event_of_another_sort_is_an_error(api: LambdaFunction) -> None:
    with pytest.raises(FunctionError, match="unable to infer"):
        api.invoke({"hello": "world"})
    assert api.invoke(alb("GET", "/health"))["statusCode"] == 200


def test_a_store_that_does_not_answer_is_a_503_until_it_does(cloud: Cloud) -> None:
    api = cloud.function("api", tasks=COUNTED)
    listing = alb("GET", "/api/v1/tasks", query={"limit": "1"})
    with cloud.store_away():  # while the container starts
        for _ in range(2):
            answer = api.invoke(listing)
            assert answer["statusCode"] == 503
            assert json_of(answer)["code"] == "store_unavailable"
            assert "retry-after" in {key.lower() for key in answer["headers"]}
    assert api.invoke(listing)["statusCode"] == 200
    with cloud.store_away():  # in the middle of its life
        assert api.invoke(listing)["statusCode"] == 503
    assert api.invoke(listing)["statusCode"] == 200
    assert (api.starts, len(api.lines("app.created"))) == (1, 1)


def test_a_store_that_hangs_is_a_503_if_a_statement_may_not_last_as_long_as_the_function(
    cloud: Cloud,
) -> None:
    api = cloud.function("api", timeout_seconds=20, database_statement_timeout_seconds=1)
    listing = alb("GET", "/api/v1/tasks", query={"limit": "1"})
    assert api.invoke(listing)["statusCode"] == 200
    cloud.runtime.database.engine.dispose()  # another test may have ended its connections
    with cloud.runtime.database.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        for event in (listing, alb("POST", "/tasks", headers=JSON, body=submission())):
            answer = api.invoke(event)
            assert (answer["statusCode"], json_of(answer)["code"]) == (503, "store_unavailable")
    assert api.invoke(listing)["statusCode"] == 200
    assert api.starts == 1


def test_a_wrong_setting_fails_the_start_with_its_name(cloud: Cloud) -> None:
    api = cloud.function("api", lambda_margin_seconds="soon")
    with pytest.raises(FunctionError, match="TASKFLOW_LAMBDA_MARGIN_SECONDS"):
        api.invoke(alb("GET", "/health"))
