"""The saved queries of CloudWatch Logs Insights: one definition for the template, the console and `taskflow logs`.

A query may use what `insights` evaluates, so that its answer from local files is the one from AWS. ``fields`` are those
of the log that it reads; a test compares them with lines that the program really wrote. docs/observability.md lists
all of them. Pure: the stack imports it without the rest of TaskFlow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from taskflow.core.errors import InvalidRequestError
from taskflow.core.ids import is_uuid

Service = Literal["api", "worker", "long-worker", "maintenance", "dead-letters", "migrate"]

API: tuple[Service, ...] = ("api",)
# Whoever ends attempts: workers, recovery (maintenance), and what takes up dead messages.
ATTEMPTS: tuple[Service, ...] = ("worker", "long-worker", "maintenance", "dead-letters")
TASKS: tuple[Service, ...] = (*API, *ATTEMPTS)

_TASK = "TASK_ID"  # stands in the saved text where an id is to be typed
_LIMIT = re.compile(r"\| limit \d+$")
_TENANT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_ENDED = '["task.completed", "task.failed", "task.retrying", "task.cancelled"]'


@dataclass(frozen=True, kw_only=True)
class Query:
    """``text`` ends with a limit. ``services`` are the log groups that can have such lines: others cost, and say
    nothing. ``needs_task``: it makes no sense without the id of a task."""

    name: str
    title: str
    text: str
    fields: tuple[str, ...]
    services: tuple[Service, ...] = ATTEMPTS
    needs_task: bool = False

    @property
    def saved_text(self) -> str:
        """For the console; what has to be typed in is named in a comment."""
        return (
            f"# Put the id of a task in place of {_TASK}.\n{self.text}"
            if self.needs_task
            else self.text
        )

    def with_parameters(
        self, *, task_id: str | None = None, tenant_id: str | None = None, limit: int | None = None
    ) -> str:
        """The text to run: about one task or one tenant only, and with another limit, where these are given.

        Raises InvalidRequestError for an id that is none: it must not become a part of the query.
        """
        text = self.text
        if self.needs_task and task_id is None:
            raise InvalidRequestError(
                f"{self.name} tells the story of one task: name it with --task ID"
            )
        if task_id is not None and not is_uuid(task_id):
            raise InvalidRequestError(f"--task: ids are lower-case UUIDs, not {task_id!r:.80}")
        if tenant_id is not None and not _TENANT.fullmatch(tenant_id):
            raise InvalidRequestError(f"--tenant: no tenant can be called {tenant_id!r:.80}")
        if self.needs_task:
            text = text.replace(_TASK, str(task_id))
        elif task_id is not None:
            text = f'filter task_id = "{task_id}"\n| {text}'
        if tenant_id is not None:
            text = f'filter tenant_id = "{tenant_id}"\n| {text}'
        return text if limit is None else _LIMIT.sub(f"| limit {limit}", text)


_ALL = (
    Query(
        name="errors-by-task",
        title="What fails, and how: attempts that ended with an error, by task and error",
        text="""\
filter ispresent(classification)
| stats count(*) as errors, count_distinct(task_id) as tasks,
    latest(error) as last_error by task, error_type, classification
| sort errors desc
| limit 50""",
        fields=("task", "task_id", "error_type", "error", "classification"),
    ),
    Query(
        name="slowest-tasks",
        title="The attempts that ran longest",
        text=f"""\
filter event in {_ENDED}
| fields @timestamp, task, task_id, tenant_id, attempt, duration_ms, wait_ms, event
| sort duration_ms desc
| limit 20""",
        fields=("event", "task", "task_id", "tenant_id", "attempt", "duration_ms", "wait_ms"),
    ),
    Query(
        name="task-story",
        title="Everything that was logged about one task, in order",
        text=f"""\
filter task_id = "{_TASK}"
| fields @timestamp, service, event, attempt, priority, wait_ms, duration_ms, classification,
    error_type, error, status, request_id
| sort @timestamp asc
| limit 1000""",
        fields=(
            "task_id", "service", "event", "attempt", "priority", "wait_ms", "duration_ms", "classification",
            "error_type", "error", "status", "request_id",
        ),
        services=TASKS,
        needs_task=True,
    ),
    Query(
        name="retries-by-reason",
        title="Why attempts are repeated, and after what pause",
        text="""\
filter event in ["task.retrying", "task.recovered"]
| stats count(*) as retries, count_distinct(task_id) as tasks,
    avg(retry_in_seconds) as mean_pause_seconds by classification, error_type, task
| sort retries desc
| limit 50""",
        fields=("event", "task", "task_id", "classification", "error_type", "retry_in_seconds"),
    ),
    Query(
        name="queue-wait-by-priority",
        title="From due to started, in ms, by priority",
        text="""\
filter ispresent(wait_ms)
| stats count(*) as attempts, avg(wait_ms) as mean_ms, pct(wait_ms, 50) as p50_ms,
    pct(wait_ms, 95) as p95_ms, pct(wait_ms, 99) as p99_ms, max(wait_ms) as max_ms by priority
| sort p95_ms desc
| limit 10""",
        fields=("wait_ms", "priority"),
    ),
    Query(
        name="api-latency-by-route",
        title="Time to answer, in ms, by route; the longest are held on purpose (?wait=)",
        text="""\
filter event = "http.request" and ispresent(route)
| stats count(*) as requests, avg(duration_ms) as mean_ms, pct(duration_ms, 50) as p50_ms,
    pct(duration_ms, 95) as p95_ms, pct(duration_ms, 99) as p99_ms,
    max(status) as highest_status by method, route
| sort p95_ms desc
| limit 50""",
        fields=("event", "method", "route", "status", "duration_ms"),
        services=API,
    ),
    Query(
        name="dead-letters",
        title="Tasks that are not tried again, and messages that the queue has given up, newest first",
        text="""\
filter event in ["task.failed", "message.dead_lettered"]
| fields @timestamp, event, task, task_id, tenant_id, attempt, classification, error_type,
    error, receive_count, reason
| sort @timestamp desc
| limit 100""",
        fields=(
            "event", "task", "task_id", "tenant_id", "attempt", "classification", "error_type", "error",
            "receive_count", "reason",
        ),
    ),
    Query(
        name="tenant-cost",
        title="What each tenant uses: attempts, run time and requests; --tenant for one of them",
        text="""\
filter ispresent(tenant_id) and ispresent(duration_ms)
| stats count(task) as attempts, count_distinct(task_id) as tasks,
    sum(duration_ms / 1000) as seconds, count(route) as requests by tenant_id, task, route
| sort seconds desc
| limit 200""",
        fields=("tenant_id", "task", "task_id", "duration_ms", "route"),
        services=TASKS,
    ),
)  # fmt: skip

QUERIES: Mapping[str, Query] = {query.name: query for query in _ALL}
