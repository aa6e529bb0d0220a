"""`deploy.py destroy`: everything a stage has, but no data that nobody gave up. A next run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment import env_file
from deployment.account import Account
from deployment.artifacts import ArtifactBucket
from deployment.certificate import SelfSigned
from deployment.data import Consent, StackData, kept_buckets, snapshots
from deployment.errors import DeployError, UsageError
from deployment.failures import causes
from deployment.image import ImageBuilder
from deployment.outputs import forgotten
from deployment.reporter import Reporter
from deployment.stack_states import Readiness
from deployment.stacks import Stacks, StackState


@dataclass(frozen=True)
class Options:
    """``retain``: resources that could not be deleted, and are to be left behind."""

    consent: Consent
    env_file: Path
    retain: Sequence[str] = ()


@dataclass
class Destroyed:
    stack: str
    deleted: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)


class Destruction:
    def __init__(self, account: Account, stack: str, options: Options, reporter: Reporter) -> None:
        self._account = account
        self._stack = stack
        self._options = options
        self._reporter = reporter
        self._stacks = Stacks(account)

    def run(self) -> Destroyed:
        result = Destroyed(self._stack)
        state = self._stacks.look(self._stack)
        if (
            state is not None
            and state.readiness is Readiness.BUSY
            and state.status != "DELETE_IN_PROGRESS"
        ):
            self._reporter.say(f"{self._stack} is {state.status}; waiting for its end")
            with self._reporter.watching(
                f"{self._stack} {state.status}", resources=None
            ) as watcher:
                state, _ = self._stacks.follow(state, watcher)
        if state is not None:
            self._delete(state, result)
        else:
            self._clean_up_after(result)
        self._forget()
        return result

    def _clean_up_after(self, result: Destroyed) -> None:
        """After a stack that an earlier run, or somebody else, has deleted."""
        kept = StackData(self._account, buckets=self._kept())
        may_go = self._options.consent.payloads or any(one.is_empty for one in kept.buckets)
        if not (kept.buckets and may_go) and not self._left_over():
            self._reporter.say(
                f"there is no stack {self._stack} in {self._account.region}, and nothing is left of one"
                + (" but data" if kept.buckets else "")
            )
        elif not self._reporter.confirm(
            f"The stack {self._stack} is gone. Delete what is left of it?"
        ):
            raise _declined()
        self._clean(result, kept)

    def _delete(self, state: StackState, result: Destroyed) -> None:
        resources = self._stacks.resources(state.stack_id)
        self._check_retained(state, resources)
        data = StackData.of(self._account, resources)
        consent = self._options.consent
        if state.status != "DELETE_IN_PROGRESS":
            data.check(consent, self._stack)
            if not self._reporter.confirm(
                f"Delete {self._stack} in {self._account.region} for ever?"
            ):
                raise _declined()
            data.unprotect(consent, self._reporter)
            data.empty(consent, self._reporter)
            if state.is_protected:
                self._account.client("cloudformation").update_termination_protection(
                    StackName=self._stack, EnableTerminationProtection=False
                )
        self._delete_stack(state, len(resources))
        result.deleted.append(f"stack {self._stack}")
        buckets = {*self._kept(), *(bucket.name for bucket in data.buckets)}
        databases = [database.identifier for database in data.databases]
        kept = StackData(self._account, buckets=sorted(buckets), databases=databases)
        self._clean(result, kept, databases)

    def _check_retained(self, state: StackState, resources: Sequence[dict[str, Any]]) -> None:
        """CloudFormation would refuse it, after data has been deleted already. Raises UsageError."""
        if not self._options.retain:
            return
        failed = [
            resource["LogicalResourceId"]
            for resource in resources
            if resource["ResourceStatus"] == "DELETE_FAILED"
        ]
        if state.status != "DELETE_FAILED":
            raise UsageError(
                f"--retain is for a deletion that failed, and {self._stack} is {state.status}.",
                "Run `deploy.py destroy` without it: what cannot be deleted is named then.",
            )
        if unknown := set(self._options.retain) - set(failed):
            raise UsageError(
                f"--retain {' and '.join(sorted(unknown))}: nothing of that name could not be deleted.",
                f"What could not be deleted: {', '.join(failed)}.",
            )

    def _delete_stack(self, state: StackState, resources: int) -> None:
        last: str | None = None
        if state.status != "DELETE_IN_PROGRESS":
            last = self._stacks.last_event_id(state.stack_id)
            retain = {"RetainResources": list(self._options.retain)} if self._options.retain else {}
            self._account.client("cloudformation").delete_stack(StackName=state.stack_id, **retain)
        with self._reporter.watching(f"deleting {self._stack}", resources=resources) as watcher:
            after, happened = self._stacks.follow(state, watcher, after=last)
        if after is not None:
            reasons = "; ".join(causes(happened)[:3]) or after.reason or "AWS gives no reason"
            raise DeployError(
                f"{self._stack} could not be deleted and is {after.status}: {reasons}.",
                "Mend what the reason says and run `deploy.py destroy` again; it can leave a resource behind: "
                "--retain LOGICAL_ID.",
                code="delete_failed",
            )

    def _left_over(self) -> bool:
        account = self._account
        return bool(
            SelfSigned(account, self._stack).find() or ArtifactBucket(account, self._stack).keys()
        )

    def _kept(self) -> list[str]:
        """Buckets that outlived the stack: CloudFormation's tags tell, and `.env` where it is this stack's."""
        named = env_file.read(self._options.env_file).get("TASKFLOW_S3_BUCKET")
        found = kept_buckets(self._account, self._stack)
        return [*found, named] if named and self._written() and named not in found else found

    def _clean(self, result: Destroyed, kept: StackData, databases: Sequence[str] = ()) -> None:
        """What outlived the stack and may go, and what deploy.py made beside it."""
        result.stays = kept.delete_kept(self._options.consent, self._reporter)
        result.stays += self._snapshots(databases)
        arn = SelfSigned(self._account, self._stack).delete()
        if arn is not None:
            result.deleted.append(f"certificate {arn}")
        if ImageBuilder(self._account, self._stack, self._reporter).delete_repository():
            result.deleted.append(f"images {self._stack}")
        bucket = ArtifactBucket(self._account, self._stack)
        if number := bucket.clean():
            result.deleted.append(f"{number} packages and templates in {bucket.name}")

    def _snapshots(self, databases: Sequence[str]) -> list[str]:
        return [f"snapshot {name}" for name in snapshots(self._account, self._stack, databases)]

    def _written(self) -> dict[str, str | None]:
        """What `.env` says of this stack, to be taken out."""
        written = env_file.read(self._options.env_file)
        account = self._account
        return forgotten(
            written,
            stack=self._stack,
            region=account.region,
            account=account.identity.account,
        )

    def _forget(self) -> None:
        if written := self._written():
            removed = env_file.write(self._options.env_file, written)
            self._reporter.say(f"removed {', '.join(removed)} from {self._options.env_file}")


def _declined() -> DeployError:
    return DeployError(
        "Nothing was deleted.", "Run it again when it is to be deleted.", code="declined"
    )
