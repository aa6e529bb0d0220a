"""The fast path of the outbox: sends what a transaction asked for right after it has committed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from taskflow import logs
from taskflow.core.errors import StoreUnavailableError
from taskflow.ports.metadata import OutboxEntry, OutboxStore, TaskKey
from taskflow.ports.queue import EnqueueFailure, Message, TaskQueue

log = logs.get_logger(__name__)

_CLOSE_SECONDS = 5.0


class Sending:
    """Never raises: what could not be sent stays, or is put, in the outbox, and the relay tries again. Thread safe.

    Nobody waits longer than ``patience_seconds`` for a remote queue: a send that takes longer goes on in the
    background, and its rows become the relay's after some seconds. Until it has ended nobody waits at all,
    and while ``most_under_way`` are, each with a thread, messages are left to the relay.
    """

    def __init__(
        self,
        queue: TaskQueue,
        outbox: OutboxStore,
        *,
        patience_seconds: float,
        most_under_way: int,
    ) -> None:
        self._queue = queue
        self._outbox = outbox
        self._patience_seconds = patience_seconds
        self._most_under_way = most_under_way
        self._threads = ThreadPoolExecutor(most_under_way, thread_name_prefix="taskflow-send")
        self._beginning = threading.Lock()
        self._under_way: set[Future[None]] = set()
        self._late: set[Future[None]] = set()  # those that somebody has lost patience with

    @property
    def needs_rows(self) -> bool:
        """Whether every message needs an outbox row, because the queue is not rebuilt from the store."""
        return self._queue.durable

    @property
    def max_delay_seconds(self) -> float:
        return self._queue.max_delay_seconds

    def send(self, entries: Sequence[OutboxEntry]) -> None:
        if not entries:
            return
        if not self._queue.remote:
            self._send(entries)
        elif (sent := self._begin(entries)) is None:
            log.debug("queue.refused", count=len(entries), reason="too many sends, or closing")
        elif not self._late:
            self._wait_for(sent, len(entries))

    def close(self) -> None:
        """Waits up to 5 seconds for what is under way; what takes longer is sent again by the relay. Nothing more is
        sent."""
        _, left = wait(set(self._under_way), _CLOSE_SECONDS)
        if left:
            log.warning("queue.close_incomplete", sends=len(left))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, entries: Sequence[OutboxEntry]) -> Future[None] | None:
        with self._beginning:
            if len(self._under_way) >= self._most_under_way:
                return None
            try:
                sent = self._threads.submit(self._send, entries)
            except RuntimeError:  # closed, no more threads, or the interpreter ends
                return None
            self._under_way.add(sent)
        sent.add_done_callback(self._under_way.discard)
        return sent

    def _wait_for(self, sent: Future[None], count: int) -> None:
        try:
            sent.result(self._patience_seconds)
        except TimeoutError:
            log.warning("queue.send_slow", count=count, waited_seconds=self._patience_seconds)
            self._late.add(sent)
            sent.add_done_callback(self._late.discard)

    def _send(self, entries: Sequence[OutboxEntry]) -> None:
        failures = self._enqueue([entry.message for entry in entries])
        failed = {key_of(failure.message) for failure in failures}
        rows = {key_of(e.message): e.entry_id for e in entries if e.entry_id is not None}
        try:
            if failures:
                self._outbox.add([f.message for f in failures if key_of(f.message) not in rows])
            if rows:
                self._outbox.delete([row for key, row in rows.items() if key not in failed])
        except StoreUnavailableError as exc:
            # What was sent is sent once more by the relay; what is missing is found when it looks into the store.
            log.warning("outbox.unavailable", error=exc.detail)
        except Exception:  # what has been committed must not look as if it failed
            log.exception("outbox.unavailable", count=len(entries))

    def _enqueue(self, messages: Sequence[Message]) -> Sequence[EnqueueFailure]:
        try:
            failures = self._queue.enqueue(messages)
        except Exception as exc:  # as above
            log.exception("queue.unavailable", count=len(messages))
            return [EnqueueFailure(message, type(exc).__name__) for message in messages]
        if failures:
            log.debug("queue.refused", count=len(failures), reason=failures[0].reason)
        return failures


def key_of(message: Message) -> TaskKey:
    return TaskKey(message.tenant_id, message.task_id)
