"""A read replica for what may lag: while it does not answer, the primary does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from taskflow.adapters.metadata.postgresql import PostgresqlConnections
from taskflow.adapters.metadata.vendor_errors import first_line, from_psycopg, sqlstate
from taskflow.logs import get_logger

log = get_logger(__name__)

_REST_SECONDS = 30.0  # nobody waits for a replica that is down more often than this
# PostgreSQL's appendix A. No SQLSTATE: libpq lost the connection, or never had one.
_CANNOT_ANSWER = (
    "08",  # connection exceptions
    "40",  # cancelled, because it was in the way of what the replica had to catch up with
    "57P",  # shut down, crashed, not yet up, database dropped
    "42P01", "42703",  # no such table or column: a migration has not arrived yet
)  # fmt: skip

T = TypeVar("T")


class Replica:
    """Thread safe."""

    def __init__(self, connections: PostgresqlConnections) -> None:
        self._connections = connections
        self._silent_since: float | None = None
        self._ask_again_at = 0.0

    def ask(self, question: Callable[[sa.Connection], T], otherwise: Callable[[], T]) -> T:
        """``question`` on the replica; ``otherwise`` when it cannot answer: down, too far behind, or cancelled because
        it had to catch up. Everything else is raised: what took too long or waited for a free connection there would
        do so on the primary, too, beside the work that only the primary can do."""
        now = time.monotonic()
        if now < self._ask_again_at:
            return otherwise()
        try:
            with self._connections.read() as connection:
                answer = question(connection)
        except Exception as exc:
            if not _cannot_answer(exc):
                raise
            self._rest(now, exc)
            return otherwise()
        if self._silent_since is not None:
            log.info("replica.back", after_seconds=round(now - self._silent_since, 1))
            self._silent_since = None
        return answer

    def close(self) -> None:
        self._connections.close()

    def _rest(self, now: float, exc: Exception) -> None:
        self._ask_again_at = now + _REST_SECONDS
        if self._silent_since is None:  # else it has been said
            self._silent_since = now
            log.warning("replica.unavailable", error=first_line(exc), instead="the primary")


def _cannot_answer(exc: Exception) -> bool:
    error = from_psycopg(exc)
    if error is None:
        return False
    state = sqlstate(error)
    return state is None or state.startswith(_CANNOT_ANSWER)
