"""What an exception says of the HTTP answer it is about, wherever its library keeps that.

- httpx, requests: ``exc.response`` with ``status_code`` and ``headers``
- urllib: ``exc.code`` and ``exc.headers``
- botocore: ``exc.response["ResponseMetadata"]`` with ``HTTPStatusCode`` and ``HTTPHeaders``, and an error code
- anything else: attributes ``status_code`` or ``code``; ``retry_after_seconds`` or ``retry_after``

Nothing here raises: attributes of an exception may be code of its author's, and one that cannot be read says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

# AWS reports these with status 400 as often as with another. Source: botocore/retries/standard.py.
_TOO_MANY_REQUESTS = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "LimitExceededException", "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException",
    "SlowDown", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException",
    "TransactionInProgressException",
})  # fmt: skip
_REQUEST_TIMEOUT = frozenset({"RequestTimeout", "RequestTimeoutException"})


def http_status(exc: BaseException) -> int | None:
    """Its status; of an error of AWS's the one that HTTP has for its code (429 when throttled)."""
    response = _attribute(exc, "response")
    code = _item(_item(response, "Error"), "Code")
    if isinstance(code, str):
        if code in _TOO_MANY_REQUESTS:
            return 429
        if code in _REQUEST_TIMEOUT:
            return 408
    candidates = [
        _attribute(holder, name) for holder in (exc, response) for name in ("status_code", "code")
    ]
    candidates.append(_item(_item(response, "ResponseMetadata"), "HTTPStatusCode"))
    for value in candidates:
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)
    return None


def retry_after_seconds(exc: BaseException) -> float | None:
    """For how long a failing HTTP server asked for patience."""
    for name in ("retry_after_seconds", "retry_after"):
        if (seconds := _number(_attribute(exc, name))) is not None:
            return seconds
    return next(
        (s for headers in _all_headers(exc) if (s := retry_after_of(headers)) is not None), None
    )


def retry_after_of(headers: Any) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110 §10.2.3): a number, or a moment, which is counted from the answer's
    own ``Date``: no clock of ours."""
    asked = _header(headers, "Retry-After")
    if (seconds := _number(asked)) is not None:
        return seconds
    until, now = _moment(asked), _moment(_header(headers, "Date"))
    return None if until is None or now is None else max(0.0, until - now)


def _all_headers(exc: BaseException) -> Iterator[Any]:
    response = _attribute(exc, "response")
    yield _attribute(response, "headers")
    yield _attribute(exc, "headers")
    yield _item(_item(response, "ResponseMetadata"), "HTTPHeaders")


def _header(headers: Any, name: str) -> Any:
    """Headers of most libraries look a name up in any case, plain dictionaries do not; botocore's are in lower case."""
    try:
        found = headers.get(name)
        return headers.get(name.lower()) if found is None else found
    except Exception:  # noqa: BLE001 - of whatever class it is
        return None


def _attribute(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a property may raise anything
        return None


def _item(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else None


def _number(value: Any) -> float | None:
    try:
        seconds = float(value)
    except Exception:  # noqa: BLE001 - of whatever class it is
        return None
    return seconds if 0 <= seconds < math.inf else None


def _moment(value: Any) -> float | None:
    """Unix seconds of an HTTP date (RFC 9110 §5.6.7)."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, AttributeError):
        return None
