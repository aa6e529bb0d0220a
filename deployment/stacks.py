"""Stacks as CloudFormation describes them: their state, their events, and waiting until it is done."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code, error_message
from deployment.stack_states import Readiness, readiness

STACK_TYPE = "AWS::CloudFormation::Stack"
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0
_BEGINNING_SECONDS = 60.0
# What CloudFormation writes on resources that failed only because another did.
_CONSEQUENCE = re.compile(
    r"(creation|update|deletion) cancell?ed|failed to (create|update|delete): \["
)


@dataclass(frozen=True)
class StackState:
    name: str
    stack_id: str
    status: str
    reason: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    changed_at: datetime
    is_protected: bool

    @property
    def readiness(self) -> Readiness:
        return readiness(self.status)


@dataclass(frozen=True)
class StackEvent:
    event_id: str
    at: datetime
    logical_id: str
    resource_type: str
    status: str
    reason: str

    @property
    def is_of_the_stack(self) -> bool:
        return self.resource_type == STACK_TYPE

    @property
    def is_cause(self) -> bool:
        """Whether a resource failed by itself, and not because another one did."""
        failed = self.status.endswith("_FAILED") and not self.is_of_the_stack
        return failed and not _CONSEQUENCE.search(self.reason)


class Watcher(Protocol):
    """Who wants to see events while they happen."""

    def stack_event(self, event: StackEvent) -> None: ...


class Stacks:
    def __init__(self, account: Account, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._account = account
        self._pause = pause

    def look(self, name_or_id: str) -> StackState | None:
        """None: there is none, or it has been deleted."""
        try:
            [stack] = self._account.client("cloudformation").describe_stacks(StackName=name_or_id)[
                "Stacks"
            ]
        except ClientError as exc:
            if error_code(exc) == "ValidationError" and "does not exist" in error_message(exc):
                return None
            raise
        state = _state(stack)
        return None if state.readiness is Readiness.ABSENT else state

    def resources(self, stack_id: str) -> list[dict[str, Any]]:
        """``LogicalResourceId``, ``PhysicalResourceId``, ``ResourceType``, ``ResourceStatus`` … of each."""
        pages = self._account.pages("cloudformation", "list_stack_resources", StackName=stack_id)
        return [
            resource
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceStatus"] != "DELETE_COMPLETE"
        ]

    def events(self, stack_id: str) -> Iterator[StackEvent]:
        """Newest first, in pages: stop when it is enough."""
        for page in self._account.pages(
            "cloudformation", "describe_stack_events", StackName=stack_id
        ):
            yield from (_event(event) for event in page["StackEvents"])

    def last_event_id(self, stack_id: str) -> str:
        return next((event.event_id for event in self.events(stack_id)), "")

    def follow(
        self, state: StackState, watcher: Watcher, *, after: str | None = None
    ) -> tuple[StackState | None, list[StackEvent]]:
        """Wait until AWS is done with the stack; the state then (None: deleted), and what happened.

        ``after``: the last event before an operation that was begun just now, which may show with a delay; None: the
        operation that is going on already.
        """
        has_begun, unseen_until = after is None, time.monotonic() + _BEGINNING_SECONDS
        seen = after if after is not None else self._before_this_operation(state.stack_id)
        happened: list[StackEvent] = []
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            # The state first: events that come after it are then in the next round, or the last one has them all.
            now = self.look(state.stack_id)
            new = self._since(state.stack_id, seen)
            for event in new:
                watcher.stack_event(event)
            happened += new
            seen = new[-1].event_id if new else seen
            has_begun = (
                has_begun
                or any(event.is_of_the_stack for event in new)
                or time.monotonic() > unseen_until
            )
            if now is None or (has_begun and now.readiness is not Readiness.BUSY):
                return now, happened
            self._pause(pause_seconds)
            pause_seconds = min(_LONGEST_PAUSE_SECONDS, pause_seconds * 1.5)

    def causes(self, stack_id: str) -> list[StackEvent]:
        """What failed by itself in the stack's last operation, oldest first."""
        return [
            event
            for event in self._since(stack_id, self._before_this_operation(stack_id))
            if event.is_cause
        ]

    def _since(self, stack_id: str, event_id: str) -> list[StackEvent]:
        """Oldest first."""
        new: list[StackEvent] = []
        try:
            for event in self.events(stack_id):
                if event.event_id == event_id:
                    break
                new.append(event)
        except ClientError as exc:
            if error_code(exc) != "ValidationError":  # a deleted stack that is forgotten already
                raise
        return new[::-1]

    def _before_this_operation(self, stack_id: str) -> str:
        """The event before the one with which the current or last operation began; empty: it was the first."""
        began = False
        for event in self.events(stack_id):
            if began:
                return event.event_id
            began = event.is_of_the_stack and event.status in {
                "CREATE_IN_PROGRESS",
                "UPDATE_IN_PROGRESS",
                "DELETE_IN_PROGRESS",
            }
        return ""


def _state(stack: Mapping[str, Any]) -> StackState:
    return StackState(
        name=stack["StackName"],
        stack_id=stack["StackId"],
        status=stack["StackStatus"],
        reason=stack.get("StackStatusReason", ""),
        parameters={
            item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])
        },
        outputs={item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])},
        tags={item["Key"]: item["Value"] for item in stack.get("Tags", [])},
        changed_at=stack.get("LastUpdatedTime") or stack["CreationTime"],
        is_protected=bool(stack.get("EnableTerminationProtection", False)),
    )


def _event(event: Mapping[str, Any]) -> StackEvent:
    return StackEvent(
        event_id=event["EventId"],
        at=event["Timestamp"],
        logical_id=event["LogicalResourceId"],
        resource_type=event["ResourceType"],
        status=event.get("ResourceStatus", ""),
        reason=event.get("ResourceStatusReason", ""),
    )
