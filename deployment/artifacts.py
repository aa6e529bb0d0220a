"""The bucket that code and templates go through: one per account and region, a prefix per stack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code
from deployment.errors import DeployError

_TEMPLATE_LIMIT_BYTES = 1_048_576  # of a template in S3: CloudFormation quotas
_DELETE_BATCH = 1_000  # DeleteObjects


class ArtifactBucket:
    def __init__(self, account: Account, stack: str) -> None:
        self._account = account
        self._prefix = f"{stack}/"
        identity = account.identity
        self.name = f"taskflow-artifacts-{identity.account}-{account.region}"

    def ensure(self) -> None:
        """Make it, or set it right: private, TLS only. Raises DeployError when its name is somebody else's."""
        if not self.exists():
            self._create()
        s3, owner = self._s3, self._account.identity.account
        s3.put_public_access_block(
            Bucket=self.name,
            ExpectedBucketOwner=owner,
            PublicAccessBlockConfiguration=dict.fromkeys(
                [
                    "BlockPublicAcls",
                    "IgnorePublicAcls",
                    "BlockPublicPolicy",
                    "RestrictPublicBuckets",
                ],
                True,
            ),
        )
        if s3.meta.endpoint_url.startswith("https:"):  # it would lock out an emulator's without TLS
            s3.put_bucket_policy(
                Bucket=self.name, ExpectedBucketOwner=owner, Policy=json.dumps(self._policy())
            )
        s3.put_bucket_lifecycle_configuration(
            Bucket=self.name,
            ExpectedBucketOwner=owner,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "parts-of-broken-uploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    }
                ]
            },
        )

    def exists(self) -> bool:
        try:
            self._s3.head_bucket(
                Bucket=self.name, ExpectedBucketOwner=self._account.identity.account
            )
        except ClientError as exc:
            match error_code(exc):
                case "404" | "NoSuchBucket":
                    return False
                case "403" | "AccessDenied" | "Forbidden":
                    raise DeployError(
                        f"The bucket {self.name} belongs to another account, or you may not use it.",
                        "Ask the account's administrator for s3:ListBucket, GetObject and PutObject on it; if it is "
                        "another account's, choose another --region.",
                        code="name_taken",
                    ) from exc
                case "301":
                    raise DeployError(
                        f"The bucket {self.name} is in another region.",
                        "Delete it there if it is empty, or choose its region.",
                        code="name_taken",
                    ) from exc
            raise
        return True

    def upload(self, path: Path, *, kind: str, sha256_hex: str) -> str:
        """Returns the key, which contains the content's hash: what is there already is not sent again."""
        key = self.key(path.suffix, kind=kind, sha256_hex=sha256_hex)
        if not self._has(key):
            self._put(key, path.read_bytes(), checksum=sha256_hex)
        return key

    def key(self, suffix: str, *, kind: str, sha256_hex: str) -> str:
        return f"{self._prefix}{kind}-{sha256_hex[:32]}{suffix}"

    def upload_template(self, content: bytes) -> str:
        """Returns the address that CloudFormation takes it from. Templates over 51,200 bytes can only come this way."""
        if len(content) > _TEMPLATE_LIMIT_BYTES:
            raise DeployError(
                f"The template has {len(content)} bytes; CloudFormation takes {_TEMPLATE_LIMIT_BYTES} at most.",
                "Make the stack smaller.",
                code="template_too_large",
            )
        digest = hashlib.sha256(content).hexdigest()
        key = self.key(".yaml", kind="template", sha256_hex=digest)
        if not self._has(key):
            self._put(key, content, checksum=digest)
        return self._url(key)

    def keys(self) -> list[str]:
        """Of this stack; none when there is no bucket."""
        if not self.exists():
            return []
        pages = self._account.pages("s3", "list_objects_v2", Bucket=self.name, Prefix=self._prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def clean(self) -> int:
        """Delete what is this stack's, and the bucket when that was all; how many objects it was."""
        keys = self.keys()
        delete_objects(self._s3, self.name, [{"Key": key} for key in keys])
        if keys and not self._s3.list_objects_v2(Bucket=self.name, MaxKeys=1).get("KeyCount"):
            try:
                self._s3.delete_bucket(Bucket=self.name)
            except ClientError as exc:
                if error_code(exc) not in {
                    "BucketNotEmpty",
                    "NoSuchBucket",
                }:  # another run was quicker
                    raise
        return len(keys)

    @property
    def _s3(self) -> Any:
        return self._account.client("s3")

    def _create(self) -> None:
        where = (
            {}
            if self._account.region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": self._account.region}}
        )
        try:
            self._s3.create_bucket(Bucket=self.name, **where)
        except ClientError as exc:
            if error_code(exc) != "BucketAlreadyOwnedByYou":  # another run was quicker
                raise

    def _has(self, key: str) -> bool:
        try:
            self._s3.head_object(Bucket=self.name, Key=key)
        except ClientError as exc:
            if error_code(exc) in {"404", "NoSuchKey"}:
                return False
            raise
        return True

    def _put(self, key: str, content: bytes, *, checksum: str) -> None:
        arguments = {
            "Bucket": self.name,
            "Key": key,
            "Body": content,
            "ChecksumSHA256": _base64_of_hex(checksum),
            "ServerSideEncryption": "AES256",
            "ExpectedBucketOwner": self._account.identity.account,
        }
        try:
            self._s3.put_object(**arguments)
        except ClientError as exc:
            if error_code(exc) != "NoSuchBucket":  # the end of another stage took it, being empty
                raise
            self.ensure()
            self._s3.put_object(**arguments)

    def _url(self, key: str) -> str:
        endpoint = self._s3.meta.endpoint_url
        if "amazonaws.com" not in endpoint:
            return f"{endpoint}/{self.name}/{key}"
        suffix = (
            "amazonaws.com.cn" if self._account.identity.partition == "aws-cn" else "amazonaws.com"
        )
        return f"https://{self.name}.s3.{self._account.region}.{suffix}/{key}"

    def _policy(self) -> dict[str, Any]:
        arn = f"arn:{self._account.identity.partition}:s3:::{self.name}"
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "TlsOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [arn, f"{arn}/*"],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            ],
        }


def delete_objects(s3: Any, bucket: str, objects: Sequence[dict[str, str]]) -> None:
    """``Key`` and perhaps ``VersionId`` of each. Raises DeployError naming one that could not be deleted."""
    for start in range(0, len(objects), _DELETE_BATCH):
        batch = list(objects[start : start + _DELETE_BATCH])
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        for error in answer.get("Errors", []):
            raise DeployError(
                f"{bucket}/{error.get('Key')} could not be deleted: {error.get('Message')}",
                "Mend what the reason says, then run the same command again.",
                code="object_not_deleted",
            )


def _base64_of_hex(text: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(text)).decode()
