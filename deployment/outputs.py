"""Which outputs of the stack go into `.env`, under which names."""

from __future__ import annotations

from collections.abc import Mapping

# Variable → output of the template. Secrets are there as ARNs only.
VARIABLES = {
    "TASKFLOW_URL": "ApiUrl",
    "TASKFLOW_QUEUE_PREFIX": "QueuePrefix",
    "TASKFLOW_S3_BUCKET": "PayloadBucket",
    "TASKFLOW_DATABASE_URL": "DatabaseUrl",  # without login: RDS's own secret has nothing but that
    "TASKFLOW_DATABASE_SECRET_ARN": "DatabaseSecretArn",
    "AWS_REGION": "Region",
}
_FIXED = {"TASKFLOW_BACKEND": "aws"}


def variables(outputs: Mapping[str, str]) -> dict[str, str | None]:
    """For `env_file.write`; None: the stack does not have it, so the file must not."""
    return {**_FIXED, **{name: outputs.get(output) for name, output in VARIABLES.items()}}


def forgotten(
    written: Mapping[str, str], *, stack: str, region: str, account: str
) -> dict[str, str | None]:
    """What to take out of a file once the stack is gone: nothing of another stack, region or account.

    ``written``: what the file says now.
    """
    secret = written.get("TASKFLOW_DATABASE_SECRET_ARN", "").split(":")
    if (
        written.get("TASKFLOW_QUEUE_PREFIX") != stack
        or written.get("AWS_REGION") != region
        or account not in (secret[4:5] or [account])
    ):
        return {}
    return {name: None for name in (*_FIXED, *VARIABLES) if name in written}
