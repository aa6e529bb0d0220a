"""The thread that takes messages off the queue and claims their tasks, as many as can start soon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from taskflow.core.errors import StoreUnavailableError
from taskflow.logs import get_logger
from taskflow.ports.queue import Delivery, TaskQueue
from taskflow.services.execution import Attempt, Execution
from taskflow.worker.admission import Admission, Grant
from taskflow.worker.backoff import Backoff
from taskflow.worker.claim_ahead import HORIZON_SECONDS
from taskflow.worker.pool import Pool
from taskflow.worker.run import Run

log = get_logger(__name__)

_IDLE_SECONDS = 30.0
_EXCLUDING_SECONDS = (
    1.0  # while tasks are excluded; news of them come by `news`, but may come between two calls
)


class Claimer:
    def __init__(
        self,
        pool: Pool,
        execution: Execution,
        queue: TaskQueue,
        admission: Admission,
        on_failed: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._execution = execution
        self._queue = queue
        self._admission = admission
        self._on_failed = on_failed
        self._backoff = Backoff()
        self._is_excluding = False
        self._thread = threading.Thread(target=self._work, name="taskflow-claimer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Claim nothing more. Returns when it has ended, which takes no longer than a claim under way."""
        self._pool.is_draining = True
        deadline = self._pool.monotonic() + timeout_seconds
        self._backoff.cancel()
        while self._thread.is_alive() and self._pool.monotonic() < deadline:
            # Again and again: the thread may have been about to wait when it was first woken.
            self._pool.wake_claimer()
            self._queue.wake()
            self._thread.join(0.02)

    def news(self) -> None:
        """Tasks that were excluded may be taken now."""
        if self._is_excluding:
            self._queue.wake()

    def _work(self) -> None:
        pool = self._pool
        while not pool.is_draining:
            room = pool.room()
            if room <= 0:
                pool.wait_for_room()
                continue
            try:
                self._claim(room)
                self._backoff.reset()
            except StoreUnavailableError as exc:
                log.warning(
                    "worker.claim_failed", error=exc.detail, retry_in_seconds=self._backoff.seconds
                )
                self._on_failed()
                self._backoff.wait()
            except Exception:  # a worker that no longer claims would look alive and do nothing
                log.exception("worker.claim_failed", retry_in_seconds=self._backoff.seconds)
                self._on_failed()
                self._backoff.wait()

    def _claim(self, room: int) -> None:
        selector, changes_in = self._admission.choice()
        self._is_excluding = bool(selector.excluded)
        longest = _EXCLUDING_SECONDS if selector.excluded else _IDLE_SECONDS
        deliveries = self._queue.dequeue(
            max_messages=room, timeout_seconds=min(longest, changes_in), selector=selector
        )
        if not deliveries:
            return
        grants: dict[str, Grant] = {}
        chosen = self._choose(deliveries, grants)
        try:
            attempts = self._start(chosen) if chosen and not self._pool.is_draining else []
        except BaseException:
            self._queue.nack([delivery.receipt for delivery in chosen])
            self._release(grants)
            raise
        if self._pool.is_draining and not attempts:
            self._queue.nack([delivery.receipt for delivery in chosen])
        now = self._pool.monotonic()
        if attempts:
            runs = [Run(attempt, now, grants.pop(attempt.receipt, None)) for attempt in attempts]
            self._pool.add(runs, ahead=len(runs) > self._pool.free_slots()[0])
        self._release(grants)

    def _start(self, deliveries: Sequence[Delivery]) -> list[Attempt]:
        """Tasks that were running when a worker died are run one at a time: if one of them kills this process, too,
        the others are not blamed for it again, and never dead-lettered in its place."""
        return self._execution.start(deliveries, most_suspects=0 if self._pool.has_suspect() else 1)

    def _choose(self, deliveries: Sequence[Delivery], grants: dict[str, Grant]) -> list[Delivery]:
        """Those that may run here and will start soon; the others go back to the queue. Fills in ``grants``."""
        guess = self._pool.claim_ahead
        free, moving = self._pool.free_slots()
        seconds_ahead = HORIZON_SECONDS * moving
        chosen: list[Delivery] = []
        surplus: list[str] = []
        refused: list[str] = []
        for position, delivery in enumerate(deliveries):
            expected = min(HORIZON_SECONDS, guess.expected_seconds(delivery.task))
            # A long one, or one that nobody knows, has the next slot, if one is about to become free.
            is_last = len(chosen) >= free and expected >= HORIZON_SECONDS
            if len(chosen) >= free and (not moving if is_last else expected > seconds_ahead):
                surplus += [later.receipt for later in deliveries[position:]]
                break
            is_admitted, grant = self._admission.admit(delivery.task)
            if not is_admitted:
                refused.append(delivery.receipt)
                continue
            if grant is not None:
                grants[delivery.receipt] = grant
            seconds_ahead -= (
                expected  # a long one keeps its slot all the time that others could have had
            )
            chosen.append(delivery)
            if is_last:
                # Nothing behind it goes first: short tasks in any number would keep it from ever finding a free slot.
                surplus += [later.receipt for later in deliveries[position + 1 :]]
                guess.be_cautious()
                break
        if len(surplus) > len(chosen):
            guess.be_cautious()  # a few too many say nothing: the means of all tasks and of these differ a little
        elif not surplus and len(chosen) <= free:
            guess.be_confident()
        surplus += refused
        if surplus:
            self._queue.nack(surplus)
        return chosen

    def _release(self, grants: dict[str, Grant]) -> None:
        for grant in grants.values():
            self._admission.release(grant)
