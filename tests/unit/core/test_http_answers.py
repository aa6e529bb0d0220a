"""What exceptions of HTTP libraries say of the answer they are about: with the real classes."""

from __future__ import annotations

import urllib.error
from email.message import Message
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from botocore.exceptions import ClientError

from taskflow.core.classification import classify
from taskflow.core.errors import QueueFullError
from taskflow.core.http_answers import http_status, retry_after_seconds
from taskflow.core.task import ErrorClass
from taskflow.worker.remote_errors import from_message, to_message

NOON = "Thu, 01 Jan 2026 12:00:00 GMT"
LATER = "Thu, 01 Jan 2026 12:01:30 GMT"


def from_urllib(status: int, headers: dict[str, str]) -> Exception:
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return urllib.error.HTTPError("http://x", status, "no", message, None)


def from_requests(status: int, headers: dict[str, str]) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError(response=response)


def from_httpx(status: int, headers: dict[str, str]) -> Exception:
    request = httpx.Request("GET", "http://x")
    response = httpx.Response(status, headers=headers, request=request)
    return httpx.HTTPStatusError("no", request=request, response=response)


def from_botocore(status: int, headers: dict[str, str], code: str = "Some") -> Exception:
    lower = {name.lower(): value for name, value in headers.items()}
    answer: Any = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": lower},
    }
    return ClientError(answer, "GetObject")


@pytest.fixture(params=[False, True], ids=["here", "from_a_child"])
def seen(request: pytest.FixtureRequest) -> Any:
    """As the parent sees it, which has either caught it, or been told of it by a child process."""

    def see(exc: Exception) -> BaseException:
        return from_message(to_message(exc)) if request.param else exc

    return see


@pytest.mark.parametrize("library", [from_urllib, from_requests, from_httpx, from_botocore])
class TestEveryLibrary:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (403, ErrorClass.PERMANENT),
            (404, ErrorClass.PERMANENT),
            (429, ErrorClass.RATE_LIMITED),
            (503, ErrorClass.TRANSIENT),
        ],
    )
    def test_its_status_decides(
        self, library: Any, status: int, kind: ErrorClass, seen: Any
    ) -> None:
        assert classify(seen(library(status, {}))) is kind

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Retry-After": "30"}, 30.0),
            ({"Retry-After": LATER, "Date": NOON}, 90.0),
            ({"retry-after": LATER, "date": NOON}, 90.0),
            ({"Retry-After": LATER}, None),
            ({}, None),
        ],
    )
    def test_its_wish_is_found(
        self, library: Any, headers: dict[str, str], seconds: float | None, seen: Any
    ) -> None:
        assert retry_after_seconds(seen(library(429, headers))) == seconds


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", ErrorClass.PERMANENT),
        (400, "ValidationException", ErrorClass.PERMANENT),
        (400, "ThrottlingException", ErrorClass.RATE_LIMITED),
        (400, "ProvisionedThroughputExceededException", ErrorClass.RATE_LIMITED),
        (503, "SlowDown", ErrorClass.RATE_LIMITED),
        (400, "RequestTimeout", ErrorClass.TRANSIENT),
        (500, "InternalError", ErrorClass.TRANSIENT),
    ],
)
def test_what_aws_says_is_more_than_its_status(
    status: int, code: str, kind: ErrorClass, seen: Any
) -> None:
    assert classify(seen(from_botocore(status, {}, code))) is kind


@pytest.mark.parametrize("response", [{}, {"Error": None}, {"ResponseMetadata": "x"}, [], "x", 4])
def test_a_response_of_another_shape_says_nothing(response: Any) -> None:
    exc = Exception()
    exc.response = response  # type: ignore[attr-defined]
    assert (http_status(exc), retry_after_seconds(exc)) == (None, None)


def response(**headers: str) -> Exception:
    exc = Exception("HTTP error")
    exc.response = SimpleNamespace(  # type: ignore[attr-defined]
        headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    return exc


@pytest.mark.parametrize(
    ("exc", "seconds"),
    [
        (QueueFullError("full", retry_after_seconds=2.5), 2.5),
        (response(Retry_After="30"), 30.0),
        (response(Retry_After="0"), 0.0),
        (response(Retry_After=LATER, Date=NOON), 90.0),
        (response(Retry_After="Thu, 01 Jan 2026 11:00:00 GMT", Date=NOON), 0.0),
        (response(Retry_After=LATER), None),
        (response(Retry_After="tomorrow", Date=NOON), None),
        (response(Retry_After="-5"), None),
        (response(Retry_After="inf"), None),
        (response(Retry_After="nan"), None),
        (response(), None),
        (ValueError("x"), None),
    ],
)
def test_what_a_server_asks_for_is_found(exc: Exception, seconds: float | None) -> None:
    assert retry_after_seconds(exc) == seconds


@pytest.mark.parametrize("value", [None, "soon", 10**400, object(), [], -1])
def test_nonsense_is_no_wish(value: Any) -> None:
    exc = Exception()
    exc.retry_after = value  # type: ignore[attr-defined]
    assert retry_after_seconds(exc) is None


class Prickly(Exception):
    """Every attribute is code that fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_attributes_that_cannot_be_read_say_nothing(seen: Any) -> None:
    exc = seen(Prickly("hands off"))
    assert classify(exc) is ErrorClass.TRANSIENT
    assert (http_status(exc), retry_after_seconds(exc)) == (None, None)
