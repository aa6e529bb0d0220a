"""Answers that tell of an error, turned back into the exception the server raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from taskflow.core import errors
from taskflow.core.errors import (
    PayloadTooLargeError,
    ServerUnavailableError,
    TaskFailedError,
    TaskFlowError,
)
from taskflow.core.http_answers import retry_after_of


def _classes() -> dict[str, type[TaskFlowError]]:
    """Every error class by the code it introduces. TaskFailedError is made by `TaskHandle.result` alone, never sent."""
    return {
        kind.code: kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, TaskFlowError)
        and kind is not TaskFailedError
        and "code" in vars(kind)
    }


_BY_CODE = _classes()


def error_of(answer: httpx.Response) -> TaskFlowError:
    """The error of an answer with status 400 or above."""
    if (problem := problem_of(answer)) is not None:
        return error_of_problem(problem, retry_after_seconds=retry_after_of(answer.headers))
    if answer.status_code == 413:
        return PayloadTooLargeError(
            f"the request is larger than something in front of {_origin(answer)} allows"
        )
    return not_taskflow(answer)


def problem_of(answer: httpx.Response) -> Mapping[str, Any] | None:
    """The body, if it is a problem as TaskFlow writes them (RFC 9457 with a ``code``)."""
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("code"), str) else None


def error_of_problem(
    problem: Mapping[str, Any], *, retry_after_seconds: float | None = None
) -> TaskFlowError:
    """Codes of a newer server that this client does not know become the base class."""
    detail = str(problem.get("detail") or problem.get("title") or problem["code"])
    fields = [field for field in problem.get("errors") or () if isinstance(field, dict)]
    kind = _BY_CODE.get(problem["code"], TaskFlowError)
    return kind(detail, fields=fields, retry_after_seconds=retry_after_seconds)


def not_taskflow(answer: httpx.Response) -> ServerUnavailableError:
    return ServerUnavailableError(
        f"{_origin(answer)} answered {answer.status_code} {answer.reason_phrase}, but not as a TaskFlow server does"
    )


def _origin(answer: httpx.Response) -> httpx.URL:
    return answer.url.copy_with(path="/", query=None)
