"""The payload store, and what has to be there for it."""

from __future__ import annotations

from typing import assert_never

from taskflow.core.errors import ConfigurationError
from taskflow.ports.payloads import PayloadStore
from taskflow.settings import Settings


def build_payload_store(settings: Settings) -> PayloadStore:
    match settings.resolved_payload_backend:
        case "files":
            from taskflow.adapters.payloads.files import FilePayloads

            return FilePayloads(settings.home / "payloads")
        case "s3":
            from taskflow.adapters.payloads.s3 import S3Payloads
            from taskflow.adapters.payloads.s3_client import s3_client

            public = settings.s3_public_endpoint_url
            return S3Payloads(
                # Beside its own threads, those that carry a single object: slots, the finisher, requests.
                s3_client(
                    region=settings.aws_region,
                    connections=2 * settings.s3_max_transfers + settings.num_workers,
                ),
                # It sends nothing.
                signer=s3_client(region=settings.aws_region, connections=1, endpoint_url=public)
                if public
                else None,
                max_transfers=settings.s3_max_transfers,
                bucket=_checked_bucket(settings),
                prefix=settings.s3_prefix,
                encryption=settings.s3_encryption,
                kms_key=settings.s3_kms_key or None,
            )
        case never:
            assert_never(never)


def provision_bucket(settings: Settings) -> bool:
    """Make the bucket with its encryption, public access block and lifecycle, or set these right. Whether it is new.

    Raises ConfigurationError, StoreUnavailableError.
    """
    from taskflow.adapters.payloads.s3_bucket import provision
    from taskflow.adapters.payloads.s3_client import s3_client

    bucket = _checked_bucket(settings)
    client = s3_client(region=settings.aws_region, connections=1)
    try:
        return provision(
            client,
            bucket=bucket,
            prefix=settings.s3_prefix,
            region=settings.aws_region,
            encryption=settings.s3_encryption,
            kms_key=settings.s3_kms_key,
        )
    finally:
        client.close()


def _checked_bucket(settings: Settings) -> str:
    if not settings.s3_bucket:
        raise ConfigurationError(
            "TASKFLOW_S3_BUCKET is not set; payloads in S3 (TASKFLOW_PAYLOAD_BACKEND, TASKFLOW_BACKEND) need a bucket"
        )
    if settings.s3_kms_key and settings.s3_encryption != "aws:kms":
        raise ConfigurationError(
            "TASKFLOW_S3_KMS_KEY is set, but TASKFLOW_S3_ENCRYPTION is not aws:kms: nothing would use the key"
        )
    return settings.s3_bucket
