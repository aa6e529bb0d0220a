"""What AWS and boto3 answer when something is wrong, as one sentence and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from deployment.errors import DeployError

_CREDENTIALS = (
    "Log in (`aws sso login`, or `aws configure`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` shows who you are."
)
_AGAIN = "Run the same command again: it goes on where it stopped."
_QUOTA = (
    "Look at Service Quotas in the AWS console: ask for more there, or delete what is not used any more; "
    "then run the same command again."
)


@dataclass(frozen=True)
class _Kind:
    """``message`` may use {operation}, {service} and {said}: what AWS wrote."""

    code: str
    message: str
    next_step: str


_NO_CREDENTIALS = _Kind("no_credentials", "There are no AWS credentials here.", _CREDENTIALS)
_EXPIRED = _Kind("credentials_expired", "The AWS credentials have expired.", _CREDENTIALS)
_WRONG_CREDENTIALS = _Kind(
    "credentials_refused", "AWS does not know these credentials ({said}).", _CREDENTIALS
)
_CLOCK = _Kind(
    "clock_skew",
    "AWS refused the signature ({said}).",
    "Check this machine's clock and the secret key.",
)
_DENIED = _Kind(
    "denied",
    "AWS denied {service} {operation}: {said}",
    "Ask the account's administrator for this permission, or use another role (AWS_PROFILE); then run the same "
    "command again.",
)
_THROTTLED = _Kind(
    "throttled",
    "AWS is throttling {service} {operation}, also after many repetitions.",
    f"Wait a minute. {_AGAIN}",
)
_QUOTA_REACHED = _Kind(
    "quota", "A quota of the account is reached ({service} {operation}: {said}).", _QUOTA
)
_NAME_TAKEN = _Kind(
    "name_taken",
    "A name is taken ({service} {operation}: {said}).",
    "Choose another --stage, or delete what has this name; then run the same command again.",
)
_NOT_ENABLED = _Kind(
    "not_enabled",
    "The account cannot use {service} in this region ({said}).",
    "Enable the region (AWS console, Account), or choose another --region.",
)
_UNAVAILABLE = _Kind(
    "aws_unavailable",
    "AWS could not answer {service} {operation} ({said}).",
    f"Look at the AWS Health Dashboard if this goes on. {_AGAIN}",
)
_OTHER = _Kind(
    "aws_error",
    "AWS refused {service} {operation}: {said}",
    "If the reason can be mended, mend it and run the same command again.",
)

_BY_CODE = {
    **dict.fromkeys(
        ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"],
        _EXPIRED,
    ),
    **dict.fromkeys(
        [
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidAccessKeyId",
            "AuthFailure",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "IncompleteSignature",
        ],
        _WRONG_CREDENTIALS,
    ),
    **dict.fromkeys(
        ["SignatureDoesNotMatch", "InvalidSignatureException", "RequestTimeTooSkewed"], _CLOCK
    ),
    **dict.fromkeys(
        [
            "AccessDenied",
            "AccessDeniedException",
            "UnauthorizedOperation",
            "NotAuthorized",
            "AuthorizationError",
            "AuthorizationErrorException",
            "Forbidden",
            "403",
        ],
        _DENIED,
    ),
    **dict.fromkeys(
        [
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "SlowDown",
            "PriorRequestNotComplete",
        ],
        _THROTTLED,
    ),
    **dict.fromkeys(
        [
            "LimitExceeded",
            "LimitExceededException",
            "ServiceQuotaExceededException",
            "TooManyBuckets",
            "CodeStorageExceededException",
            "ResourceLimitExceeded",
        ],
        _QUOTA_REACHED,
    ),
    **dict.fromkeys(
        [
            "AlreadyExistsException",
            "BucketAlreadyExists",
            "EntityAlreadyExists",
            "ResourceAlreadyExistsException",
            "RepositoryAlreadyExistsException",
        ],
        _NAME_TAKEN,
    ),
    **dict.fromkeys(
        ["OptInRequired", "SubscriptionRequiredException", "InvalidRegion"], _NOT_ENABLED
    ),
    **dict.fromkeys(
        [
            "InternalFailure",
            "InternalError",
            "InternalServerError",
            "ServiceUnavailable",
            "ServiceException",
            "503",
            "500",
        ],
        _UNAVAILABLE,
    ),
}

_QUOTA_WORDS = re.compile(r"limit|quota|maximum number|too many|exceed", re.IGNORECASE)


def explained(exc: ClientError | BotoCoreError) -> DeployError:
    """Never the exception's own traceback: what happened to whom, and what to do."""
    if isinstance(exc, ClientError):
        return _of_answer(exc)
    return _of_client(exc)


