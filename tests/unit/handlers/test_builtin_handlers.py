"""echo, compute and simulate; what all built-in handlers share; and two apps in one process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.adapters.http.sender import VettedHttpSender
from taskflow.adapters.mail.folder import FolderMailSender
from taskflow.core.classification import classify
from taskflow.core.errors import InvalidArgumentsError
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.task import ErrorClass
from taskflow.handlers import register_builtin_handlers
from taskflow.handlers.compute import compute_handler, fibonacci, primes
from taskflow.handlers.echo import echo
from taskflow.handlers.simulate import simulate_handler
from tests.support.context import PlainContext


class StoppedClock:
    def now_us(self) -> int:
        return 1_800_000_000_000_000

    def monotonic(self) -> float:
        return 0.0


def builtins(home: Path, parent: Registry | None = None) -> Registry:
    registry = Registry(parent)
    register_builtin_handlers(
        registry,
        http=VettedHttpSender(allow_private=False, max_body_bytes=100),
        http_max_redirects=3,
        mail=FolderMailSender(home / "mailbox"),
        email_from="taskflow@localhost",
        clock=StoppedClock(),
        wait=lambda seconds: None,
    )
    return registry


def call(registry: Registry, name: str, *args: Any, **kwargs: Any) -> Any:
    """As the worker calls it: the stored arguments, validated again."""
    from taskflow.core import jsontext

    handler = registry.get(name)
    stored_args, stored_kwargs = jsontext.loads(handler.arguments_json(args, kwargs))
    call_args, call_kwargs = handler.signature.call_arguments(stored_args, stored_kwargs)
    if handler.signature.context_parameter:
        call_kwargs[handler.signature.context_parameter] = PlainContext()
    return handler.function(*call_args, **call_kwargs)


def test_the_names_are_those_of_the_contract(tmp_path: Path) -> None:
    names = [handler.name for handler in builtins(tmp_path).handlers()]
    assert names == ["compute", "echo", "email", "http_request", "simulate"]


def test_two_apps_of_one_process_keep_their_own_mailbox(tmp_path: Path) -> None:
    shared = Registry()
    one, other = builtins(tmp_path / "one", shared), builtins(tmp_path / "other", shared)
    call(one, "email", to="a@example.com", subject="x")
    assert len(list((tmp_path / "one" / "mailbox").iterdir())) == 1
    assert not (tmp_path / "other").exists()
    call(other, "email", to="a@example.com", subject="x")
    assert len(list((tmp_path / "other" / "mailbox").iterdir())) == 1


def test_a_users_handler_takes_the_place_of_a_builtin_one(tmp_path: Path) -> None:
    shared = Registry()
    registry = builtins(tmp_path, shared)

    def email(to: str) -> str:
        return f"mine: {to}"

    shared.add(email, declared=TaskOptions())
    assert call(registry, "email", to="x") == "mine: x"
    assert len(registry.handlers()) == 5


def test_a_registry_of_an_app_submits_to_that_app(tmp_path: Path) -> None:
    shared = Registry()
    one, other = builtins(tmp_path / "one", shared), builtins(tmp_path / "other", shared)
    first: Any = object()
    second: Any = object()
    one.bind(first)
    other.bind(second)
    assert (one.submitter, other.submitter, shared.submitter) == (first, second, second)
    other.unbind(second)
    assert shared.submitter is first


@pytest.mark.parametrize(
    ("args", "kwargs", "answer"),
    [
        ((), {"a": 1}, {"a": 1}),
        (("x",), {}, "x"),
        ((None,), {}, None),
        ((1, [2]), {}, [1, [2]]),
        ((), {}, []),
        ((1,), {"a": 2}, {"args": [1], "kwargs": {"a": 2}}),
        ((), {"args": 1, "payload": 2, "self": 3}, {"args": 1, "payload": 2, "self": 3}),
    ],
)
def test_echo_gives_back_what_it_was_given(
    tmp_path: Path, args: Any, kwargs: Any, answer: Any
) -> None:
    assert echo(*args, **kwargs) == answer
    assert call(builtins(tmp_path), "echo", *args, **kwargs) == answer


compute = compute_handler(lambda seconds: None)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ({"operation": "fibonacci", "n": 30}, 832_040),
        ({"operation": "fibonacci", "n": 0}, 0),
        ({"operation": "fibonacci", "n": 92}, 7_540_113_804_746_346_429),
        ({"operation": "fibonacci", "n": 93}, "12200160415121876738"),
        ({"operation": "factorial", "n": 20}, 2_432_902_008_176_640_000),
        ({"operation": "factorial", "n": 21}, "51090942171709440000"),
        ({"operation": "primes", "n": 20}, [2, 3, 5, 7, 11, 13, 17, 19]),
        ({"operation": "primes", "n": 1}, []),
        ({"operation": "primes", "n": 0}, []),
        ({"operation": "sum", "numbers": [1, 2, 3]}, 6),
        ({"operation": "sum", "numbers": [0.1] * 10}, 1.0),
        ({"operation": "sum", "numbers": []}, 0),
        ({"operation": "sum", "numbers": [2**63 - 1, 1]}, str(2**63)),
        ({"operation": "sleep", "seconds": 0.5}, 0.5),
    ],
)
def test_compute_computes(tmp_path: Path, arguments: dict[str, Any], answer: object) -> None:
    result = call(builtins(tmp_path), "compute", **arguments)
    assert (result, type(result)) == (answer, type(answer))


@pytest.mark.parametrize(
    "arguments",
    [
        {"operation": "fibonacci"},
        {"operation": "fibonacci", "n": 20_001},
        {"operation": "factorial", "n": 1_501},
        {"operation": "primes"},
        {"operation": "sum"},
        {"operation": "sum", "numbers": [1e308, 1e308]},
        {"operation": "sleep"},
    ],
)
def test_compute_fails_for_good_on_what_it_cannot_do(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"missing|at most|too large") as failed:
        compute(**arguments)
    assert classify(failed.value) is ErrorClass.PERMANENT


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"operation": "divide", "n": 1}, "operation"),
        ({"n": 1}, "operation"),
        ({"operation": "fibonacci", "n": -1}, "n"),
        ({"operation": "primes", "n": 1_000_001}, "n"),
        ({"operation": "sleep", "seconds": 3_601}, "seconds"),
        ({"operation": "sum", "numbers": ["x"]}, "numbers"),
        ({"operation": "fibonacci", "number": 3}, "number"),
    ],
)
def test_compute_refuses_wrong_arguments_when_they_are_submitted(
    tmp_path: Path, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        builtins(tmp_path).get("compute").arguments_json((), arguments)
    assert any(entry["field"].startswith(field) for entry in refused.value.fields)


@pytest.mark.parametrize("operation", ["fibonacci", "factorial"])
def test_the_largest_results_can_still_be_written_as_text(operation: str) -> None:
    largest = {"fibonacci": 20_000, "factorial": 1_500}[operation]
    assert str(compute(operation=operation, n=largest)).isdigit()


@given(st.integers(0, 3_000))
def test_primes_are_the_numbers_without_a_divisor(limit: int) -> None:
    expected = [n for n in range(2, limit + 1) if all(n % d for d in range(2, math.isqrt(n) + 1))]
    assert primes(limit) == expected


@given(st.integers(2, 500))
def test_a_fibonacci_number_is_the_sum_of_the_two_before(n: int) -> None:
    assert fibonacci(n) == fibonacci(n - 1) + fibonacci(n - 2)


def simulated(attempt: int = 1, **arguments: Any) -> tuple[str, list[float]]:
    waited: list[float] = []
    try:
        simulate_handler(waited.append)(PlainContext(attempt=attempt), **arguments)
    except (ConnectionError, ValueError) as exc:
        return type(exc).__name__, waited
    return "ok", waited


def test_simulate_takes_its_latency_with_jitter_around_it() -> None:
    waits = [simulated(latency_ms=100, jitter_ms=20, seed=seed)[1][0] for seed in range(200)]
    assert min(waits) >= 0.08
    assert max(waits) <= 0.12
    assert max(waits) - min(waits) > 0.03


def test_simulate_without_latency_does_not_wait() -> None:
    assert simulated() == ("ok", [])


def test_simulate_fails_as_often_as_it_is_told_to() -> None:
    fates = [
        simulated(transient_probability=0.3, permanent_probability=0.2, seed=seed)[0]
        for seed in range(2_000)
    ]
    assert 500 < fates.count("ConnectionError") < 700
    assert 320 < fates.count("ValueError") < 480
    assert simulated(transient_probability=1.0)[0] == "ConnectionError"
    assert simulated(permanent_probability=1.0)[0] == "ValueError"


def test_a_seed_repeats_the_fate_of_an_attempt_but_not_of_the_next_one() -> None:
    def fates(attempt: int) -> list[str]:
        return [simulated(attempt, transient_probability=0.5, seed=seed)[0] for seed in range(50)]

    assert fates(1) == fates(1)
    assert fates(1) != fates(2)


def test_simulate_refuses_probabilities_over_one() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        simulate_handler(lambda seconds: None)(
            PlainContext(), transient_probability=0.6, permanent_probability=0.6
        )
