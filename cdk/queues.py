"""The queues: one per priority, one more per priority for long tasks, each with its dead letters."""

from __future__ import annotations

import aws_cdk as aws
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk import profiles
from cdk.profiles import FunctionNumbers, Profile, QueueNumbers


class PriorityQueue(Construct):
    """A queue and its dead letters, named as the program looks for them: `{stack}-{name}`, `{stack}-{name}-dead`."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        numbers: QueueNumbers,
        visibility_seconds: int,
        dead_letters: FunctionNumbers,
    ) -> None:
        super().__init__(scope, id_)
        self.numbers = numbers
        self.name = name
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            queue_name=f"{aws.Aws.STACK_NAME}-{name}-dead",
            retention_period=aws.Duration.seconds(profiles.DEAD_LETTER_RETENTION_SECONDS),
            visibility_timeout=aws.Duration.seconds(
                profiles.VISIBILITY_FACTOR * dead_letters.timeout_seconds
            ),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=f"{aws.Aws.STACK_NAME}-{name}",
            retention_period=aws.Duration.seconds(profiles.RETENTION_SECONDS),
            visibility_timeout=aws.Duration.seconds(visibility_seconds),
            receive_message_wait_time=aws.Duration.seconds(20),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.dead_letters, max_receive_count=numbers.max_receives
            ),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )


class Queues(Construct):
    """``ordinary`` are served by functions, ``long`` by containers. The store is the truth: queues may be deleted."""

    def __init__(self, scope: Construct, id_: str, profile: Profile) -> None:
        super().__init__(scope, id_)
        worker, dead_letters = profile.functions.worker, profile.functions.dead_letters
        self.ordinary = [
            PriorityQueue(
                self,
                numbers.priority.title(),
                name=numbers.priority,
                numbers=numbers,
                visibility_seconds=profiles.VISIBILITY_FACTOR * worker.timeout_seconds,
                dead_letters=dead_letters,
            )
            for numbers in profile.queues
        ]
        self.long = [
            PriorityQueue(
                self,
                f"Long{numbers.priority.title()}",
                name=f"long-{numbers.priority}",
                numbers=numbers,
                visibility_seconds=profiles.LONG_VISIBILITY_SECONDS,
                dead_letters=dead_letters,
            )
            for numbers in (profile.queues if profile.long_workers else ())
        ]
        self.all = [*self.ordinary, *self.long]
