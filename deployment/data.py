"""The data a stack holds: what `destroy` must not delete unless it is told to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.artifacts import delete_objects
from deployment.aws_errors import error_code
from deployment.errors import DecisionNeededError
from deployment.reporter import Reporter

_BUCKET = "AWS::S3::Bucket"
_DATABASE = "AWS::RDS::DBInstance"
_STACK_TAG = "aws:cloudformation:stack-id"  # CloudFormation's own; what outlives a stack keeps it


@dataclass(frozen=True)
class Consent:
    """What may go."""

    payloads: bool
    database: bool


@dataclass(frozen=True)
class Bucket:
    name: str
    is_empty: bool


@dataclass(frozen=True)
class Database:
    identifier: str
    is_protected: bool


class StackData:
    """Buckets and databases of these names that are there."""

    def __init__(
        self, account: Account, *, buckets: Iterable[str], databases: Iterable[str] = ()
    ) -> None:
        self._account = account
        self.buckets = [
            Bucket(name, self._is_empty(name)) for name in buckets if self._bucket_exists(name)
        ]
        self.databases = [
            database for name in databases if (database := self._database(name)) is not None
        ]

    @classmethod
    def of(cls, account: Account, resources: Sequence[dict[str, Any]]) -> Self:
        """``resources``: as `Stacks.resources` lists them."""
        return cls(account, buckets=_ids(resources, _BUCKET), databases=_ids(resources, _DATABASE))

    def check(self, consent: Consent, stack: str) -> None:
        """Raises DecisionNeededError naming the data that nobody gave up, and how that is done."""
        full = [bucket.name for bucket in self.buckets if not bucket.is_empty]
        held, flags = [], []
        if full and not consent.payloads:
            held.append(f"payloads in the bucket {', '.join(full)}")
            flags.append("--delete-payloads")
        if self.databases and not consent.database:
            names = ", ".join(database.identifier for database in self.databases)
            held.append(f"the tasks in the database {names}")
            flags.append("--delete-database")
        if held:
            raise DecisionNeededError(
                f"{stack} holds data, so nothing was deleted: {' and '.join(held)}.",
                f"Take out what is needed (docs/deploy.md says how), then repeat this with {' '.join(flags)}.",
                code="holds_data",
            )

    def unprotect(self, consent: Consent, reporter: Reporter) -> None:
        """Take the protection off databases that may go, so that CloudFormation can delete them."""
        rds = self._account.client("rds")
        for database in self.databases:
            if consent.database and database.is_protected:
                reporter.say(
                    f"taking the deletion protection off the database {database.identifier}"
                )
                rds.modify_db_instance(
                    DBInstanceIdentifier=database.identifier,
                    DeletionProtection=False,
                    ApplyImmediately=True,
                )

    def empty(self, consent: Consent, reporter: Reporter) -> None:
        """Delete the objects of buckets that may go, with all their versions."""
        s3 = self._account.client("s3")
        for bucket in self.buckets:
            if not consent.payloads or bucket.is_empty:
                continue
            reporter.say(f"emptying the bucket {bucket.name}")
            for page in self._account.pages("s3", "list_object_versions", Bucket=bucket.name):
                versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                delete_objects(
                    s3,
                    bucket.name,
                    [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in versions],
                )

    def delete_kept(self, consent: Consent, reporter: Reporter) -> list[str]:
        """After the stack: what its template keeps although it may go. Names what stays."""
        s3, stays = self._account.client("s3"), []
        self.empty(consent, reporter)
        for bucket in self.buckets:
            if consent.payloads or bucket.is_empty:
                s3.delete_bucket(Bucket=bucket.name)
                reporter.say(f"deleted the bucket {bucket.name}")
            else:
                stays.append(f"bucket {bucket.name}")
        return stays + [f"database {database.identifier}" for database in self.databases]

    def _bucket_exists(self, name: str) -> bool:
        try:
            self._account.client("s3").head_bucket(Bucket=name)
        except ClientError as exc:
            if error_code(exc) in {"404", "NoSuchBucket"}:
                return False
            raise
        return True

    def _is_empty(self, name: str) -> bool:
        answer = self._account.client("s3").list_object_versions(Bucket=name, MaxKeys=1)
        return not answer.get("Versions") and not answer.get("DeleteMarkers")

    def _database(self, identifier: str) -> Database | None:
        try:
            answer = self._account.client("rds").describe_db_instances(
                DBInstanceIdentifier=identifier
            )
        except ClientError as exc:
            if error_code(exc) in {"DBInstanceNotFound", "DBInstanceNotFoundFault"}:
                return None
            raise
        [described] = answer["DBInstances"]
        return Database(identifier, bool(described.get("DeletionProtection", False)))


def kept_buckets(account: Account, stack: str) -> list[str]:
    """Of a stack of this name in this region, there or gone: CloudFormation named and tagged them after it."""
    s3 = account.client("s3")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    of_it = re.compile(rf"arn:[^:]+:cloudformation:{account.region}:\d+:stack/{stack}/.+")
    return [
        name
        for name in names
        if name.startswith(f"{stack}-") and of_it.fullmatch(_stack_id(s3, name))
    ]


def snapshots(account: Account, stack: str, databases: Iterable[str]) -> list[str]:
    """Those that CloudFormation left of the stack's databases when it deleted them, and others of ``databases``."""
    known, left = set(databases), f"{stack}-snapshot-"
    return [
        snapshot["DBSnapshotIdentifier"]
        for page in account.pages("rds", "describe_db_snapshots", SnapshotType="manual")
        for snapshot in page["DBSnapshots"]
        if snapshot["DBInstanceIdentifier"] in known
        or snapshot["DBSnapshotIdentifier"].lower().startswith(left)
    ]


def _stack_id(s3: Any, bucket: str) -> str:
    """Of the stack that made it; empty: none did, or it cannot be known."""
    try:
        tags = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as exc:
        # Without tags, of somebody else, or gone since it was listed.
        if error_code(exc) in {"NoSuchTagSet", "AccessDenied", "NoSuchBucket"}:
            return ""
        raise
    return next((tag["Value"] for tag in tags if tag["Key"] == _STACK_TAG), "")


def _ids(resources: Sequence[dict[str, Any]], type_: str) -> list[str]:
    return [
        resource["PhysicalResourceId"]
        for resource in resources
        if resource["ResourceType"] == type_ and resource.get("PhysicalResourceId")
    ]
