"""`http_request` through the real sender: results, failures that classify themselves, redirects."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskFlow
from taskflow.adapters.http.sender import VettedHttpSender
from taskflow.core import jsontext
from taskflow.core.classification import classify
from taskflow.core.errors import TaskFailedError
from taskflow.core.http_answers import retry_after_of, retry_after_seconds
from taskflow.core.task import ErrorClass
from taskflow.handlers.http_request import (
    HttpStatusError,
    UnfollowedRedirectError,
    http_request_handler,
)
from tests.support.context import PlainContext
from tests.support.http_server import Reply, Server, http_server

JSON = {"Content-Type": "application/json; charset=utf-8"}


@pytest.fixture
def request_it() -> Callable[..., dict[str, Any]]:
    handler = http_request_handler(
        VettedHttpSender(allow_private=True, max_body_bytes=10_000), max_redirects=3
    )

    def request(*args: Any, **kwargs: Any) -> dict[str, Any]:
        result = handler(PlainContext(), *args, **kwargs)
        jsontext.check(result)
        return result

    return request


Request = Callable[..., dict[str, Any]]


def test_json_goes_out_and_comes_back_parsed(request_it: Request) -> None:
    with http_server({"/": Reply(200, JSON, b'{"n": [1, 2]}')}) as server:
        result = request_it(server.url + "/", method="POST", json={"a": "ä"})
    [asked] = server.received
    assert json.loads(asked.body) == {"a": "ä"}
    assert asked.headers["Content-Type"] == "application/json"
    assert (result["status_code"], result["encoding"], result["body"]) == (
        200,
        "json",
        {"n": [1, 2]},
    )
    assert result["headers"]["content-type"] == JSON["Content-Type"]
    assert "truncated" not in result


@pytest.mark.parametrize(
    ("reply", "encoding", "body"),
    [
        (Reply(200, {"Content-Type": "text/plain"}, "ä".encode()), "text", "ä"),
        (Reply(200, {"Content-Type": "text/plain; charset=latin-1"}, b"\xe4"), "text", "ä"),
        (
            Reply(200, {"Content-Type": "text/plain; charset=nonsense"}, b"x"),
            "base64",
            base64.b64encode(b"x").decode(),
        ),
        (
            Reply(200, {"Content-Type": "text/plain"}, b"\xff"),
            "base64",
            base64.b64encode(b"\xff").decode(),
        ),
        (
            Reply(200, {"Content-Type": "text/plain"}, b"a\0"),
            "base64",
            base64.b64encode(b"a\0").decode(),
        ),
        (Reply(200, JSON, b'{"n": NaN}'), "text", '{"n": NaN}'),
        (Reply(200, {"Content-Type": "application/problem+json"}, b"{}"), "json", {}),
        (Reply(204), "text", ""),
    ],
)
def test_a_body_is_json_text_or_base64(
    request_it: Request, reply: Reply, encoding: str, body: object
) -> None:
    with http_server({"/": reply}) as server:
        result = request_it(server.url + "/")
    assert (result["encoding"], result["body"]) == (encoding, body)


def test_a_cut_body_says_so(request_it: Request) -> None:
    with http_server({"/": Reply(200, JSON, b"[" + b"1," * 10_000 + b"1]")}) as server:
        result = request_it(server.url + "/")
    assert result["truncated"] is True
    assert result["encoding"] == "text"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, ErrorClass.PERMANENT),
        (422, ErrorClass.PERMANENT),
        (503, ErrorClass.TRANSIENT),
        (408, ErrorClass.TRANSIENT),
        (429, ErrorClass.RATE_LIMITED),
        (302, ErrorClass.PERMANENT),
    ],
)
def test_another_status_than_2xx_is_a_failure_of_its_class(
    request_it: Request, status: int, kind: ErrorClass
) -> None:
    with (
        http_server({"/x?key=secret": Reply(status)}) as server,
        pytest.raises(HttpStatusError) as failed,
    ):
        request_it(server.url + "/x?key=secret")
    assert failed.value.status_code == status
    assert classify(failed.value) is kind
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        (
            {
                "Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            0.0,
        ),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_what_the_server_asks_for_reaches_the_retry_policy(
    request_it: Request, headers: dict[str, str], seconds: float | None
) -> None:
    from taskflow.ports.http import HttpAnswer

    lower = {name.lower(): value for name, value in headers.items()}
    assert retry_after_of(lower) == seconds
    error = HttpStatusError("GET", "http://x.example/", HttpAnswer(503, lower, b""))
    assert retry_after_seconds(error) == seconds


def test_requests_that_change_something_carry_the_tasks_id(request_it: Request) -> None:
    with http_server({"/": Reply()}) as server:
        request_it(server.url + "/", method="POST")
        request_it(server.url + "/", method="POST", headers={"Idempotency-Key": "mine"})
        request_it(server.url + "/")
    assert [asked.headers["Idempotency-Key"] for asked in server.received] == [
        PlainContext.task_id,
        "mine",
        None,
    ]


def redirects(to: str, status: int = 302) -> Reply:
    return Reply(status, {"Location": to})


def test_redirects_are_followed_only_when_asked_for(request_it: Request) -> None:
    with http_server({"/": redirects("/there"), "/there": Reply(200, {}, b"x")}) as server:
        with pytest.raises(UnfollowedRedirectError):
            request_it(server.url + "/")
        result = request_it(server.url + "/", follow_redirects=True)
    assert result["url"] == server.url + "/there"


@pytest.mark.parametrize("most", [0, 1, 3])
def test_as_many_redirects_are_followed_as_the_setting_says(tmp_path: Path, most: int) -> None:
    chain = {f"/{n}": redirects(f"/{n + 1}") for n in range(most + 1)}
    with (
        http_server({**chain, f"/{most + 1}": Reply()}) as server,
        TaskFlow(home=tmp_path, http_max_redirects=most, http_allow_private=True) as app,
    ):
        followed, one_too_many = (
            app.submit("http_request", url=f"{server.url}/{start}", follow_redirects=True)
            for start in (1, 0)
        )
        assert followed.result(60)["status_code"] == 200
        with pytest.raises(
            TaskFailedError, match=r"UnfollowedRedirectError: .*TASKFLOW_HTTP_MAX_REDIRECTS"
        ):
            one_too_many.result(60)


@pytest.mark.parametrize(
    ("status", "method", "body"), [(303, "GET", b""), (302, "GET", b""), (307, "POST", b"text")]
)
def test_a_redirect_decides_whether_the_request_is_repeated(
    request_it: Request, status: int, method: str, body: bytes
) -> None:
    with http_server({"/": redirects("/there", status), "/there": Reply()}) as server:
        request_it(server.url + "/", method="POST", body="text", follow_redirects=True)
    assert (server.received[-1].method, server.received[-1].body) == (method, body)


def test_credentials_stay_with_their_origin(request_it: Request) -> None:
    secrets = {"Authorization": "Bearer x", "X-Api-Key": "y", "Accept": "text/html"}
    with (
        http_server({"/": Reply()}) as other,
        http_server({"/": redirects(other.url + "/")}) as server,
    ):
        request_it(server.url + "/", headers=secrets, follow_redirects=True)
    [asked] = other.received
    assert asked.headers["Accept"] == "text/html"
    assert asked.headers["Authorization"] is None
    assert asked.headers["X-Api-Key"] is None


def test_every_redirect_is_vetted_anew() -> None:
    reached: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        reached.append(host)
        return ["127.0.0.1"]

    def run(server: Server) -> None:
        public = VettedHttpSender(allow_private=True, max_body_bytes=100, resolve=resolve)
        strict = VettedHttpSender(allow_private=False, max_body_bytes=100, resolve=resolve)

        class FirstFree:
            """As if only the first host were public."""

            def send(self, method: str, url: str, **rest: Any) -> Any:
                return (strict if reached else public).send(method, url, **rest)

        http_request_handler(FirstFree(), max_redirects=3)(
            PlainContext(), f"http://outside.example:{server.port}/", follow_redirects=True
        )

    from taskflow.core.errors import InvalidRequestError

    with (
        http_server({"/": redirects("http://inside.example/secret")}) as server,
        pytest.raises(InvalidRequestError, match="not on the public internet"),
    ):
        run(server)
    assert reached == ["outside.example", "inside.example"]


def test_json_and_body_exclude_each_other(request_it: Request) -> None:
    with pytest.raises(ValueError, match="either"):
        request_it("http://x.example/", json=1, body="x")


def test_no_time_left_means_no_request() -> None:
    handler = http_request_handler(
        VettedHttpSender(allow_private=True, max_body_bytes=100), max_redirects=3
    )
    with http_server({"/": Reply()}) as server, pytest.raises(TimeoutError):
        handler(PlainContext(seconds_left=0.0), server.url + "/")
    assert server.received == []


@pytest.mark.parametrize("own", [None, {"Traceparent": "mine"}])
def test_the_trace_of_the_task_goes_along(own: dict[str, str] | None) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    handler = http_request_handler(
        VettedHttpSender(allow_private=True, max_body_bytes=10_000), max_redirects=3
    )
    with http_server({"/": Reply(200)}) as server:
        handler(PlainContext(traceparent=traceparent), server.url + "/", headers=own)
        handler(PlainContext(), server.url + "/")
    asked, without = server.received
    assert asked.headers.get_all("traceparent") == (["mine"] if own else [traceparent])  # type: ignore[attr-defined]
    assert "traceparent" not in without.headers
