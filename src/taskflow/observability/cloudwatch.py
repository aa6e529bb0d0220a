"""Runs a query in CloudWatch Logs Insights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from taskflow.aws import require_boto3, session
from taskflow.core.errors import ConfigurationError, TaskFlowError
from taskflow.observability.insights import Answer, columns_of, parse
from taskflow.observability.insights.values import number_of, shown

_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 3.0
_PATIENCE_SECONDS = 300.0
_NO_REGION = "no AWS region is known: set AWS_REGION, or --region"
_MOST_GROUPS = 50  # StartQuery, "logGroupNames"
_RUNNING = frozenset({"Scheduled", "Running"})
_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
_BUSY = frozenset({"LimitExceededException", "ThrottlingException"})


class LogsUnavailableError(TaskFlowError):
    """CloudWatch Logs did not answer the question."""

    code = "logs_unavailable"


class CloudWatchLogs:
    """The log groups ``/taskflow/{stack}/{service}`` of one deployment. ``pause`` waits between two looks."""

    def __init__(
        self, client: Any, stack: str, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._stack = stack
        self._pause = pause

    def run(
        self, text: str, *, services: Sequence[str], since: datetime, until: datetime
    ) -> Answer:
        """Rows of what the log groups of ``services`` have; those that the profile lacks are left out.

        Raises ConfigurationError for what the caller can mend, LogsUnavailableError.
        """
        with _clear_errors():
            groups = self._groups(services)
            query_id = self._client.start_query(
                logGroupNames=groups,
                startTime=int(since.timestamp()),
                endTime=int(until.timestamp()) + 1,
                queryString=text,
            )["queryId"]
            ended = False
            try:
                answer = self._wait(query_id)
                ended = True
            finally:
                if not ended:  # it would run on, and cost
                    self._stop(query_id)
        return Answer(columns_of(parse(text)), [_row(result) for result in answer["results"]])

    def _groups(self, services: Sequence[str]) -> list[str]:
        prefix = f"/taskflow/{self._stack}/"
        pages = self._client.get_paginator("describe_log_groups").paginate(
            logGroupNamePrefix=prefix
        )
        there = [group["logGroupName"] for page in pages for group in page["logGroups"]]
        found = [f"{prefix}{service}" for service in services if f"{prefix}{service}" in there]
        if not found:
            region = self._client.meta.region_name
            raise ConfigurationError(
                f"there are no log groups {prefix}… in {region}: name the stack with --stack, its region with "
                "--region, or deploy it with `python deploy.py up`"
            )
        return found[:_MOST_GROUPS]

    def _wait(self, query_id: str) -> Any:
        pause, waited = _PAUSE_SECONDS, 0.0
        while True:
            answer = self._client.get_query_results(queryId=query_id)
            status = answer["status"]
            if status == "Complete":
                return answer
            if status not in _RUNNING:
                raise LogsUnavailableError(f"CloudWatch did not finish the query: {status.lower()}")
            if waited >= _PATIENCE_SECONDS:
                raise LogsUnavailableError(
                    f"the query has run for {waited:.0f} s and was stopped: ask about a shorter time (--since)"
                )
            self._pause(pause)
            waited += pause
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _stop(self, query_id: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.stop_query(queryId=query_id)
        except (BotoCoreError, ClientError):
            pass  # it has ended, or nobody hears us; what happened before is what is told


def logs_client(region: str | None) -> Any:
    """Raises ConfigurationError when boto3 is not installed, or no region is known."""
    require_boto3("CloudWatch")
    made = session(region)
    with _clear_errors():
        try:
            return made.create_client("logs")
        except ValueError as exc:  # AWS_DEFAULT_REGION is there, and empty
            raise ConfigurationError(_NO_REGION) from exc


@contextmanager
def _clear_errors() -> Iterator[None]:
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except NoRegionError as exc:
        raise ConfigurationError(_NO_REGION) from exc
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as exc:
        raise ConfigurationError(
            f"AWS credentials: {exc}. Log in (`aws sso login`) or set AWS_PROFILE"
        ) from exc
    except ClientError as exc:
        said = exc.response.get("Error", {})
        code, text = said.get("Code", ""), said.get("Message", "")
        if code in _DENIED:
            raise ConfigurationError(
                f"AWS denies {exc.operation_name}: {text}. `taskflow logs` needs logs:DescribeLogGroups, "
                "logs:StartQuery, logs:GetQueryResults and logs:StopQuery"
            ) from exc
        if code in _CREDENTIALS:
            raise ConfigurationError(
                f"AWS credentials: {text or code}. Log in again (`aws sso login`)"
            ) from exc
        if code in _BUSY:
            raise LogsUnavailableError(
                f"CloudWatch is busy ({code}): too many queries run at once, try again in a minute"
            ) from exc
        raise LogsUnavailableError(f"CloudWatch: {code}: {text}") from exc
    except BotoCoreError as exc:
        raise LogsUnavailableError(f"CloudWatch: {exc}") from exc


def _row(result: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Numbers as numbers, and without the pointer to the whole record."""
    return {item["field"]: _value(item) for item in result if item["field"] != "@ptr"}


def _value(item: dict[str, str]) -> Any:
    text = item.get("value", "")
    number = None if item["field"].startswith("@") else number_of(text)
    return text if number is None or not math.isfinite(number) else shown(number)