def error_code(exc: ClientError) -> str:
    code: str = exc.response.get("Error", {}).get("Code", "")
    return code


def error_message(exc: ClientError) -> str:
    message: str = exc.response.get("Error", {}).get("Message", "")
    return message


def _of_answer(exc: ClientError) -> DeployError:
    code, said = error_code(exc), " ".join(error_message(exc).split())
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _BY_CODE.get(code)
    if kind is None and code == "ValidationError" and _QUOTA_WORDS.search(said):
        kind = _QUOTA_REACHED
    if kind is None:
        kind = _UNAVAILABLE if status >= 500 else _OTHER
    return _made(kind, exc.operation_name, _service_of(exc), said or code or f"HTTP {status}")


def _service_of(exc: ClientError) -> str:
    """A ClientError knows its operation, not its service; the operations used here are of one service each."""
    operation = exc.operation_name
    for service, words in _SERVICES.items():
        if any(word in operation for word in words):
            return service
    return "AWS"


# In the order in which they are looked at.
_SERVICES = {
    "ACM": ("Certificate",),
    "CloudFormation": ("Stack", "ChangeSet", "Template", "TerminationProtection"),
    "Lambda": ("Function", "Invoke"),
    "ECR": ("Repository", "Repositories", "AuthorizationToken", "Image"),
    "RDS": ("DBInstance", "DBCluster", "DBSnapshot"),
    "STS": ("CallerIdentity", "AssumeRole"),
    "Route 53": ("HostedZone",),
    "CloudWatch": ("Alarm",),
    "CloudWatch Logs": ("Log", "Query"),
    "SQS": ("Queue",),
    "S3": ("Bucket", "Object", "Upload", "PublicAccessBlock"),
}


def _of_client(exc: BotoCoreError) -> DeployError:
    said = " ".join(str(exc).split())
    match exc:
        case boto.NoCredentialsError() | boto.PartialCredentialsError():
            kind = _NO_CREDENTIALS
        case boto.ProfileNotFound():
            kind = _Kind(
                "no_credentials",
                f"{said}.",
                "Set AWS_PROFILE to one of `aws configure list-profiles`.",
            )
        case (
            boto.UnauthorizedSSOTokenError()
            | boto.SSOTokenLoadError()
            | boto.TokenRetrievalError()
            | boto.CredentialRetrievalError()
            | boto.RefreshWithMFAUnsupportedError()
        ):
            kind = _Kind(
                "credentials_expired", f"There is no valid AWS login ({said}).", _CREDENTIALS
            )
        case boto.NoRegionError() | boto.InvalidRegionError():
            kind = _Kind(
                "no_region", "No valid AWS region is chosen.", "Add --region, or set AWS_REGION."
            )
        case boto.SSLError():
            kind = _Kind(
                "tls",
                f"The connection to AWS is not trusted ({said}).",
                "Behind a company proxy, set AWS_CA_BUNDLE to its certificate.",
            )
        case (
            boto.EndpointConnectionError()
            | boto.ConnectTimeoutError()
            | boto.ReadTimeoutError()
            | boto.ConnectionClosedError()
            | boto.ConnectionError()
            | boto.HTTPClientError()
        ):
            kind = _Kind(
                "no_connection",
                f"AWS cannot be reached ({said}).",
                f"Check network, proxy and --region. {_AGAIN}",
            )
        case boto.ParamValidationError():
            kind = _Kind("usage", f"That cannot be sent to AWS: {said}", "Correct it.")
        case _:
            kind = _Kind("aws_error", f"The AWS library gave up: {said}", _AGAIN)
    return DeployError(kind.message, kind.next_step, code=kind.code)


def _made(kind: _Kind, operation: str, service: str, said: str) -> DeployError:
    # What AWS wrote may contain braces: it is put in last.
    message = kind.message.replace("{operation}", operation).replace("{service}", service)
    return DeployError(message.replace("{said}", said), kind.next_step, code=kind.code)
