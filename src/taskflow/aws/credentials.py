"""What botocore raises when it has no credentials to sign a request with."""

from __future__ import annotations

from botocore import exceptions as boto

_NONE = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.UnauthorizedSSOTokenError,
)


def lack(exc: Exception) -> str | None:
    """What to say if ``exc`` is about them. For those that have expired by the time they are fetched botocore has no
    error of its own: it raises RuntimeError."""
    if isinstance(exc, _NONE):
        return f"there are no AWS credentials to use ({exc})"
    if isinstance(exc, RuntimeError) and "expired" in str(exc):
        return f"the AWS credentials have expired ({exc})"
    return None
