"""`taskflow logs` on AWS: which log groups, which time, what becomes of the answer, and what is said without one.

moto takes any query and knows only `@` fields, so the answers of a real query come from botocore's Stubber.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from typer.testing import CliRunner, Result

from taskflow.aws import session
from taskflow.cli.logs import _query as named
from taskflow.cli.program import program
from taskflow.core.errors import ConfigurationError, TaskFlowError
from taskflow.observability.cloudwatch import CloudWatchLogs, LogsUnavailableError
from taskflow.observability.queries import QUERIES
from tests.support import aws

UNTIL = datetime(2026, 1, 31, 9, tzinfo=UTC)
SINCE = UNTIL - timedelta(hours=1)
ERRORS = QUERIES["errors-by-task"]


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        program, ["logs", *arguments], env=environment, catch_exceptions=False
    )


# --- through the command, on moto -----------------------------------------------------------------


@pytest.fixture
def deployed(moto_url: str) -> str:
    """A stack whose worker has logged one task."""
    stack = aws.unique("logs")
    client = aws.client("logs", moto_url)
    now_ms = int(time.time() * 1_000)
    for service in ("api", "worker"):
        group = f"/taskflow/{stack}/{service}"
        client.create_log_group(logGroupName=group)
        client.create_log_stream(logGroupName=group, logStreamName="one")
        line = json.dumps({"event": "task.failed", "task": f"of {service}"})
        client.put_log_events(
            logGroupName=group,
            logStreamName="one",
            logEvents=[{"timestamp": now_ms - 60_000, "message": line}],
        )
    client.close()
    return stack


def test_a_stacks_log_groups_are_asked(deployed: str, moto_url: str) -> None:
    result = run("task-story", "--task", "0" * 8 + "-0000-7000-8000-" + "0" * 12,
                 "--stack", deployed, "--json", **aws.environment(moto_url))  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert len(rows) == 2  # moto ignores the filter: one event of each group in that time
    assert all(row["@timestamp"] for row in rows)
    assert all("@ptr" not in row for row in rows)


def test_only_the_groups_that_can_have_an_answer_are_asked(deployed: str, moto_url: str) -> None:
    result = run("dead-letters", "--stack", deployed, "--json", **aws.environment(moto_url))
    assert len(json.loads(result.stdout)) == 1  # the worker's, not the API's


def test_a_time_in_which_nothing_was_logged(deployed: str, moto_url: str) -> None:
    environment = aws.environment(moto_url)
    result = run("dead-letters", "--stack", deployed, "--since", "5s", **environment)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing was logged in that time" in result.stderr


def test_on_aws_the_stack_is_the_queue_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    given = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true",
             "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}  # fmt: skip
    on_aws = {**given, "TASKFLOW_BACKEND": "aws", "TASKFLOW_QUEUE_PREFIX": "taskflow-prod"}
    result = run("dead-letters", **on_aws, AWS_REGION="eu-central-1")
    assert result.exit_code == 2
    assert "AWS credentials" in result.stderr
    result = run("dead-letters", **on_aws, AWS_REGION="", AWS_DEFAULT_REGION="")
    assert result.exit_code == 2
    assert "no AWS region is known" in result.stderr


def test_a_stack_that_is_not_there(moto_url: str) -> None:
    result = run("dead-letters", "--stack", "nothing-here", **aws.environment(moto_url))
    assert result.exit_code == 2
    assert "no log groups /taskflow/nothing-here/… in us-east-1" in result.stderr


def test_bad_input_is_one_sentence() -> None:
    for arguments, said in {
        ("slow-task",): "did you mean 'slowest-tasks'?",
        ("by",): "errors-by-task, slowest-tasks",
        ("task-story",): "--task ID",
        ("dead-letters", "--task", "x"): "ids are lower-case UUIDs",
        ("dead-letters", "--tenant", '"'): "no tenant can be called",
    }.items():
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("part", "name"), [("errors", "errors-by-task"), ("wait", "queue-wait-by-priority")]
)
def test_a_part_of_a_name_is_enough_when_it_is_the_only_one(part: str, name: str) -> None:
    assert named(part) is QUERIES[name]


def test_without_a_query_they_are_listed() -> None:
    assert [query["name"] for query in json.loads(run("--json").stdout)] == list(QUERIES)
    assert all(name in run().stdout for name in QUERIES)


# --- what AWS may answer --------------------------------------------------------------------------


class Answers:
    def __init__(self, stubber: Stubber, logs: CloudWatchLogs, pauses: list[float]) -> None:
        self.stubber = stubber
        self.logs = logs
        self.pauses = pauses

    def groups(self, *services: str) -> None:
        found = [{"logGroupName": f"/taskflow/prod/{service}"} for service in services]
        self.stubber.add_response(
            "describe_log_groups", {"logGroups": found}, {"logGroupNamePrefix": "/taskflow/prod/"}
        )

    def start(self, **expected: Any) -> None:
        wanted = dict.fromkeys(("logGroupNames", "startTime", "endTime", "queryString"), ANY)
        self.stubber.add_response("start_query", {"queryId": "q"}, wanted | expected)

    def result(self, status: str, *rows: dict[str, str]) -> None:
        results = [[{"field": f, "value": v} for f, v in row.items()] for row in rows]
        self.stubber.add_response(
            "get_query_results", {"status": status, "results": results}, {"queryId": "q"}
        )

    def run(self) -> Any:
        return self.logs.run(ERRORS.text, services=ERRORS.services, since=SINCE, until=UNTIL)


@contextmanager
def stubbed() -> Iterator[Answers]:
    client = session("eu-central-1").create_client("logs", **aws.CREDENTIALS)
    pauses: list[float] = []
    with Stubber(client) as stubber:
        yield Answers(stubber, CloudWatchLogs(client, "prod", pause=pauses.append), pauses)
        stubber.assert_no_pending_responses()
    client.close()


def test_a_query_is_waited_for_and_its_numbers_are_numbers() -> None:
    with stubbed() as answers:
        answers.groups("api", "worker", "maintenance", "somebody-elses")
        answers.start(
            logGroupNames=["/taskflow/prod/worker", "/taskflow/prod/maintenance"],
            startTime=int(SINCE.timestamp()),
            endTime=int(UNTIL.timestamp()) + 1,
            queryString=ERRORS.text,
        )
        for status in ("Scheduled", "Running", "Running", "Running"):
            answers.result(status)
        answers.result(
            "Complete",
            {"task": "send", "errors": "12", "tasks": "3.50000", "last_error": "nan", "@ptr": "x"},
        )
        answer = answers.run()
    assert answer.rows == [{"task": "send", "errors": 12, "tasks": 3.5, "last_error": "nan"}]
    assert answer.columns == [
        "task",
        "error_type",
        "classification",
        "errors",
        "tasks",
        "last_error",
    ]
    assert answers.pauses == [0.5, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("status", ["Failed", "Cancelled", "Timeout", "Unknown"])
def test_a_query_that_does_not_finish(status: str) -> None:
    with stubbed() as answers:
        answers.groups("worker")
        answers.start()
        answers.result(status)
        answers.stubber.add_response("stop_query", {"success": True}, {"queryId": "q"})
        with pytest.raises(LogsUnavailableError, match=status.lower()):
            answers.run()


def test_a_query_that_takes_too_long_is_stopped() -> None:
    with stubbed() as answers:
        answers.groups("worker")
        answers.start()
        for _ in range(103):
            answers.result("Running")
        answers.stubber.add_response("stop_query", {"success": True}, {"queryId": "q"})
        with pytest.raises(LogsUnavailableError, match="shorter time"):
            answers.run()


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("AccessDeniedException", ConfigurationError, "logs:StartQuery"),
        ("ExpiredTokenException", ConfigurationError, "Log in again"),
        ("UnrecognizedClientException", ConfigurationError, "AWS credentials"),
        ("LimitExceededException", LogsUnavailableError, "too many queries"),
        ("ServiceUnavailableException", LogsUnavailableError, "ServiceUnavailableException"),
    ],
)
def test_a_refusal_is_one_clear_sentence(code: str, error: type[TaskFlowError], said: str) -> None:
    with stubbed() as answers:
        answers.groups("worker")
        answers.stubber.add_client_error("start_query", code, "it says")
        with pytest.raises(error, match=said):
            answers.run()
