"""The S3 client, and what S3 and the way to it have to complain about, in TaskFlow's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskflow.aws import require_boto3, session
from taskflow.core.errors import ConfigurationError, StoreUnavailableError

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0  # between two pieces of an answer, not for all of it
_ATTEMPTS = 3
_THROTTLED_SECONDS = 1.0

_NO_BUCKET = frozenset({"NoSuchBucket"})
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"})
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_THROTTLED = frozenset(
    {
        "503",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)


def s3_client(*, region: str | None, connections: int, endpoint_url: str | None = None) -> Any:
    """A thread-safe client of botocore with ``connections`` of its own, to ``endpoint_url`` or where AWS's variables
    say. Close it.

    Raises ConfigurationError when boto3 is not installed or cannot be configured.
    """
    require_boto3("TASKFLOW_PAYLOAD_BACKEND=s3")
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    options: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        "max_pool_connections": connections,
        "signature_version": "s3v4",  # presigned URLs too: the older signature ends where KMS begins
    }
    try:
        aws = session(region)
        client = aws.create_client("s3", endpoint_url=endpoint_url, config=Config(**options))
        if not client.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            # An emulator: bucket.localhost is no address everywhere.
            client.close()
            by_path = Config(**options, s3={"addressing_style": "path"})
            client = aws.create_client("s3", endpoint_url=endpoint_url, config=by_path)
    except (BotoCoreError, ValueError) as exc:
        raise ConfigurationError(f"S3 cannot be used as AWS's variables are set: {exc}") from exc
    return client


@contextmanager
def talking_to(bucket: str, what: str) -> Iterator[None]:
    """Raises StoreUnavailableError, which names the bucket and ``what`` was tried, for an error of botocore."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as exc:
        error = exc.response.get("Error", {})
        raise refused(
            bucket, what, str(error.get("Code", "")), str(error.get("Message", ""))
        ) from exc
    except (BotoCoreError, RuntimeError) as exc:  # see `taskflow.aws.credentials`
        raise unreachable(bucket, what, exc) from exc


def refused(bucket: str, what: str, code: str, message: str) -> StoreUnavailableError:
    """For an error code that S3 answered with."""
    where = f"payloads in S3 bucket {bucket!r}: cannot {what}"
    said = f"{code}: {message}".rstrip(": ")
    if code == "InvalidBucketName":
        return _no_name(where)
    if code in _NO_BUCKET:
        return StoreUnavailableError(
            f"{where}, the bucket does not exist (TASKFLOW_S3_BUCKET); `taskflow provision` makes it on an emulator, "
            "deploy.py on AWS"
        )
    if code in _CREDENTIALS:
        return StoreUnavailableError(f"{where}, AWS does not take the credentials ({said})")
    if code in _DENIED:
        return StoreUnavailableError(
            f"{where}, access is denied ({said}); needed are s3:GetObject, s3:PutObject and s3:DeleteObject on its "
            "objects, s3:ListBucket on the bucket, and the use of its KMS key"
        )
    if code in _THROTTLED:
        return StoreUnavailableError(
            f"{where}, S3 asks to slow down ({said})", retry_after_seconds=_THROTTLED_SECONDS
        )
    if code == "InvalidObjectState":
        return StoreUnavailableError(f"{where}, it is archived and must be restored first ({said})")
    if code.startswith("KMS."):
        return StoreUnavailableError(f"{where}, its KMS key cannot be used ({said})")
    return StoreUnavailableError(f"{where} ({said})")


def unreachable(bucket: str, what: str, exc: Exception) -> StoreUnavailableError:
    """For an error on the way to S3."""
    from botocore import exceptions as boto

    from taskflow.aws import credentials

    where = f"payloads in S3 bucket {bucket!r}: cannot {what}"
    if (lack := credentials.lack(exc)) is not None:
        return StoreUnavailableError(f"{where}, {lack}")
    # Keys have been checked: see `adapters.payloads.keys`.
    if isinstance(exc, boto.ParamValidationError):
        return _no_name(where)
    return StoreUnavailableError(f"{where}, S3 does not answer ({exc})")


def _no_name(where: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{where}, no bucket can have this name (TASKFLOW_S3_BUCKET)")
