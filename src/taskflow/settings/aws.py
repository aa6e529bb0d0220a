"""SQS and S3."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, Field


def _stays_in_addresses(value: str) -> str:
    if {".", ".."} & set(value.split("/")):
        raise ValueError(
            "must have no . or .. between slashes: in presigned URLs they mean something else"
        )
    return value


class Aws:
    """What TaskFlow asks of AWS's services. AWS's own variables say where they are, and who asks."""

    # SQS and S3 (region, credentials and endpoint: AWS's own variables)
    queue_prefix: str = Field(
        "taskflow-dev",
        pattern=r"^[A-Za-z0-9_-]{1,66}$",
        description="Queues are called prefix-priority, their dead letters prefix-priority-dead",
    )
    queue_poll_seconds: int = Field(
        20,
        ge=1,
        le=20,
        description="How long SQS holds a request for messages while there are none; a process that stops waits for it",
    )
    queue_send_seconds: float = Field(
        1.0,
        gt=0,
        description="How long a submission or an outcome waits for SQS; sending goes on without it then",
    )
    queue_max_sends: int = Field(
        12,
        ge=1,
        le=1_000,
        description="Most sends of a process at once, each with a thread and a connection; more go through the outbox",
    )
    queue_resend_seconds: float = Field(
        259_200.0,
        ge=60,
        le=302_400,
        description="A task that has waited for this long gets a new message: SQS forgets one after 4 days",
    )
    queue_url_critical: str = Field("", description="Full URL instead of the name; so the next")
    queue_url_high: str = Field("", description="Full URL instead of the name")
    queue_url_normal: str = Field("", description="Full URL instead of the name")
    queue_url_low: str = Field("", description="Full URL instead of the name")
    long_task_seconds: float = Field(
        0.0,
        ge=0,
        description="Tasks with a longer timeout go to queues of their own, prefix-long-priority; 0: none do. SQS only",
    )
    s3_bucket: str = Field("", description="Bucket of payloads, results and artifacts")
    s3_prefix: Annotated[str, AfterValidator(_stays_in_addresses)] = Field(
        "", description="Before every key, e.g. taskflow/"
    )
    s3_encryption: Literal["AES256", "aws:kms"] = Field(
        "AES256", description="Server-side encryption of objects"
    )
    s3_kms_key: str = Field("", description="Key for aws:kms; empty: the account's default key")
    s3_public_endpoint_url: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+\S*)?$",
        description="Where clients reach S3, if not where the server does: a result_url is signed for this address. "
        "For emulators",
    )
    s3_max_transfers: int = Field(
        8,
        ge=1,
        le=1_000,
        description="Most objects that a process reads or writes at once for batches, each with a thread",
    )
    result_url_seconds: float = Field(
        900.0, ge=1, le=604_800, description="How long a presigned result_url works"
    )

    @property
    def aws_region(self) -> str | None:
        """AWS's own variables; boto3 by itself knows only the second, Lambda and ECS set the first."""
        return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None

    @property
    def ecs_agent_uri(self) -> str:
        """Amazon ECS's own variable, in each of its containers."""
        return os.environ.get("ECS_AGENT_URI", "")
