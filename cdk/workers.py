"""The functions that run tasks: one function, which every priority's queue calls with its share of the concurrency."""

from __future__ import annotations

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.parameters import chosen
from cdk.profiles import Profile
from cdk.program import Function, Program
from cdk.queues import PriorityQueue, Queues


class Workers(Construct):
    def __init__(
        self, scope: Construct, id_: str, profile: Profile, program: Program, queues: Queues
    ) -> None:
        super().__init__(scope, id_)
        self.worker = Function(
            self,
            "WorkerFunction",
            program,
            service="worker",
            permissions=program.permissions.worker(),
            handler="lambdas.worker.handler",
            code_key=program.parameters.worker_code_key,
            numbers=profile.functions.worker,
            memory=program.parameters.worker_memory,
            settings={"TASKFLOW_NUM_WORKERS": str(profile.functions.worker_slots)},
        )
        self.event_sources = [
            _event_source(
                self,
                f"{queue.numbers.priority.title()}WorkerEventSource",
                self.worker,
                queue.queue.queue_arn,
                program,
                batch_size=queue.numbers.batch_size,
                concurrency=queue.numbers.function_concurrency,
            )
            for queue in queues.ordinary
        ]


class DeadLetters(Construct):
    """The function that takes up what SQS has given up."""

    def __init__(
        self, scope: Construct, id_: str, profile: Profile, program: Program, queues: Queues
    ) -> None:
        super().__init__(scope, id_)
        self.dead_letters = Function(
            self,
            "DeadLettersFunction",
            program,
            service="dead-letters",
            permissions=program.permissions.dead_letters(),
            handler="lambdas.dead_letters.handler",
            code_key=program.parameters.worker_code_key,
            numbers=profile.functions.dead_letters,
            settings={},
        )
        for queue in queues.all:
            _event_source(
                self,
                f"{_title(queue)}DeadLettersEventSource",
                self.dead_letters,
                queue.dead_letters.queue_arn,
                program,
                batch_size=queue.numbers.batch_size,
                concurrency=LEAST_CONCURRENCY,
            )


LEAST_CONCURRENCY = 2  # Lambda takes no less


def _event_source(
    scope: Construct,
    id_: str,
    function: Function,
    queue_arn: str,
    program: Program,
    *,
    batch_size: int,
    concurrency: int,
) -> lambda_.CfnEventSourceMapping:
    """Without ReportBatchItemFailures Lambda deletes messages that are to come back."""
    return lambda_.CfnEventSourceMapping(
        scope,
        id_,
        event_source_arn=queue_arn,
        function_name=function.function.ref,
        enabled=chosen(program.parameters.is_serving, True, False),
        batch_size=batch_size,
        function_response_types=["ReportBatchItemFailures"],
        scaling_config=lambda_.CfnEventSourceMapping.ScalingConfigProperty(
            maximum_concurrency=concurrency
        ),
    )


def _title(queue: PriorityQueue) -> str:
    return queue.name.title().replace("-", "")
