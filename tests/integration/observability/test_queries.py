"""Each saved query reads fields that the program really writes, and its answer is what really happened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taskflow.observability.insights import parse
from taskflow.observability.queries import QUERIES, Query
from tests.integration.observability.conftest import Logged

pytestmark = pytest.mark.xdist_group("observability")  # they share what was logged
SAVED = pytest.mark.parametrize("query", QUERIES.values(), ids=list(QUERIES))


@SAVED
def test_a_query_names_the_fields_that_it_reads(query: Query) -> None:
    assert parse(query.saved_text).fields_read == set(query.fields)


@SAVED
def test_every_field_of_a_query_is_in_lines_that_were_really_written(
    query: Query, logged: Logged
) -> None:
    written = {name for line in logged.lines for name, value in line.items() if value is not None}
    assert set(query.fields) <= written


def test_what_is_kept_is_what_was_printed(logged: Logged) -> None:
    def key(line: dict[str, object]) -> str:
        return str(sorted(line.items()))

    assert sorted(map(key, logged.lines)) == sorted(map(key, logged.printed))


def test_lines_survive_the_kill_of_their_process(logged: Logged) -> None:
    requests = logged.of("http.request", logged.ids["hold"])
    assert [line["service"] for line in requests if line["method"] == "POST"] == ["dev"]


def test_errors_by_task(logged: Logged) -> None:
    rows = logged.ask("errors-by-task")
    assert (rows[0]["task"], rows[0]["errors"], rows[0]["tasks"]) == ("broken", 2, 2)
    failures = [line for line in logged.of("task.failed") if line["task"] == "broken"]
    assert rows[0]["last_error"] == max(failures, key=lambda line: line["ts"])["error"]
    found = {
        (row["task"], row["error_type"]): (row["classification"], row["errors"]) for row in rows
    }
    assert found == {
        ("broken", "ValueError"): ("permanent", 2),
        ("flaky", "ConnectionError"): ("transient", 1),
        ("flaky", "Retry"): ("transient", 1),
        ("hold", "WorkerCrashedError"): ("crashed", 1),
        ("echo", "WorkerCrashedError"): ("crashed", 1),
        ("patient", "AttemptCancelledError"): ("cancelled", 1),
    }


def test_slowest_tasks(logged: Logged) -> None:
    rows = [row for row in logged.ask("slowest-tasks") if row["task"] != "patient"]
    assert len(logged.ask("slowest-tasks", "--limit", "3")) == 3
    durations = [row["duration_ms"] for row in rows]
    assert durations == sorted(durations, reverse=True)
    assert (rows[0]["task"], rows[0]["task_id"]) == ("slow", logged.ids["slow"])
    assert rows[0]["duration_ms"] >= 50


def test_one_tasks_story(logged: Logged) -> None:
    rows = logged.ask("task-story", "--task", logged.ids["flaky"])
    story = [row["event"] for row in rows]
    assert (
        "http.request" in story
    )  # not always first: a task may have run before its submission's line is written
    assert [event for event in story if event != "http.request"] == [
        "task.retrying",
        "task.retrying",
        "task.completed",
    ]
    moments = [row["@timestamp"] for row in rows]
    assert moments == sorted(moments)
    attempts = [(row["attempt"], row["priority"]) for row in rows if "attempt" in row]
    assert attempts == [(1, "normal"), (2, "normal"), (3, "normal")]


def test_the_story_of_a_task_whose_worker_was_killed(logged: Logged) -> None:
    rows = logged.ask("task-story", "--task", logged.ids["hold"])
    [taken_over] = [row for row in rows if row["event"] == "task.recovered"]
    assert (taken_over["classification"], taken_over["attempt"]) == ("crashed", 1)
    assert next(row for row in rows if row["event"] == "task.completed")["attempt"] == 2


def test_retries_by_reason(logged: Logged) -> None:
    rows = logged.ask("retries-by-reason")
    found = {(row["task"], row["error_type"]): row["retries"] for row in rows}
    assert found == {
        ("flaky", "ConnectionError"): 1,
        ("flaky", "Retry"): 1,
        ("hold", "WorkerCrashedError"): 1,
    }
    assert all(row["tasks"] == 1 for row in rows)


def test_queue_wait_by_priority(logged: Logged) -> None:
    rows = {row["priority"]: row for row in logged.ask("queue-wait-by-priority")}
    assert set(rows) == {"normal", "low"}
    assert rows["low"]["attempts"] == 1
    # quick, two that are broken, three attempts of flaky, the second of hold, the echo that nobody could deliver,
    # and one that was cancelled
    assert rows["normal"]["attempts"] == 9
    for row in rows.values():
        assert 0 <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]


def test_api_latency_by_route(logged: Logged) -> None:
    rows = {(row["method"], row["route"]): row for row in logged.ask("api-latency-by-route")}
    assert rows["POST", "/api/v1/tasks"]["requests"] == 7
    assert rows["POST", "/api/v1/tasks"]["highest_status"] == 202
    assert rows["GET", "/api/v1/tasks/{task_id}"]["highest_status"] == 404
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows.values())


def test_dead_letters(logged: Logged) -> None:
    rows = logged.ask("dead-letters")
    ids = logged.ids
    assert [(row["event"], row["task_id"]) for row in rows[:2]] == [
        ("task.failed", ids["dead message"]),
        ("message.dead_lettered", ids["dead message"]),
    ]
    assert rows[0]["error_type"] == "WorkerCrashedError"
    assert rows[1]["reason"].startswith("received again and again")
    assert {row["task_id"] for row in rows[2:]} == {ids["broken"], ids["broken again"]}


def test_the_cost_of_a_tenant(logged: Logged) -> None:
    rows = logged.ask("tenant-cost", "--tenant", "default")
    assert {row["tenant_id"] for row in rows} == {"default"}
    by_task = {row["task"]: row for row in rows if "task" in row}
    assert (by_task["broken"]["attempts"], by_task["broken"]["tasks"]) == (2, 2)
    assert by_task["slow"]["seconds"] >= 0.05
    requests = {row["route"]: row["requests"] for row in rows if "route" in row}
    assert requests["/api/v1/tasks"] == 7
    assert logged.ask("tenant-cost", "--tenant", "stranger") == []


def test_a_query_may_be_about_one_task_only(logged: Logged) -> None:
    [row] = logged.ask("errors-by-task", "--task", logged.ids["broken"])
    assert (row["errors"], row["last_error"]) == (1, "no such order: 7")


def test_what_is_older_than_asked_is_left_out(logged: Logged) -> None:
    assert logged.ask("dead-letters", "--since", "0s") == []


def test_the_page_lists_the_lines_and_fields_that_are_written(logged: Logged) -> None:
    page = (Path(__file__).parents[3] / "docs" / "observability.md").read_text()
    table = re.findall(r"^\| `([a-z_.]+)` \| [^|]+ \| (.+) \|$", page, re.MULTILINE)
    assert len(table) >= 7
    everywhere = {"ts", "level", "event", "logger", "service", "version"}
    first: set[str] = set()
    for event, said in table:
        listed = set(re.findall(r"`(\w+)`", said)) | (first if "the same" in said else set())
        first = first or listed
        lines = logged.of(event)
        assert lines, event
        written = {name for line in lines for name in line} - everywhere
        assert written - {"worker_id"} == listed, event
