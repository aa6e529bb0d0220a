"""What the balancer itself answers: codes, statuses, and `application/problem+json` (RFC 9457) like the API's."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from taskflow.core.errors import TaskFlowError

# Code → status and title. Codes are stable: programs, logs and metrics use them.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "The request is not valid HTTP"),
    "unauthorized": (401, "The admin token is needed"),
    "forbidden": (403, "This is switched off"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "This method is not offered here"),
    "request_timeout": (408, "The request did not arrive in time"),
    "payload_too_large": (413, "The body is too large"),
    "target_too_long": (414, "The target is too long"),
    "expectation_failed": (417, "This expectation cannot be met"),
    "invalid_request": (422, "The request is not valid"),
    "headers_too_large": (431, "The headers are too large"),
    "not_implemented": (501, "This is not offered"),
    "instance_answer_invalid": (502, "The instance's answer is not valid HTTP"),
    "instance_lost": (502, "The instance went away"),
    "no_instance": (503, "No instance is available"),
    "instances_busy": (503, "All instances are busy"),
    "too_many_connections": (503, "Too many connections"),
    "instance_timeout": (504, "The instance did not answer in time"),
    "version_not_supported": (505, "This version of HTTP is not spoken here"),
}
_REASONS = {
    200: b"OK",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    422: b"Unprocessable Content",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
MEDIA_TYPE = b"application/problem+json"


class RefusedError(TaskFlowError):
    """The balancer answers this itself. ``code`` is one of `PROBLEMS`, ``detail`` a sentence for people."""

    def __init__(self, code: str, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.code = code  # type: ignore[misc] # of the instance: one class for all of the table

    @property
    def status(self) -> int:
        return PROBLEMS[self.code][0]


def problem_body(error: RefusedError, *, path: str, request_id: str) -> bytes:
    status, title = PROBLEMS[error.code]
    return orjson.dumps(
        {
            "type": f"urn:taskflow:problem:{error.code}",
            "title": title,
            "status": status,
            "detail": error.detail,
            "code": error.code,
            "errors": [],
            "instance": path,
            "request_id": request_id,
        }
    )


def answer(
    status: int,
    body: bytes,
    *,
    content_type: bytes,
    headers: bytes = b"",
    close: bool,
    with_body: bool = True,
) -> bytes:
    """A whole response of the balancer's own. ``headers`` are whole lines."""
    return b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s%s\r\n%s" % (
        status,
        _REASONS[status],
        content_type,
        len(body),
        headers,
        b"Connection: close\r\n" if close else b"",
        body if with_body else b"",
    )
