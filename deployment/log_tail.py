"""What the processes of a stack have logged, newest last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code
from deployment.errors import UsageError

SERVICES = ("api", "worker", "long-worker", "maintenance", "dead-letters", "migrate")
_PAUSE_SECONDS = 2.0
_OVERLAP_MS = 30_000  # streams come late: what is up to so much older than the newest line is looked for again


@dataclass(frozen=True)
class Line:
    at: datetime
    text: str


class LogTail:
    def __init__(
        self,
        account: Account,
        stack: str,
        service: str,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._account = account
        self._group = f"/taskflow/{stack}/{service}"
        self._pause = pause

    def lines(self, *, since: datetime, following: bool) -> Iterator[Line]:
        """Oldest first, but for those that come late; with ``following`` also those to come, until nobody asks any
        more. Raises UsageError when the stack has no such process."""
        start_ms, seen = _ms(since), dict[str, int]()
        while True:
            newest_ms = start_ms
            for event in self._events(start_ms):
                at_ms = event["timestamp"]
                newest_ms = max(newest_ms, at_ms)
                if event["eventId"] not in seen:
                    seen[event["eventId"]] = at_ms
                    moment = datetime.fromtimestamp(at_ms / 1_000, UTC)
                    yield Line(moment, event["message"].rstrip("\n"))
            if not following:
                return
            start_ms = max(start_ms, newest_ms - _OVERLAP_MS)
            seen = {event_id: at_ms for event_id, at_ms in seen.items() if at_ms >= start_ms}
            self._pause(_PAUSE_SECONDS)

    def _events(self, start_ms: int) -> Iterator[dict[str, Any]]:
        pages = self._account.pages(
            "logs", "filter_log_events", logGroupName=self._group, startTime=start_ms
        )
        try:
            for page in pages:
                yield from page["events"]
        except ClientError as exc:
            if error_code(exc) == "ResourceNotFoundException":
                raise UsageError(
                    f"There is no log group {self._group}.",
                    f"`deploy.py status` says whether the stack is there; its processes: {', '.join(SERVICES)}.",
                ) from exc
            raise


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)
