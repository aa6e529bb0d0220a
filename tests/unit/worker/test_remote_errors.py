from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from taskflow.core.classification import classify
from taskflow.core.errors import InvalidResultError
from taskflow.core.http_answers import retry_after_seconds
from taskflow.core.retry import Reject, Retry
from taskflow.core.task import ErrorClass
from taskflow.worker.remote_errors import from_message, to_message


class OddError(Exception):
    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(one, two)

    def __str__(self) -> str:
        return "odd, with ünïcode and \ud800"


class HTTPError(Exception):
    def __init__(self) -> None:
        super().__init__("server said 503")
        self.response = SimpleNamespace(status_code=503, headers={"Retry-After": "7"})


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def across(exc: Exception) -> BaseException:
    try:
        raise exc
    except Exception as raised:
        return from_message(json.loads(json.dumps(to_message(raised))))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("no"), ConnectionResetError(104, "reset"), TimeoutError(), KeyError("x"), Reject("never"),
        Retry("later"), Retry("later", counts=False), InvalidResultError("a set"), HTTPError(), OddError(1, two=2),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
    ids=lambda exc: type(exc).__name__,
)  # fmt: skip
def test_the_parent_judges_it_as_the_child_would(exc: Exception) -> None:
    here = across(exc)
    assert classify(here) is classify(exc)
    assert isinstance(here, type(exc))
    assert type(here).__name__ == type(exc).__name__
    assert retry_after_seconds(here) == retry_after_seconds(exc)
    assert str(here) == str(exc).encode("utf-8", "replace").decode()


def test_the_delay_of_a_retry_survives() -> None:
    here = across(Retry("later", delay=12.5))
    assert isinstance(here, Retry)
    assert (here.delay_seconds, here.counts) == (12.5, True)


def test_the_traceback_of_the_child_is_its_cause() -> None:
    assert "raise exc" in str(across(ValueError("no")).__cause__)


def test_a_class_the_parent_does_not_know_is_named_all_the_same() -> None:
    message = to_message(ConnectionRefusedError("refused"))
    message["classes"].insert(0, ["only.in.the.child", "Outer.VendorError"])
    here = from_message(message)
    assert type(here).__name__ == "VendorError"
    assert classify(here) is ErrorClass.TRANSIENT
    assert isinstance(here, ConnectionRefusedError)


def test_an_error_without_words_arrives() -> None:
    assert str(across(MuteError())) == "<MuteError.__str__ raised RuntimeError>"
