"""Ending attempts: one transaction, then everything that must follow it, in the order that loses nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taskflow import logs
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import ExecutionStore, FinishResult, Outcome, TaskKey
from taskflow.ports.queue import TaskQueue
from taskflow.services.completions import Completions
from taskflow.services.counters import Counters
from taskflow.services.sending import Sending

log = logs.get_logger(__name__)

_FENCED_SECONDS = 1.0  # by when whoever took the task over has had time to begin


class Conclusion:
    """Used by workers for what they ran and by recovery for what dead workers left."""

    def __init__(
        self,
        store: ExecutionStore,
        queue: TaskQueue,
        sending: Sending,
        completions: Completions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._queue = queue
        self._sending = sending
        self._completions = completions
        self._counters = counters

    def commit(self, outcomes: Sequence[Outcome], receipts: Sequence[str] = ()) -> FinishResult:
        """Messages are acknowledged only after the outcomes are durable, and sent only after that: the message of a
        retry must not meet the one that is being acknowledged. ``receipts``: of each outcome, or none at all.

        The message of an outcome that was fenced comes back. The lease may be lost because the store has lost the
        claim (a failover, a crash of PostgreSQL: claims do not wait for the disk), and then nothing else knows that
        the task waits; if somebody else has the task, its next claim drops the message.

        Those that are ``locked`` are to be given again, and keep their message until then.

        Raises StoreUnavailableError; safe to repeat.
        """
        result = self._store.finish(
            outcomes,
            max_queue_delay_seconds=self._sending.max_delay_seconds,
            outbox=self._sending.needs_rows,
        )
        if receipts:
            self._settle(outcomes, receipts, result)
        self._sending.send(result.to_send)
        own = {(outcome.tenant_id, outcome.task_id) for outcome in outcomes}
        self._counters.ended_waiting(TaskStatus.FAILED, sum(key not in own for key in result.ended))
        self._completions.publish(result.ended, lambda: _returned(outcomes))
        return result

    def _settle(
        self, outcomes: Sequence[Outcome], receipts: Sequence[str], result: FinishResult
    ) -> None:
        fenced, locked = set(result.fenced), set(result.locked)
        written: list[str] = []
        lost: list[str] = []
        for outcome, receipt in zip(outcomes, receipts, strict=True):
            if not (locked and outcome in locked):
                (lost if fenced and outcome in fenced else written).append(receipt)
        try:
            if written:
                self._queue.ack(written)
            if lost:
                self._queue.nack(lost, delay_seconds=_FENCED_SECONDS)
        except Exception:  # they come back, and are dropped then; what has been written must not look as if it failed
            log.exception("queue.not_acknowledged", count=len(receipts))


def _returned(outcomes: Sequence[Outcome]) -> dict[TaskKey, str]:
    """What completed tasks returned, as JSON. Of a task that is there twice (its lease was lost, and it came back to
    this worker) only the store knows which of the two was written."""
    keys = Counter((outcome.tenant_id, outcome.task_id) for outcome in outcomes)
    return {
        TaskKey(outcome.tenant_id, outcome.task_id): outcome.result
        for outcome in outcomes
        if outcome.status is TaskStatus.COMPLETED
        and outcome.result is not None
        and keys[outcome.tenant_id, outcome.task_id] == 1
    }
