"""What SQS and the way to it have to complain about, by a reason that logs and metrics can count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from botocore import exceptions as boto

from taskflow.aws import credentials
from taskflow.core.errors import TaskFlowError


class UndecodableMessageError(TaskFlowError):
    """A message in the queue is not one of TaskFlow's, or of a newer one. It goes to the dead-letter queue."""

    code = "undecodable_message"


class NotSQSError(boto.BotoCoreError):  # type: ignore[misc]
    """An answer without what SQS always says: of a proxy, or a login page. botocore takes any that has status 200."""

    fmt = "the answer is not one of SQS's: is this SQS? (AWS_ENDPOINT_URL, a proxy)"


# What a call may raise: RuntimeError for credentials that have expired by the time they are fetched, UnicodeDecodeError
# for a page in another encoding.
CALL_ERRORS = (boto.BotoCoreError, boto.ClientError, RuntimeError, UnicodeDecodeError)


class Complaint(NamedTuple):
    """Why a call failed: a stable ``reason``, and what a person needs to know to mend it."""

    reason: str
    text: str


# By error code; the names differ between SQS's older (query) and newer (JSON) protocol, and botocore passes on either.
_REASONS = {
    "queue_missing": ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
    "stale_receipt": (
        "ReceiptHandleIsInvalid",
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    ),
    "throttled": (
        "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
        "RequestThrottledException", "TooManyRequestsException", "SlowDown", "RequestLimitExceeded",
        "KmsThrottled", "KMS.ThrottlingException",
    ),
    "in_flight_limit": ("OverLimit",),
    "credentials": (
        "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
        "InvalidToken", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException",
        "UnrecognizedClientException", "MissingAuthenticationToken", "NotAuthorized",
        "IncompleteSignature", "InvalidSecurity",
    ),
    "access_denied": (
        "AccessDenied", "AccessDeniedException", "AuthFailure", "OptInRequired",
        "KmsAccessDenied", "KMS.AccessDeniedException", "KmsDisabled", "KMS.DisabledException",
        "KmsInvalidState", "KMS.InvalidStateException", "KmsNotFound", "KMS.NotFoundException",
        "KmsOptInRequired", "KMS.OptInRequired", "KmsInvalidKeyUsage",
        "KMS.InvalidKeyUsageException",
    ),
}  # fmt: skip
_REASON_OF = {code: reason for reason, codes in _REASONS.items() for code in codes}
_ADVICE = {
    "queue_missing": "the queue does not exist: `taskflow provision` makes it on an emulator, deploy.py on AWS; "
    "or TASKFLOW_QUEUE_PREFIX or the region is another",
    "throttled": "SQS asks to slow down",
    "in_flight_limit": "too many of its messages are in flight",
    "credentials": "AWS does not take the credentials",
    "access_denied": "access is denied; needed are sqs:SendMessage, ReceiveMessage, DeleteMessage, "
    "ChangeMessageVisibility, GetQueueUrl, GetQueueAttributes, and the use of its KMS key",
}


def complaint(exc: Exception) -> Complaint:
    """Of one of `CALL_ERRORS`."""
    if isinstance(exc, boto.ClientError):
        error = exc.response.get("Error", {})
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return refusal(str(error.get("Code", "")), str(error.get("Message", "")), status=status)
    if (lack := credentials.lack(exc)) is not None:
        return Complaint("credentials", lack)
    if isinstance(exc, UnicodeDecodeError):
        return Complaint("failed", NotSQSError.fmt)
    if isinstance(exc, boto.HTTPClientError | boto.ConnectionError):
        return Complaint("unreachable", f"SQS does not answer ({exc})")
    return Complaint("failed", f"{type(exc).__name__}: {exc}")


def field(answer: Mapping[str, Any], name: str) -> Any:
    """What every answer of SQS to such a call has. Raises NotSQSError, which is one of botocore's."""
    try:
        return answer[name]
    except KeyError:
        raise NotSQSError from None


def refusal(code: str, message: str, *, status: int = 0) -> Complaint:
    """For an error code that SQS answered with, for a call or for one entry of it."""
    said = f"{code}: {message}".rstrip(": ")
    reason = _REASON_OF.get(code)
    if reason is None and code == "InvalidParameterValue" and _STALE in message:
        # So AWS refuses to change the visibility of a message that was deleted, or received by another worker since.
        reason = "stale_receipt"
    if reason is None:
        reason = "unavailable" if status >= 500 or code in _UNAVAILABLE else "refused"
    advice = _ADVICE.get(reason)
    return Complaint(reason, f"{advice} ({said})" if advice else said)


_STALE = "for parameter ReceiptHandle is invalid"  # for one of several reasons
_UNAVAILABLE = frozenset(
    {"InternalError", "InternalFailure", "ServiceUnavailable", "500", "502", "503", "504"}
)


def is_stale(entry: dict[str, Any]) -> bool:
    """Whether an entry of ``Failed`` says that its receipt is not valid any more."""
    return refusal(str(entry.get("Code")), str(entry.get("Message", ""))).reason == "stale_receipt"
