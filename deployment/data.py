"""The data a stack holds: what `destroy` must not delete unless it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.artifacts import delete_objects
from deployment.aws_errors import error_code
from deployment.errors import DecisionNeededError
from deployment.reporter import Reporter

_BUCKET = "AWS::S3::Bucket"
_DATABASE = "AWS::RDS::DBInstance"


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
    """``resources``: as `Stacks.resources` lists them."""

    def __init__(self, account: Account, resources: Sequence[dict[str, Any]]) -> None:
        self._account = account
        self.buckets = [
            Bucket(name, self._is_empty(name))
            for name in _ids(resources, _BUCKET)
            if self._bucket_exists(name)
        ]
        self.databases = [
            database for name in _ids(resources, _DATABASE) if (database := self._database(name))
        ]

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
        for bucket in self.buckets:
            if not self._bucket_exists(bucket.name):
                continue
            if consent.payloads or self._is_empty(bucket.name):
                self.empty(consent, reporter)
                s3.delete_bucket(Bucket=bucket.name)
                reporter.say(f"deleted the bucket {bucket.name}")
            else:
                stays.append(f"bucket {bucket.name}")
        for known in self.databases:
            database = self._database(known.identifier)
            if database is None:
                continue
            stays.append(f"database {database.identifier}")
        return stays

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


def _ids(resources: Sequence[dict[str, Any]], type_: str) -> list[str]:
    return [
        resource["PhysicalResourceId"]
        for resource in resources
        if resource["ResourceType"] == type_ and resource.get("PhysicalResourceId")
    ]
