"""Makes the bucket as payloads need it: encrypted, never public, old objects in a cheaper class."""

from __future__ import annotations

from typing import Any

from taskflow.adapters.payloads.s3_client import talking_to
from taskflow.core.errors import StoreUnavailableError

# Glacier Instant Retrieval: as cheap to keep as an archive, read at once like any other object. A result that had
# to be restored for hours first would be lost to whoever asks for it.
ARCHIVE_CLASS = "GLACIER_IR"
ARCHIVE_DAYS = 90
_UNFINISHED_DAYS = 1


def provision(
    client: Any, *, bucket: str, prefix: str, region: str | None, encryption: str, kms_key: str
) -> bool:
    """Idempotent. Whether the bucket is new. Raises StoreUnavailableError; also for a bucket of somebody else."""
    with talking_to(bucket, "make it"):
        is_new = _create(client, bucket, region)
        default = {"SSEAlgorithm": encryption}
        if encryption == "aws:kms" and kms_key:
            default["KMSMasterKeyID"] = kms_key
        client.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
            },
        )
        client.put_public_access_block(
            Bucket=bucket,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "taskflow-archive",
                        "Status": "Enabled",
                        "Filter": {"Prefix": f"{prefix.strip('/')}/" if prefix.strip("/") else ""},
                        "Transitions": [{"Days": ARCHIVE_DAYS, "StorageClass": ARCHIVE_CLASS}],
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_DAYS},
                    }
                ]
            },
        )
    return is_new


def _create(client: Any, bucket: str, region: str | None) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as exc:
        status = exc.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 403:
            raise _foreign(bucket) from exc
        if status != 404:
            raise
    else:
        return False
    # us-east-1 is the one region that must not be named.
    elsewhere = region not in (None, "", "us-east-1")
    where = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
    try:
        client.create_bucket(Bucket=bucket, **where)
    except client.exceptions.BucketAlreadyOwnedByYou:
        return False  # made by somebody else of ours in the meantime
    except client.exceptions.BucketAlreadyExists as exc:
        raise _foreign(bucket) from exc
    return True


def _foreign(bucket: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"S3 bucket {bucket!r} is there, and is somebody else's, or these credentials may not look at it "
        "(s3:ListBucket); the names of buckets are the whole world's: choose another (TASKFLOW_S3_BUCKET)"
    )
