"""Containers for tasks that do not fit into a function: as many as wait for one, none while there are none."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as aws
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from cdk import profiles
from cdk.containers import Container, Containers
from cdk.parameters import chosen, nothing, reference
from cdk.program import Program
from cdk.queues import PriorityQueue

_NAME = "long-worker"


class LongWorkers(Construct):
    """Scaled on the number of waiting tasks. Backlog per container, the usual measure, divides by zero containers.

    One that runs a task protects itself, so that scaling in takes idle ones only.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        numbers: profiles.LongWorkers,
        program: Program,
        containers: Containers,
        queues: Sequence[PriorityQueue],
    ) -> None:
        super().__init__(scope, id_)
        self._numbers, self._program, self._containers = numbers, program, containers
        parameters = program.parameters
        self.worker = Container(
            self,
            "LongWorker",
            program,
            service=_NAME,
            command=["worker"],
            permissions=program.permissions.long_worker(containers.tasks_arn),
            cpu=parameters.long_worker_cpu,
            memory=parameters.long_worker_memory,
            stop_seconds=numbers.stop_seconds,
            settings={
                "TASKFLOW_WORKER_QUEUES": "long",
                "TASKFLOW_NUM_WORKERS": str(numbers.slots),
                "TASKFLOW_SHUTDOWN_GRACE_SECONDS": str(numbers.shutdown_grace_seconds),
            },
        )
        self.service = self._service()
        target = self._target()
        waiting = _waiting(queues)
        self._scale_out(target, waiting)
        self._scale_in(target, waiting)

    def _service(self) -> ecs.CfnService:
        network = self._program.network
        service = ecs.CfnService
        return ecs.CfnService(
            self,
            "LongWorkerService",
            cluster=self._containers.cluster.ref,
            task_definition=self.worker.task_definition.ref,
            launch_type="FARGATE",
            # None at first; then scaling's business, which an update of the stack must not undo.
            desired_count=aws.Token.as_number(
                chosen(self._program.parameters.is_serving, nothing(), 0)
            ),
            deployment_configuration=service.DeploymentConfigurationProperty(
                minimum_healthy_percent=0,
                maximum_percent=200,
                deployment_circuit_breaker=service.DeploymentCircuitBreakerProperty(
                    enable=True, rollback=True
                ),
            ),
            network_configuration=service.NetworkConfigurationProperty(
                awsvpc_configuration=service.AwsVpcConfigurationProperty(
                    subnets=network.subnet_ids(),
                    security_groups=[network.program_security_group.attr_group_id],
                    assign_public_ip="DISABLED",
                )
            ),
            propagate_tags="SERVICE",
        )

    def _target(self) -> scaling.CfnScalableTarget:
        parameters = self._program.parameters
        return scaling.CfnScalableTarget(
            self,
            "LongWorkerScaling",
            service_namespace="ecs",
            scalable_dimension="ecs:service:DesiredCount",
            resource_id=f"service/{self._containers.cluster.ref}/{self.service.attr_name}",
            min_capacity=0,
            max_capacity=aws.Token.as_number(
                chosen(parameters.is_serving, reference(parameters.long_worker_max_count), 0)
            ),
        )

    def _scale_out(self, target: scaling.CfnScalableTarget, waiting: Sequence[_Metric]) -> None:
        steps = self._numbers.backlog_steps
        least = steps[0][0]
        bounds = [*(start - least for start, _ in steps), None]
        policy = self._policy(
            "LongWorkerScaleOut",
            target,
            self._numbers.scale_out_cooldown_seconds,
            [
                scaling.CfnScalingPolicy.StepAdjustmentProperty(
                    metric_interval_lower_bound=bounds[index],
                    metric_interval_upper_bound=bounds[index + 1],
                    scaling_adjustment=more,
                )
                for index, (_, more) in enumerate(steps)
            ],
        )
        self._alarm(
            "LongTasksWaiting", policy, waiting, "GreaterThanOrEqualToThreshold", least, minutes=1
        )

    def _scale_in(self, target: scaling.CfnScalableTarget, waiting: Sequence[_Metric]) -> None:
        policy = self._policy(
            "LongWorkerScaleIn",
            target,
            self._numbers.scale_in_cooldown_seconds,
            [
                scaling.CfnScalingPolicy.StepAdjustmentProperty(
                    metric_interval_upper_bound=0, scaling_adjustment=-1
                )
            ],
        )
        self._alarm(
            "NoLongTasksWait",
            policy,
            waiting,
            "LessThanOrEqualToThreshold",
            0,
            minutes=self._numbers.idle_minutes,
        )

    def _policy(
        self,
        name: str,
        target: scaling.CfnScalableTarget,
        cooldown_seconds: int,
        steps: Sequence[scaling.CfnScalingPolicy.StepAdjustmentProperty],
    ) -> scaling.CfnScalingPolicy:
        return scaling.CfnScalingPolicy(
            self,
            name,
            policy_name=f"{aws.Aws.STACK_NAME}-{name}",
            policy_type="StepScaling",
            scaling_target_id=target.ref,
            step_scaling_policy_configuration=(
                scaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty(
                    adjustment_type="ChangeInCapacity",
                    cooldown=cooldown_seconds,
                    metric_aggregation_type="Maximum",
                    step_adjustments=list(steps),
                )
            ),
        )

    def _alarm(
        self,
        name: str,
        policy: scaling.CfnScalingPolicy,
        waiting: Sequence[_Metric],
        comparison: str,
        threshold: int,
        *,
        minutes: int,
    ) -> None:
        """It scales; nobody is told."""
        cloudwatch.CfnAlarm(
            self,
            name,
            alarm_description="Scales the containers for long tasks",
            metrics=list(waiting),
            comparison_operator=comparison,
            threshold=threshold,
            evaluation_periods=minutes,
            treat_missing_data="notBreaching",
            alarm_actions=[policy.ref],
        )


_Metric = cloudwatch.CfnAlarm.MetricDataQueryProperty


def _waiting(queues: Sequence[PriorityQueue]) -> list[_Metric]:
    """The sum over the queues of what can be received. SQS reports nothing of a queue that was idle for hours."""
    alarm = cloudwatch.CfnAlarm
    counts = [
        alarm.MetricDataQueryProperty(
            id=queue.numbers.priority,
            return_data=False,
            metric_stat=alarm.MetricStatProperty(
                stat="Maximum",
                period=60,
                metric=alarm.MetricProperty(
                    namespace="AWS/SQS",
                    metric_name="ApproximateNumberOfMessagesVisible",
                    dimensions=[
                        alarm.DimensionProperty(name="QueueName", value=queue.queue.queue_name)
                    ],
                ),
            ),
        )
        for queue in queues
    ]
    total = "+".join(f"FILL({queue.numbers.priority},0)" for queue in queues)
    return [
        alarm.MetricDataQueryProperty(
            id="waiting", expression=total, label="long tasks that wait", return_data=True
        ),
        *counts,
    ]
