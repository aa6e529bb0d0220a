"""Why an attempt failed, and what follows."""

from __future__ import annotations

import http
import json
import random
import urllib.error
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.classification import (
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_CHARS,
    classify,
    describe,
    fingerprint,
    judge,
)
from taskflow.core.errors import (
    AttemptCancelledError,
    AttemptTimeoutError,
    HandlerExitedError,
    InvalidResultError,
    PayloadMissingError,
    StoreUnavailableError,
    UnknownTaskError,
    WorkerCrashedError,
)
from taskflow.core.registry import Handler, Registry, TaskOptions
from taskflow.core.retry import Reject, Retry, RetryPolicy
from taskflow.core.submission import MAX_DELAY_SECONDS
from taskflow.core.task import ErrorClass, TaskError


class Flaky(Exception):
    pass


def handler(**declared: Any) -> Handler[..., Any]:
    def work() -> None: ...

    return Registry().add(work, declared=TaskOptions(**declared))


def with_status(status: Any, *, on_response: bool = False) -> Exception:
    exc = Exception("HTTP error")
    holder = SimpleNamespace(status_code=status, headers={})
    if on_response:
        exc.response = holder  # type: ignore[attr-defined]
    else:
        exc.status_code = status  # type: ignore[attr-defined]
    return exc


class TestClasses:
    @pytest.mark.parametrize(
        ("exc", "kind"),
        [
            (ConnectionError(), ErrorClass.TRANSIENT),
            (TimeoutError(), ErrorClass.TRANSIENT),
            (OSError(28, "disk full"), ErrorClass.TRANSIENT),
            (Flaky(), ErrorClass.TRANSIENT),
            (StoreUnavailableError("locked"), ErrorClass.TRANSIENT),
            (Retry(), ErrorClass.TRANSIENT),
            (Retry(counts=False), ErrorClass.RATE_LIMITED),
            (Reject("no"), ErrorClass.PERMANENT),
            (ValueError(), ErrorClass.PERMANENT),
            (KeyError("x"), ErrorClass.PERMANENT),
            (ZeroDivisionError(), ErrorClass.PERMANENT),
            (json.JSONDecodeError("x", "y", 0), ErrorClass.PERMANENT),
            (InvalidResultError("x"), ErrorClass.PERMANENT),
            (HandlerExitedError("x"), ErrorClass.PERMANENT),
            (UnknownTaskError("x"), ErrorClass.PERMANENT),
            (PayloadMissingError("x"), ErrorClass.PERMANENT),
            (AttemptTimeoutError("x"), ErrorClass.TIMED_OUT),
            (AttemptCancelledError("x"), ErrorClass.CANCELLED),
            (WorkerCrashedError("x"), ErrorClass.CRASHED),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
    )
    def test_an_error_has_its_class(self, exc: Exception, kind: ErrorClass) -> None:
        assert classify(exc) is kind

    @pytest.mark.parametrize("on_response", [False, True])
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (429, ErrorClass.RATE_LIMITED),
            (http.HTTPStatus.TOO_MANY_REQUESTS, ErrorClass.RATE_LIMITED),
            (503, ErrorClass.TRANSIENT),
            (408, ErrorClass.TRANSIENT),
            (404, ErrorClass.PERMANENT),
            (501, ErrorClass.PERMANENT),
            (200, ErrorClass.TRANSIENT),
            (1006, ErrorClass.TRANSIENT),
            ("404", ErrorClass.TRANSIENT),
            (True, ErrorClass.TRANSIENT),
        ],
    )
    def test_an_http_status_decides(self, status: Any, kind: ErrorClass, on_response: bool) -> None:
        assert classify(with_status(status, on_response=on_response)) is kind

    def test_urllib_errors_carry_their_status_as_code(self) -> None:
        exc = urllib.error.HTTPError("http://x", 410, "Gone", Message(), None)
        assert classify(exc) is ErrorClass.PERMANENT

    def test_what_the_handler_declares_wins_over_the_rules(self) -> None:
        declared = handler(retry_for=(ValueError,), never_retry_for=(ConnectionError,))
        assert classify(ValueError(), declared) is ErrorClass.TRANSIENT
        assert classify(ConnectionResetError(), declared) is ErrorClass.PERMANENT
        assert classify(TypeError(), declared) is ErrorClass.PERMANENT

    def test_never_wins_over_retry_for(self) -> None:
        declared = handler(retry_for=(OSError,), never_retry_for=(ConnectionError,))
        assert classify(ConnectionError(), declared) is ErrorClass.PERMANENT
        assert classify(OSError(), declared) is ErrorClass.TRANSIENT

    def test_what_the_handler_asks_for_by_raising_wins_over_what_it_declares(self) -> None:
        declared = handler(retry_for=(Exception,), never_retry_for=(Exception,))
        assert classify(Reject("x"), declared) is ErrorClass.PERMANENT
        assert classify(Retry("x"), declared) is ErrorClass.TRANSIENT
        assert classify(AttemptCancelledError("x"), declared) is ErrorClass.CANCELLED


