"""The dashboard: from what users feel at the top to what it runs on at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import aws_cdk as aws
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from cdk import series
from cdk.profiles import ApiFunction
from cdk.series import PROGRAM
from taskflow.observability import catalogue

if TYPE_CHECKING:
    from cdk.stack import TaskFlowStack

_COLUMNS = 24
_HEIGHT = 6
_TEXT = (
    "# TaskFlow, {stack}\n"
    "Saved queries are in Logs Insights under the name of the stack, or: `taskflow logs --stack {stack}`"
)


class Dashboard:
    """No construct: one resource in ``scope``."""

    def __init__(
        self, scope: Construct, stack: TaskFlowStack, alarms: Sequence[cloudwatch.CfnAlarm]
    ) -> None:
        self._stack = stack
        rows = [
            [_text(_TEXT.format(stack=aws.Aws.STACK_NAME)), _alarms(alarms)],
            [self._answers(), self._latency(), self._submissions()],
            [self._waits(), self._runs(), self._outcomes()],
            [self._waiting(), self._ages(), self._dead_letters()],
            [self._retries(), self._outbox(), self._recovery()],
            [self._functions("Errors"), self._functions("Throttles"), self._concurrency()],
            [self._processor(), self._connections(), self._storage()],
        ]
        body = {"start": "-PT3H", "periodOverride": "inherit", "widgets": _placed(rows)}
        self.resource = cloudwatch.CfnDashboard(
            scope,
            "Dashboard",
            dashboard_name=aws.Aws.STACK_NAME,
            dashboard_body=stack.to_json_string(body),
        )

    # --- what users feel --------------------------------------------------------------------------

    def _answers(self) -> dict[str, Any]:
        name = self._stack.edge.load_balancer.attr_load_balancer_full_name
        return _graph(
            "Requests per minute",
            [
                series.load_balancer("RequestCount", name, "Sum").line("all"),
                series.load_balancer("HTTPCode_Target_4XX_Count", name, "Sum").line("4xx"),
                series.load_balancer("HTTPCode_Target_5XX_Count", name, "Sum").line("5xx"),
                series.load_balancer("HTTPCode_ELB_5XX_Count", name, "Sum").line(
                    "5xx, load balancer"
                ),
            ],
        )

    def _latency(self) -> dict[str, Any]:
        name = self._stack.edge.load_balancer.attr_load_balancer_full_name
        return _graph(
            "Time to answer, s",
            [
                series.load_balancer("TargetResponseTime", name, stat).line(stat)
                for stat in ("p50", "p95", "p99")
            ],
        )

    def _submissions(self) -> dict[str, Any]:
        return _graph(
            "Submissions per minute",
            [
                series.program(catalogue.SUBMITTED, "Sum").line("accepted"),
                series.program(catalogue.REJECTED, "Sum").line("refused"),
            ],
        )

    # --- tasks ------------------------------------------------------------------------------------

    def _waits(self) -> dict[str, Any]:
        return _graph(
            "Queue wait by priority, p95, ms",
            [
                series.program(catalogue.QUEUE_WAIT, "p95", priority=name).line(name)
                for name in catalogue.PRIORITIES
            ],
        )

    def _runs(self) -> dict[str, Any]:
        metric = catalogue.RUN_DURATION
        search = f"SEARCH('{{{PROGRAM},task}} MetricName=\"{metric.name}\"', 'p95', 60)"
        return _graph("Run duration by task, p95, ms", [[{"expression": search, "label": ""}]])

    def _outcomes(self) -> dict[str, Any]:
        return _graph(
            "Attempts per minute, by outcome",
            [
                series.program(metric, "Sum").line(metric.name)
                for metric in catalogue.OUTCOMES.values()
            ],
        )

    def _retries(self) -> dict[str, Any]:
        return _graph(
            "Retries per minute, by reason",
            [
                series.program(metric, "Sum").line(reason.replace("_", " "))
                for reason, metric in catalogue.RETRIES.items()
            ],
        )

    # --- queues -----------------------------------------------------------------------------------

    def _waiting(self) -> dict[str, Any]:
        return self._queues("Messages that wait", "ApproximateNumberOfMessagesVisible")

    def _ages(self) -> dict[str, Any]:
        lines = [
            series.program(catalogue.OLDEST_WAITING, "Maximum", priority=name).line(name)
            for name in catalogue.PRIORITIES
        ]
        return _graph("Oldest due task by priority, s", lines)

    def _dead_letters(self) -> dict[str, Any]:
        lines = [
            series.queue(
                "ApproximateNumberOfMessagesVisible", one.dead_letters.queue_name, "Maximum"
            ).line(one.name)
            for one in self._stack.queues.all
        ]
        return _graph("Messages in dead-letter queues", lines)

    def _queues(self, title: str, metric: str) -> dict[str, Any]:
        return _graph(
            title,
            [
                series.queue(metric, one.queue.queue_name, "Maximum").line(one.name)
                for one in self._stack.queues.all
            ],
        )

    def _outbox(self) -> dict[str, Any]:
        return _graph(
            "Outbox: messages that are due, and for how long, s",
            [
                series.program(catalogue.OUTBOX_PENDING, "Maximum").line("messages"),
                series.program(catalogue.OUTBOX_LAG, "Maximum").line("seconds", yAxis="right"),
            ],
        )

    def _recovery(self) -> dict[str, Any]:
        return _graph(
            "Maintenance and recovery per minute",
            [
                series.program(catalogue.HEARTBEAT, "Sum").line("rounds of maintenance"),
                series.program(catalogue.RECOVERED, "Sum").line("tasks taken over"),
                series.program(catalogue.LEASES_LOST, "Sum").line("leases lost"),
            ],
        )

    # --- what it runs on --------------------------------------------------------------------------

    def _names(self) -> dict[str, str]:
        stack = self._stack
        functions = {
            "worker": stack.workers.worker,
            "maintenance": stack.maintenance.maintenance,
            "dead letters": stack.dead_letters.dead_letters,
        }
        names = {name: function.function.ref for name, function in functions.items()}
        if isinstance(stack.profile.api, ApiFunction):
            names["api"] = stack.api.api.function.ref  # type: ignore[union-attr]  # a function then
        return names

    def _functions(self, metric: str) -> dict[str, Any]:
        lines = [
            series.function(metric, ref, "Sum").line(name) for name, ref in self._names().items()
        ]
        return _graph(f"Functions: {metric.lower()} per minute", lines)

    def _concurrency(self) -> dict[str, Any]:
        lines = [
            series.function("ConcurrentExecutions", ref, "Maximum").line(name)
            for name, ref in self._names().items()
        ]
        return _graph("Functions: invocations at once", lines)

    def _processor(self) -> dict[str, Any]:
        return self._database("PostgreSQL: processor, %", "CPUUtilization", "Average")

    def _connections(self) -> dict[str, Any]:
        return self._database("PostgreSQL: connections", "DatabaseConnections", "Maximum")

    def _storage(self) -> dict[str, Any]:
        return self._database("PostgreSQL: free storage, bytes", "FreeStorageSpace", "Minimum")

    def _database(self, title: str, metric: str, stat: str) -> dict[str, Any]:
        ref = self._stack.database.instance.ref
        return _graph(title, [series.database(metric, ref, stat).line(metric)])


def _graph(title: str, lines: Sequence[Any]) -> dict[str, Any]:
    return {
        "type": "metric",
        "properties": {
            "title": title,
            "region": aws.Aws.REGION,
            "view": "timeSeries",
            "metrics": list(lines),
        },
    }


def _text(markdown: str) -> dict[str, Any]:
    return {"type": "text", "properties": {"markdown": markdown}}


def _alarms(alarms: Sequence[cloudwatch.CfnAlarm]) -> dict[str, Any]:
    """A widget shows a hundred at most."""
    return {
        "type": "alarm",
        "properties": {"title": "Alarms", "alarms": [alarm.attr_arn for alarm in alarms][:100]},
    }


def _placed(rows: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "x": column * (_COLUMNS // len(row)),
            "y": line * _HEIGHT,
            "width": _COLUMNS // len(row),
            "height": _HEIGHT,
            **widget,
        }
        for line, row in enumerate(rows)
        for column, widget in enumerate(row)
    ]
