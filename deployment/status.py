"""`deploy.py status`: the stack, its address, its queues, its alarms, and what went wrong last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code
from deployment.failures import causes
from deployment.stack_states import Readiness
from deployment.stacks import Stacks, StackState

_QUEUE = "AWS::SQS::Queue"
_ALARM = "AWS::CloudWatch::Alarm"
_COUNTS = {
    "waiting": "ApproximateNumberOfMessages",
    "running": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
_ALARMS_AT_ONCE = 100  # DescribeAlarms


@dataclass(frozen=True)
class QueueDepth:
    name: str
    waiting: int
    running: int
    delayed: int


@dataclass(frozen=True)
class Alarm:
    name: str
    reason: str


@dataclass(frozen=True)
class Status:
    """``state`` None: there is no such stack."""

    stack: str
    region: str
    state: StackState | None
    queues: Sequence[QueueDepth] = ()
    alarms: Sequence[Alarm] = ()  # those that are ringing, and that somebody is told of
    failures: Sequence[str] = ()  # of the last operation
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        return (
            self.state is not None and self.state.readiness is Readiness.READY and not self.alarms
        )


def look(account: Account, stack: str) -> Status:
    stacks = Stacks(account)
    state = stacks.look(stack)
    if state is None:
        return Status(stack, account.region, None)
    resources = stacks.resources(state.stack_id)
    went_wrong = state.readiness in {
        Readiness.CREATION_FAILED,
        Readiness.STUCK,
        Readiness.DELETION_FAILED,
    }
    went_wrong = went_wrong or state.status == "UPDATE_ROLLBACK_COMPLETE"
    return Status(
        stack,
        account.region,
        state,
        queues=_depths(account, _ids(resources, _QUEUE)),
        alarms=_ringing(account, _ids(resources, _ALARM), state.outputs.get("AlarmTopicArn")),
        failures=causes(stacks.causes(state.stack_id)) if went_wrong else (),
        outputs=state.outputs,
    )


def _ids(resources: Sequence[Mapping[str, Any]], type_: str) -> list[str]:
    return [
        resource["PhysicalResourceId"]
        for resource in resources
        if resource["ResourceType"] == type_ and resource.get("PhysicalResourceId")
    ]


def _depths(account: Account, urls: Sequence[str]) -> list[QueueDepth]:
    sqs, depths = account.client("sqs"), []
    for url in urls:
        try:
            found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS.values()))
        except ClientError as exc:
            if "NonExistentQueue" in error_code(exc) or "QueueDoesNotExist" in error_code(exc):
                continue  # it is being deleted
            raise
        counts = {name: int(found["Attributes"][attribute]) for name, attribute in _COUNTS.items()}
        depths.append(QueueDepth(url.rpartition("/")[2], **counts))
    return sorted(depths, key=lambda depth: depth.name)


def _ringing(account: Account, names: Sequence[str], topic_arn: str | None) -> list[Alarm]:
    """Only those that go to the topic now: others scale (and are on whenever nothing waits), or are silent while the
    stack does not serve."""
    client, ringing = account.client("cloudwatch"), []
    for start in range(0, len(names), _ALARMS_AT_ONCE):
        answer = client.describe_alarms(
            AlarmNames=list(names[start : start + _ALARMS_AT_ONCE]), StateValue="ALARM"
        )
        ringing += [
            Alarm(alarm["AlarmName"], alarm.get("StateReason", ""))
            for alarm in answer.get("MetricAlarms", [])
            if alarm["ActionsEnabled"] and topic_arn in alarm["AlarmActions"]
        ]
    return ringing
