"""What can be seen of a deployment: alarms and who is told, the dashboard, the saved queries, indexes of the logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from cdk.alarms import Alarms
from cdk.dashboard import Dashboard
from cdk.parameters import reference
from cdk.permissions import document
from taskflow.observability.queries import QUERIES, Query

if TYPE_CHECKING:
    from cdk.stack import TaskFlowStack

INDEXED = ("task_id", "tenant_id", "request_id")  # a query for one value reads a part of the logs


class Observability(Construct):
    """Reads the other parts of the stack; none of them knows of it."""

    def __init__(self, scope: TaskFlowStack, id_: str) -> None:
        super().__init__(scope, id_)
        self._stack = scope
        self.topic = self._topic()
        self._subscription()
        self.alarms = Alarms(self, scope, self.topic.ref)
        self.dashboard = Dashboard(self, scope, self.alarms.made)
        self._log_groups = _log_groups(scope)
        for group in self._log_groups.values():
            group.field_index_policies = [{"Fields": list(INDEXED)}]
        for query in QUERIES.values():
            self._query(query)
        self._outputs()

    def _topic(self) -> sns.CfnTopic:
        """Not encrypted: CloudWatch could publish only with a key that is paid for, and alarms tell no secrets."""
        topic = sns.CfnTopic(self, "AlarmTopic", display_name=f"TaskFlow {aws.Aws.STACK_NAME}")
        sns.CfnTopicPolicy(
            self,
            "AlarmTopicPolicy",
            topics=[topic.ref],
            policy_document=document(
                iam.PolicyStatement(
                    sid="AlarmsOfThisAccount",
                    actions=["sns:Publish"],
                    principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                    resources=[topic.ref],
                    conditions={"StringEquals": {"aws:SourceAccount": aws.Aws.ACCOUNT_ID}},
                ),
                iam.PolicyStatement(
                    sid="TlsOnly",
                    effect=iam.Effect.DENY,
                    actions=["sns:Publish"],
                    principals=[iam.AnyPrincipal()],
                    resources=[topic.ref],
                    conditions={"Bool": {"aws:SecureTransport": "false"}},
                ),
            ),
        )
        return topic

    def _subscription(self) -> None:
        """AWS sends a mail first that has to be confirmed."""
        email = reference(self._stack.parameters.alarm_email)
        has_email = aws.CfnCondition(
            self,
            "HasAlarmEmail",
            expression=aws.Fn.condition_not(aws.Fn.condition_equals(email, "")),
        )
        subscription = sns.CfnSubscription(
            self, "AlarmSubscription", topic_arn=self.topic.ref, protocol="email", endpoint=email
        )
        subscription.cfn_options.condition = has_email

    def _query(self, query: Query) -> None:
        there = [self._log_groups[name].ref for name in query.services if name in self._log_groups]
        logs.CfnQueryDefinition(
            self,
            f"{query.name.title().replace('-', '')}Query",
            name=f"{aws.Aws.STACK_NAME}/{query.name}",
            log_group_names=there,
            query_string=query.saved_text,
        )

    def _outputs(self) -> None:
        for name, value, description in (
            ("AlarmTopicArn", self.topic.ref, "Who else is to be told of alarms subscribes here"),
            ("DashboardName", aws.Aws.STACK_NAME, "Dashboard of CloudWatch"),
        ):
            output = aws.CfnOutput(
                self._stack, f"{name}Output", value=value, description=description
            )
            output.override_logical_id(name)


def _log_groups(stack: TaskFlowStack) -> dict[str, logs.CfnLogGroup]:
    """By service, those that the profile has."""
    groups = {
        "api": stack.api.api.log_group,
        "worker": stack.workers.worker.log_group,
        "maintenance": stack.maintenance.maintenance.log_group,
        "dead-letters": stack.dead_letters.dead_letters.log_group,
        "migrate": stack.maintenance.migrate.log_group,
    }
    if stack.long_workers is not None:
        groups["long-worker"] = stack.long_workers.worker.log_group
    return groups
