"""The alarms: those of each queue from the same table as the queues, those of functions, database, edge and program.

Missing data is no breach where nothing happened, and one where something has to happen every minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from cdk import series
from cdk.parameters import chosen
from cdk.profiles import ApiContainers, ApiFunction, FunctionNumbers
from cdk.program import Function
from cdk.queue_alarms import add_queue_alarms
from cdk.series import Series
from taskflow.observability import catalogue

if TYPE_CHECKING:
    from cdk.stack import TaskFlowStack

Above = Literal["GreaterThanThreshold", "GreaterThanOrEqualToThreshold"]
Below = Literal["LessThanThreshold"]
_GIB = 2**30


class Alarms:
    """No construct: makes them in ``scope``, where their names stay short. ``made`` are all of them.

    While the stack does not serve nobody is told: a first deployment has neither tables nor ticks yet.
    """

    def __init__(self, scope: Construct, stack: TaskFlowStack, topic_arn: str) -> None:
        self.made: list[cloudwatch.CfnAlarm] = []
        self._scope, self._stack, self._topic_arn = scope, stack, topic_arn
        self._numbers = stack.profile.alarms
        for queue in stack.queues.all:
            add_queue_alarms(self, queue, stack.profile)
        self._waiting()
        self._outbox()
        self._heartbeat()
        self._functions()
        self._database()
        self._edge()

    def add(
        self,
        name: str,
        what: str,
        watched: Series | tuple[str, Mapping[str, Series]],
        *,
        threshold: float,
        minutes: int = 5,
        of_them: int | None = None,
        comparison: Above | Below = "GreaterThanThreshold",
        missing: Literal["notBreaching", "breaching"] = "notBreaching",
    ) -> None:
        """``watched``: one series, or an expression over several. ``minutes``: looked at, of which ``of_them`` (None:
        all) have to be bad; a series with a longer period counts in those."""
        shape: dict[str, object]
        if isinstance(watched, Series):
            is_percentile = watched.stat.startswith("p")
            shape = {
                "namespace": watched.namespace,
                "metric_name": watched.name,
                "dimensions": watched.alarm_dimensions() or None,
                "period": watched.period_seconds,
                "statistic": None if is_percentile else watched.stat,
                "extended_statistic": watched.stat if is_percentile else None,
                # A p99 of three invocations is one of them.
                "evaluate_low_sample_count_percentile": "ignore" if is_percentile else None,
            }
        else:
            shape = {"metrics": _expression(*watched)}
        self.made.append(
            cloudwatch.CfnAlarm(
                self._scope,
                f"{name}Alarm",
                alarm_description=what,
                threshold=threshold,
                comparison_operator=comparison,
                evaluation_periods=minutes,
                datapoints_to_alarm=of_them,
                treat_missing_data=missing,
                actions_enabled=chosen(self._stack.parameters.is_serving, True, False),
                alarm_actions=[self._topic_arn],
                ok_actions=[self._topic_arn],
                **shape,  # type: ignore[arg-type]  # jsii's own checks are at run time
            )
        )

    # --- what the program says itself -------------------------------------------------------------

    def _waiting(self) -> None:
        """SQS does not know of tasks whose message was lost, or received more than three times; the store does."""
        has_long_tasks = self._stack.profile.long_workers is not None
        for numbers in self._stack.profile.queues:
            age = numbers.long_age_slo_seconds if has_long_tasks else numbers.age_slo_seconds
            self.add(
                f"{numbers.priority.title()}TaskWaiting",
                f"The store has a task of priority {numbers.priority} that has been due for too long. "
                "taskflow logs queue-wait-by-priority; taskflow doctor",
                series.program(catalogue.OLDEST_WAITING, "Maximum", priority=numbers.priority),
                threshold=age + self._numbers.waiting_slack_seconds,
                of_them=3,
            )

    def _outbox(self) -> None:
        self.add(
            "OutboxLag",
            "Messages that are due are not sent: is SQS refusing, or maintenance failing? taskflow doctor",
            series.program(catalogue.OUTBOX_LAG, "Maximum"),
            threshold=self._numbers.outbox_lag_seconds,
            of_them=3,
        )
        lost = series.program(catalogue.LEASES_LOST, "Sum")
        self.add(
            "LeasesLost",
            "Workers lose their leases: the database is slow, or processes stand still. Work is done twice",
            Series(lost.namespace, lost.name, lost.stat, period_seconds=900),
            threshold=self._numbers.leases_lost,
            minutes=1,
        )

    def _heartbeat(self) -> None:
        self.add(
            "Heartbeat",
            "Maintenance has not done all its jobs for minutes: delays, retries and recovery stand still",
            series.program(catalogue.HEARTBEAT, "Sum"),
            threshold=1,
            minutes=self._numbers.heartbeat_minutes,
            comparison="LessThanThreshold",
            missing="breaching",
        )

    # --- AWS's own --------------------------------------------------------------------------------

    def _functions(self) -> None:
        stack, numbers = self._stack, self._stack.profile.functions
        functions: list[tuple[str, Function, FunctionNumbers]] = [
            ("Worker", stack.workers.worker, numbers.worker),
            ("Maintenance", stack.maintenance.maintenance, numbers.maintenance),
            ("DeadLetters", stack.dead_letters.dead_letters, numbers.dead_letters),
            ("Migrate", stack.maintenance.migrate, numbers.migrate),
        ]
        if isinstance(api := stack.profile.api, ApiFunction):
            functions.append(("Api", stack.api.api, api.function))  # type: ignore[arg-type]  # a function then
        for name, function, size in functions:
            ref = function.function.ref
            self.add(
                f"{name}FunctionErrors",
                f"The {name} function failed, ran out of memory or out of time: its log group says why",
                series.function("Errors", ref, "Sum"),
                threshold=0,
                of_them=1 if name == "Migrate" else 3,
            )
            if name == "Migrate":
                continue
            self.add(
                f"{name}FunctionThrottles",
                f"AWS does not let the {name} function run: the account's concurrency is used up",
                series.function("Throttles", ref, "Sum"),
                threshold=0,
                of_them=3,
            )
            self.add(
                f"{name}FunctionDuration",
                f"The {name} function comes close to its timeout. taskflow logs slowest-tasks",
                series.function("Duration", ref, "p99"),
                threshold=size.timeout_seconds * 10 * self._numbers.duration_percent,
                of_them=3,
            )

    def _database(self) -> None:
        """Thresholds are of the profile's size; a larger one, chosen by a parameter, is told of early."""
        numbers, size = self._numbers, self._stack.profile.database
        ref = self._stack.database.instance.ref
        self.add(
            "DatabaseCpu",
            "PostgreSQL has little processor time left: a larger class, or fewer workers",
            series.database("CPUUtilization", ref, "Average"),
            threshold=numbers.database_cpu_percent,
            minutes=15,
        )
        self.add(
            "DatabaseConnections",
            "PostgreSQL has few connections left: RDS Proxy, a larger class, or less concurrency",
            series.database("DatabaseConnections", ref, "Maximum"),
            threshold=size.max_connections * numbers.database_connections_percent // 100,
            of_them=3,
        )
        self.add(
            "DatabaseStorage",
            "PostgreSQL has little disk space left, though RDS should have added some",
            series.database("FreeStorageSpace", ref, "Minimum"),
            threshold=size.storage_gib * _GIB * numbers.database_free_storage_percent // 100,
            comparison="LessThanThreshold",
        )
        self.add(
            "DatabaseTransactionIds",
            "PostgreSQL cannot clean up after itself: look for an old transaction or replication slot",
            series.database("MaximumUsedTransactionIDs", ref, "Maximum"),
            threshold=numbers.database_transaction_ids,
        )

    def _edge(self) -> None:
        full_name = self._stack.edge.load_balancer.attr_load_balancer_full_name
        errors = {
            "balancer": series.load_balancer("HTTPCode_ELB_5XX_Count", full_name, "Sum"),
            "api": series.load_balancer("HTTPCode_Target_5XX_Count", full_name, "Sum"),
        }
        self.add(
            "ServerErrors",
            "Clients get answers of 500 and above. taskflow logs api-latency-by-route",
            ("FILL(balancer,0)+FILL(api,0)", errors),
            threshold=self._numbers.server_errors_per_minute,
            of_them=3,
            comparison="GreaterThanOrEqualToThreshold",
        )
        if isinstance(self._stack.profile.api, ApiContainers):
            target = self._stack.api.target_group.attr_target_group_full_name
            self.add(
                "HealthyInstances",
                "No API instance is healthy: nothing is accepted",
                series.load_balancer("HealthyHostCount", full_name, "Minimum", TargetGroup=target),
                threshold=1,
                of_them=3,
                comparison="LessThanThreshold",
                missing="breaching",
            )


def _expression(
    expression: str, watched: Mapping[str, Series]
) -> Sequence[cloudwatch.CfnAlarm.MetricDataQueryProperty]:
    result = cloudwatch.CfnAlarm.MetricDataQueryProperty(
        id="result", expression=expression, return_data=True
    )
    return [result, *(one.query(id_) for id_, one in watched.items())]
