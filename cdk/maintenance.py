"""What has to happen without anybody asking: the tick of a minute; and, at a deployment, the migration."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from cdk.parameters import chosen
from cdk.permissions import Role
from cdk.profiles import Profile
from cdk.program import Function, Program

_TICK_SECONDS = 60


class Maintenance(Construct):
    """A tick that fails is not repeated: the next one is a minute away."""

    def __init__(self, scope: Construct, id_: str, profile: Profile, program: Program) -> None:
        super().__init__(scope, id_)
        self.maintenance = Function(
            self,
            "MaintenanceFunction",
            program,
            service="maintenance",
            permissions=program.permissions.maintenance(),
            handler="lambdas.maintenance.handler",
            code_key=program.parameters.worker_code_key,
            numbers=profile.functions.maintenance,
            settings={},
        )
        self.migrate = Function(
            self,
            "MigrateFunction",
            program,
            service="migrate",
            permissions=program.permissions.migrate(),
            handler="lambdas.migrate.handler",
            code_key=program.parameters.worker_code_key,
            numbers=profile.functions.migrate,
            settings={},
        )
        function = self.maintenance.function
        lambda_.CfnEventInvokeConfig(
            self,
            "MaintenanceInvocations",
            function_name=function.ref,
            qualifier="$LATEST",
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=_TICK_SECONDS,
        )
        role = Role(
            self,
            "SchedulerRole",
            "scheduler.amazonaws.com",
            [
                iam.PolicyStatement(
                    sid="CallMaintenance",
                    actions=["lambda:InvokeFunction"],
                    resources=[function.attr_arn],
                )
            ],
        )
        scheduler.CfnSchedule(
            self,
            "MaintenanceSchedule",
            description="One tick of relay, recovery and retention",
            schedule_expression="rate(1 minute)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            state=chosen(program.parameters.is_serving, "ENABLED", "DISABLED").to_string(),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=function.attr_arn,
                role_arn=role.arn,
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=0, maximum_event_age_in_seconds=_TICK_SECONDS
                ),
            ),
        )
