"""`compute`: arithmetic to try the system out with, bounded so that no input can hold a worker for long."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from taskflow.handlers.waiting import Wait

Operation = Literal["fibonacci", "primes", "factorial", "sum", "sleep"]
Number = int | float
T = TypeVar("T")

# Results of up to 4,300 digits: what Python turns into text (sys.int_info.default_max_str_digits).
MAX_FIBONACCI = 20_000
MAX_FACTORIAL = 1_500
MAX_PRIMES = 1_000_000  # their list is about 0.6 MiB of JSON, below the default limit of a result
MAX_SLEEP_SECONDS = 3_600.0
_INT64 = range(-(2**63), 2**63)


def compute_handler(wait: Wait) -> Callable[..., Number | str | list[int]]:
    """The handler; ``wait`` sleeps."""

    def compute(
        operation: Operation,
        n: Annotated[int | None, Field(ge=0, le=MAX_PRIMES)] = None,
        numbers: list[Annotated[Number, Field(union_mode="left_to_right")]] | None = None,
        seconds: Annotated[float | None, Field(ge=0, le=MAX_SLEEP_SECONDS)] = None,
    ) -> Number | str | list[int]:
        """`fibonacci(n)`, `primes` up to ``n``, `factorial(n)`, `sum` of ``numbers``, `sleep` for ``seconds``.

        An integer beyond 64 bit comes back as a decimal string. ValueError for a missing or too large argument.
        """
        match operation:
            case "fibonacci":
                return _portable(fibonacci(_bounded(n, "n", MAX_FIBONACCI)))
            case "factorial":
                return _portable(math.factorial(_bounded(n, "n", MAX_FACTORIAL)))
            case "primes":
                return primes(_bounded(n, "n", MAX_PRIMES))
            case "sum":
                return _portable(total(_given(numbers, "numbers")))
            case "sleep":
                wait(_given(seconds, "seconds"))
                return _given(seconds, "seconds")

    return compute


def fibonacci(n: int) -> int:
    """The ``n``-th Fibonacci number, from 0, 1, 1, 2."""
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def primes(limit: int) -> list[int]:
    """All primes up to and including ``limit``, by the sieve of Eratosthenes."""
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = b"\0" * min(2, limit + 1)
    for candidate in range(2, math.isqrt(limit) + 1):
        if sieve[candidate]:
            sieve[candidate * candidate :: candidate] = bytes(
                len(range(candidate * candidate, limit + 1, candidate))
            )
    return [number for number, is_prime in enumerate(sieve) if is_prime]


def total(numbers: list[Number]) -> Number:
    """Exact for integers, correctly rounded for floats. ValueError when the sum is no finite number."""
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    try:
        result = math.fsum(numbers)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError("numbers: the sum is too large for a number")
    return result


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"{name} is missing: this operation needs it")
    return value


def _bounded(value: int | None, name: str, limit: int) -> int:
    if (given := _given(value, name)) > limit:
        raise ValueError(f"{name} must be at most {limit} for this operation, not {given}")
    return given


def _portable(number: Number) -> Number | str:
    """JSON readers lose digits beyond 64 bit, so such a number travels as text."""
    return number if isinstance(number, float) or number in _INT64 else str(number)