POLICY = RetryPolicy(base_seconds=4, factor=2, cap_seconds=100, jitter=False)


def verdict(exc: BaseException, by: Handler[..., Any] | None = None, **given: Any) -> Any:
    values: dict[str, Any] = {
        "attempt": 1,
        "failure_count": 0,
        "crash_count": 0,
        "max_retries": 3,
        "max_crashes": 5,
        "max_uncounted_attempts": 10,
        "seconds_left": None,
        "default_policy": POLICY,
        "rng": random.Random(1),
    }
    return judge(exc, by, **{**values, **given})


class TestVerdicts:
    def test_a_transient_error_is_retried_with_backoff_while_retries_are_left(self) -> None:
        assert [verdict(Flaky(), failure_count=n).delay_seconds for n in range(4)] == [
            4,
            8,
            16,
            None,
        ]
        assert verdict(Flaky(), failure_count=3).reason == "3 retries used up"
        assert verdict(Flaky(), max_retries=0).reason == "no retries allowed"

    def test_a_permanent_error_is_not_retried(self) -> None:
        found = verdict(ValueError(), max_retries=100)
        assert (found.retry, found.counts_failure) == (False, True)

    def test_a_cancelled_attempt_is_not_retried_whatever_retries_are_left(self) -> None:
        found = verdict(AttemptCancelledError("x"), max_retries=100)
        assert (found.classification, found.retry) == (ErrorClass.CANCELLED, False)

    def test_crashes_are_counted_apart_from_retries(self) -> None:
        crash = WorkerCrashedError("x")
        found = verdict(crash, failure_count=99, max_retries=0, crash_count=3)
        assert (found.delay_seconds, found.counts_failure) == (0.0, False)
        assert not verdict(crash, crash_count=4).retry

    def test_being_rate_limited_uses_up_no_retry(self) -> None:
        found = verdict(with_status(429), failure_count=3)
        assert (found.retry, found.counts_failure) == (True, False)
        assert verdict(Retry(counts=False, delay=7), failure_count=3).delay_seconds == 7

    @pytest.mark.parametrize("exc", [with_status(429), Retry(counts=False)])
    def test_who_is_rate_limited_again_and_again_waits_longer_and_longer(
        self, exc: Exception
    ) -> None:
        delays = [verdict(exc, attempt=n, max_retries=0).delay_seconds for n in range(1, 8)]
        assert delays == [4, 8, 16, 32, 64, 100, 100]

    def test_a_server_that_always_wants_to_be_asked_soon_is_asked_less_and_less_often(self) -> None:
        exc = with_status(429, on_response=True)
        exc.response.headers["Retry-After"] = "10"  # type: ignore[attr-defined]
        delays = [verdict(exc, attempt=n).delay_seconds for n in range(1, 8)]
        assert delays == [10, 10, 16, 32, 64, 100, 100]

    @pytest.mark.parametrize("exc", [with_status(429), Retry(counts=False, delay=7)])
    def test_attempts_that_use_up_no_retry_are_not_without_end(self, exc: Exception) -> None:
        assert verdict(exc, attempt=9).retry
        found = verdict(exc, attempt=10)
        assert (found.classification, found.retry) == (ErrorClass.RATE_LIMITED, False)
        assert "TASKFLOW_MAX_UNCOUNTED_ATTEMPTS" in found.reason

    def test_failures_and_crashes_before_do_not_count_as_rate_limited(self) -> None:
        before = {"failure_count": 3, "crash_count": 2}
        assert verdict(with_status(429), attempt=14, **before).retry
        assert not verdict(with_status(429), attempt=15, **before).retry

    def test_a_raised_retry_names_its_delay_but_needs_a_retry_left(self) -> None:
        assert verdict(Retry(delay=7), failure_count=2).delay_seconds == 7
        assert not verdict(Retry(delay=7), failure_count=3).retry

    def test_a_servers_wish_is_honoured(self) -> None:
        exc = with_status(503, on_response=True)
        exc.response.headers["Retry-After"] = "33"  # type: ignore[attr-defined]
        assert verdict(exc).delay_seconds == 33

    @pytest.mark.parametrize("exc", [Retry(delay=1e300), Retry(delay=1e300, counts=False)])
    def test_an_absurd_delay_is_cut_to_what_a_store_can_keep(self, exc: Retry) -> None:
        assert verdict(exc).delay_seconds == MAX_DELAY_SECONDS

    def test_the_handlers_own_policy_wins(self) -> None:
        own = handler(retry_policy=RetryPolicy(50, 1, 50, jitter=False))
        assert verdict(Flaky(), own).delay_seconds == 50

    @pytest.mark.parametrize("left", [4.0, 1.0, 0.0, -5.0])
    def test_no_retry_that_could_not_start_before_the_task_expires(self, left: float) -> None:
        found = verdict(Flaky(), seconds_left=left)
        assert (found.retry, found.reason) == (False, "expires before it could be retried")

    def test_a_retry_that_can_still_start_is_made(self) -> None:
        assert verdict(Flaky(), seconds_left=4.5).delay_seconds == 4

    @given(
        exc=st.sampled_from([Flaky(), ValueError(), Retry(delay=3), with_status(429), Reject("x")]),
        failures=st.integers(0, 10),
        retries=st.integers(0, 10),
        left=st.none() | st.floats(-10, 1_000),
    )
    def test_a_retry_is_never_late_never_too_much(
        self, exc: Exception, failures: int, retries: int, left: float | None
    ) -> None:
        found = verdict(exc, failure_count=failures, max_retries=retries, seconds_left=left)
        if found.retry:
            assert found.delay_seconds >= 0
            assert left is None or found.delay_seconds < left
            assert failures < retries or not found.counts_failure


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class TestDescriptions:
    def test_an_error_is_described_with_its_traceback(self) -> None:
        try:
            raise Flaky("it broke")
        except Flaky as exc:
            error = describe(exc, ErrorClass.TRANSIENT)
        assert (error.type, error.message) == ("Flaky", "it broke")
        assert error.traceback is not None
        assert "test_classification.py" in error.traceback
        assert error.traceback.endswith("Flaky: it broke\n")

    def test_an_error_that_was_not_raised_has_no_traceback(self) -> None:
        assert describe(Flaky("x"), ErrorClass.TRANSIENT).traceback is None

    @given(text=st.text(st.characters()), repeat=st.integers(1, 3_000))
    def test_any_message_can_be_stored(self, text: str, repeat: int) -> None:
        try:
            raise Flaky(text * repeat)
        except Flaky as exc:
            error = describe(exc, ErrorClass.TRANSIENT)
        assert len(error.message) <= MAX_MESSAGE_CHARS
        assert error.traceback is not None
        assert len(error.traceback) <= MAX_TRACEBACK_CHARS + 100
        for part in (error.message, error.traceback):
            assert "\x00" not in part
            part.encode()
        assert TaskError.model_validate_json(error.model_dump_json()) == error

    def test_an_error_whose_text_cannot_be_had_is_described_all_the_same(self) -> None:
        try:
            raise Nasty
        except Nasty as exc:
            error = describe(exc, ErrorClass.TRANSIENT)
        assert error.message == "<Nasty.__str__ raised RuntimeError>"
        assert error.traceback

    def test_a_long_traceback_keeps_its_beginning_and_its_end(self) -> None:
        try:
            raise Flaky("a" * 50_000 + "the end")
        except Flaky as exc:
            traceback = describe(exc, ErrorClass.TRANSIENT).traceback
        assert traceback is not None
        assert traceback.startswith("Traceback")
        assert "characters cut" in traceback
        assert traceback.endswith("the end\n")


class TestFingerprints:
    @staticmethod
    def of(message: str, task: str = "t", kind: str = "E") -> str:
        error = TaskError(type=kind, message=message, classification=ErrorClass.TRANSIENT)
        return fingerprint(task, error)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("user 17 is missing", "user 4 is missing"),
            ("no file 'a.txt'", "no file 'b.txt'"),
            ('no file "a"', 'no file "b"'),
            ("at 0x7f3a", "at 0x81bc"),
            (
                "task 0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11",
                "task 0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2cff",
            ),
        ],
    )
    def test_failures_that_differ_in_details_belong_together(self, one: str, other: str) -> None:
        assert self.of(one) == self.of(other)

    def test_other_failures_do_not(self) -> None:
        assert (
            len({self.of("a"), self.of("b"), self.of("a", task="u"), self.of("a", kind="F")}) == 4
        )
