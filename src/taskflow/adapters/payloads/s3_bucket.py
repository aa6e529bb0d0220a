"""Makes the bucket as payloads need it: encrypted, never public, old objects in a cheaper class."""

from __future__ import annotations

from typing import Any

from taskflow.adapters.payloads.s3_client import talking_to

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
        if exc.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
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
    return True
