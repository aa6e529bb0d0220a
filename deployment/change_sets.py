"""Change sets: CloudFormation says what it would do before it does it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code, error_message
from deployment.changes import Change, changes_of
from deployment.errors import DeployError
from deployment.stack_states import Readiness
from deployment.stacks import StackState

_PREFIX = "taskflow-"
_FORGOTTEN_AFTER = timedelta(hours=6)
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Wanted:
    """What the stack shall be. ``template_url`` and values of ``parameters``: None keeps what the stack has."""

    stack: str
    template_url: str | None
    parameters: Mapping[str, str | None]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ChangeSet:
    change_set_id: str
    stack_id: str
    kind: Literal["CREATE", "UPDATE"]
    changes: Sequence[Change]


class ChangeSets:
    def __init__(self, account: Account, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._account = account
        self._pause = pause

    def make(self, wanted: Wanted, state: StackState | None) -> ChangeSet | None:
        """None: the stack is already as it is wanted. Raises DeployError when CloudFormation will not have it."""
        is_new = state is None or state.readiness is Readiness.REVIEW
        kind: Literal["CREATE", "UPDATE"] = "CREATE" if is_new else "UPDATE"
        if state is not None:
            self._delete_forgotten(wanted.stack)
        try:
            made = self._client.create_change_set(
                StackName=wanted.stack,
                ChangeSetName=f"{_PREFIX}{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
                ChangeSetType=kind,
                **_template(wanted.template_url),
                Parameters=[_parameter(name, value) for name, value in wanted.parameters.items()],
                Tags=[{"Key": key, "Value": value} for key, value in wanted.tags.items()],
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
                Description="deploy.py",
            )
        except ClientError as exc:
            if _says_no_changes(error_message(exc)):
                return None
            raise
        change_set_id: str = made["Id"]
        described = self._wait(change_set_id, wanted.stack)
        if described["Status"] != "CREATE_COMPLETE":
            reason = described.get("StatusReason", "")
            nothing_to_do = _says_no_changes(reason)
            details = [] if nothing_to_do else self._refusals(change_set_id)
            self.discard(change_set_id, wanted.stack)
            if nothing_to_do:
                return None
            raise DeployError(
                f"CloudFormation refuses the change set: {'; '.join([reason or described['Status'], *details])}",
                "Correct what the reason names (a parameter: --set NAME=VALUE), then run the same command again.",
                code="change_set_refused",
            )
        return ChangeSet(
            change_set_id,
            made["StackId"],
            kind,
            changes_of(self._changes(change_set_id, wanted.stack)),
        )

    def execute(self, change_set: ChangeSet) -> None:
        """Returns when CloudFormation has begun. Retained resources of a creation that fails are removed, too."""
        try:
            self._client.execute_change_set(
                ChangeSetName=change_set.change_set_id,
                StackName=change_set.stack_id,
                RetainExceptOnCreate=True,
                ClientRequestToken=str(uuid.uuid4()),
            )
        except ClientError as exc:
            if error_code(exc) in {
                "ChangeSetNotFound",
                "ChangeSetNotFoundException",
                "InvalidChangeSetStatus",
            }:
                raise DeployError(
                    "The stack was changed by somebody else since this change set was made.",
                    "Run the same command again: it looks at the stack anew.",
                    code="change_set_outdated",
                ) from exc
            raise

    def abandon(self, change_set: ChangeSet, *, with_stack: bool) -> None:
        """Discard it; ``with_stack``: also the empty stack that was made for it to belong to."""
        self.discard(change_set.change_set_id, change_set.stack_id)
        if with_stack and change_set.kind == "CREATE":
            self._client.delete_stack(StackName=change_set.stack_id)

    def discard(self, change_set_id: str, stack: str) -> None:
        """Without an error when it is not there or cannot be deleted: it does nothing by itself."""
        try:
            self._client.delete_change_set(ChangeSetName=change_set_id, StackName=stack)
        except ClientError as exc:
            if error_code(exc) not in {
                "ChangeSetNotFound",
                "ChangeSetNotFoundException",
                "InvalidChangeSetStatus",
                "ValidationError",
            }:
                raise

    @property
    def _client(self) -> Any:
        return self._account.client("cloudformation")

    def _wait(self, change_set_id: str, stack: str) -> Mapping[str, Any]:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            described: Mapping[str, Any] = self._client.describe_change_set(
                ChangeSetName=change_set_id, StackName=stack
            )
            if described["Status"] not in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
                return described
            self._pause(pause_seconds)
            pause_seconds = min(_LONGEST_PAUSE_SECONDS, pause_seconds * 1.5)

    def _changes(self, change_set_id: str, stack: str) -> list[Mapping[str, Any]]:
        changes: list[Mapping[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            page = self._client.describe_change_set(
                ChangeSetName=change_set_id, StackName=stack, IncludePropertyValues=True, **more
            )
            changes += page.get("Changes", [])
            if not page.get("NextToken"):
                return changes
            more = {"NextToken": page["NextToken"]}

    def _refusals(self, change_set_id: str) -> list[str]:
        """What CloudFormation's validation before the deployment found, resource by resource."""
        try:
            answer = self._client.describe_events(
                ChangeSetName=change_set_id, Filters={"FailedEvents": True}
            )
        except ClientError:
            return []  # where that operation is not known, or there is nothing to tell
        return [
            f"{event.get('LogicalResourceId', '')}: {event['ValidationStatusReason']}"
            for event in answer.get("OperationEvents", [])
            if event.get("ValidationStatusReason")
        ]

    def _delete_forgotten(self, stack: str) -> None:
        """Those of runs that were killed long ago. A young one may be waiting for somebody's answer."""
        before = datetime.now(UTC) - _FORGOTTEN_AFTER
        for page in self._account.pages("cloudformation", "list_change_sets", StackName=stack):
            for summary in page["Summaries"]:
                made_at = summary.get("CreationTime")
                is_ours = summary["ChangeSetName"].startswith(_PREFIX)
                if (
                    is_ours
                    and made_at
                    and made_at < before
                    and summary.get("ExecutionStatus") != "EXECUTE_IN_PROGRESS"
                ):
                    self.discard(summary["ChangeSetId"], stack)


def _template(url: str | None) -> dict[str, Any]:
    return {"UsePreviousTemplate": True} if url is None else {"TemplateURL": url}


def _parameter(name: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return {"ParameterKey": name, "UsePreviousValue": True}
    return {"ParameterKey": name, "ParameterValue": value}


def _says_no_changes(text: str) -> bool:
    return any(words in text for words in _NO_CHANGES)
