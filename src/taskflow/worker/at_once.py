"""Starting tasks in the transaction that stores them: no message to wait for, no claim, no thread to wake for it.

What the slots here can begin now, and nothing that waits has to go before, is handed through the queue (so that it
takes its turn there like any other) and claimed while it is stored. Everything else goes the usual way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from taskflow.core.submission import NewTask
from taskflow.logs import get_logger
from taskflow.ports.metadata import ClaimedTask, StartNow, TaskKey
from taskflow.ports.queue import Delivery, LocalQueue, Message, Selector
from taskflow.services.execution import Execution
from taskflow.worker.admission import Admission
from taskflow.worker.pool import Pool
from taskflow.worker.run import Run

log = get_logger(__name__)


class AtOnce:
    """The `Starter` of a worker. `choose` and `started` are called in turn, by one thread at a time."""

    def __init__(
        self, pool: Pool, execution: Execution, queue: LocalQueue, admission: Admission
    ) -> None:
        self._pool = pool
        self._execution = execution
        self._queue = queue
        self._admission = admission
        self._deliveries: dict[TaskKey, Delivery] = {}  # chosen, and being stored
        self._changed = threading.Condition()
        self._closed = False

    def close(self, timeout_seconds: float) -> bool:
        """Choose nothing more. Returns when what was chosen has been started, False if that takes too long."""
        with self._changed:
            self._closed = True
            return self._changed.wait_for(lambda: not self._deliveries, timeout_seconds)

    def choose(self, tasks: Sequence[NewTask]) -> StartNow | None:
        pool = self._pool
        free, moving = pool.free_slots()
        # Beyond the free slots one, if what is claimed ahead starts soon.
        most = free if free > 0 else min(1, pool.claim_ahead.limit(moving))
        if most <= 0:
            return None
        with self._changed:
            if self._closed:
                return None
            self._forget(self._deliveries.values())  # of a submission that was interrupted
            self._deliveries.clear()
            selector = self._admission.choice().selector
            for task in tasks:
                # What comes behind one that has to wait waits, too.
                if len(self._deliveries) == most or not self._is_due(task):
                    break
                if free <= 0 and pool.claim_ahead.is_long(task.task):
                    break
                delivery = self._delivery(task, selector)
                if delivery is None:
                    break
                self._deliveries[TaskKey(task.tenant_id, task.id)] = delivery
            if not self._deliveries:
                return None
            pool.coming = len(self._deliveries)
            return self._execution.start_now(list(self._deliveries))

    def started(self, chosen: StartNow, tasks: Sequence[ClaimedTask]) -> None:
        pool = self._pool
        try:
            attempts = self._execution.started(tasks, self._deliveries)
            if attempts:
                now = pool.monotonic()
                free = pool.free_slots()[0] + pool.coming
                runs = [Run(attempt, now, None) for attempt in attempts]
                pool.add(runs, ahead=len(runs) > free)
            began = {attempt.receipt for attempt in attempts}
            self._forget(d for d in self._deliveries.values() if d.receipt not in began)
        except Exception:  # they are accepted: their leases run out, and they are started again
            log.exception("worker.start_failed", count=len(chosen.keys))
        finally:
            pool.coming = 0
            if pool.claimer_waits:
                pool.wake_claimer()  # what was not started leaves its slot to others
            with self._changed:
                self._deliveries.clear()
                self._changed.notify_all()

    def _forget(self, deliveries: Iterable[Delivery]) -> None:
        if receipts := [delivery.receipt for delivery in deliveries]:
            self._queue.ack(receipts)

    def _is_due(self, task: NewTask) -> bool:
        return task.run_at is None and task.delay_seconds <= 0 and not task.depends_on

    def _delivery(self, task: NewTask, selector: Selector) -> Delivery | None:
        if not self._admission.takes_freely(task.task, task.priority):
            return None
        message = Message(task.id, task.tenant_id, task.task, task.priority)
        return self._queue.hand_through(message, selector)
