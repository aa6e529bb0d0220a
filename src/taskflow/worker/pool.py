"""The pool: slots, what is claimed for them, and what becomes of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from taskflow.core.errors import TimeoutTooLongError
from taskflow.logs import get_logger
from taskflow.ports.metadata import Outcome
from taskflow.services.execution import Execution
from taskflow.worker.admission import Admission
from taskflow.worker.claim_ahead import HORIZON_SECONDS, ClaimAhead
from taskflow.worker.coroutines import Coroutines
from taskflow.worker.handover import Handover
from taskflow.worker.options import WorkerOptions
from taskflow.worker.outcome import outcome_of
from taskflow.worker.run import GivenBackError, Run
from taskflow.worker.slot import Slot
from taskflow.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from taskflow.worker.finisher import Finisher
    from taskflow.worker.heartbeat import Heartbeat

log = get_logger(__name__)

GIVE_BACK_SECONDS = 0.2  # what was claimed ahead and has not started by then was a wrong guess
MAX_UNFINISHED = 2_000  # outcomes that wait to be written; beyond it nothing is claimed
_MAX_ABANDONED_THREADS = (
    256  # beyond it a lost thread is replaced only when an abandoned one has ended
)


class Pool:
    """Shared by all threads of a worker. Sets and queues are changed by single operations that CPython makes atomic, so
    that an attempt's way through them needs no lock; an attempt belongs to whoever removes it from ``waiting``."""

    def __init__(
        self,
        execution: Execution,
        admission: Admission,
        options: WorkerOptions,
        monotonic: Callable[[], float],
        on_abandoned: Callable[[], None],
    ) -> None:
        self.execution = execution
        self.admission = admission
        self.options = options
        self.monotonic = monotonic
        self.heartbeat: Heartbeat
        self.finisher: Finisher
        self.on_claimed: Callable[[], None] = lambda: None
        self.claim_ahead = ClaimAhead(options.num_workers)
        self.coroutines = Coroutines()
        self.watchdog = Watchdog(self._look, monotonic)
        self.handover = Handover()
        self.outcomes: SimpleQueue[tuple[Run, Outcome] | None] = SimpleQueue()
        self.waiting: set[Run] = set()  # claimed, not started
        self.leased: set[Run] = set()  # claimed, outcome not yet written
        self.slots: list[Slot] = []
        self.is_draining = False  # nothing more is claimed
        self.releasing = threading.Event()  # what still runs is given back
        self.coming = 0  # attempts that are being stored and claimed by `AtOnce`
        self.claimer_waits = False
        self.claim_below = 0  # wake the waiting claimer when no more than so many wait
        self.abandoned_total = 0
        self._on_abandoned = on_abandoned
        self._abandoned_slots: set[Slot] = set()
        self._slot_count = 0
        self._changed = threading.Condition()

    def start(self) -> None:
        self.watchdog.start()
        for _ in range(self.options.num_workers):
            self._add_slot()

    # --- claiming ---------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        return sum(slot.run is not None for slot in self.slots)

    def room(self) -> int:
        """How many attempts to claim now; see `ClaimAhead`."""
        free, moving = self.free_slots()
        waiting = len(self.waiting)
        if len(self.leased) - self.busy - waiting >= MAX_UNFINISHED:
            return 0
        ahead = self.claim_ahead.limit(moving)
        self.claim_below = self.claim_ahead.refill_below(ahead, moving)
        if ahead == 0:
            return free
        return free + ahead if waiting <= self.claim_below else 0

    def free_slots(self) -> tuple[int, int]:
        """Slots that nothing waits for, and slots that are free or will be soon: not kept by long tasks."""
        now = self.monotonic()
        busy = kept = 0
        for slot in self.slots:
            if (run := slot.run) is not None:
                busy += 1
                kept += now - run.started_at >= HORIZON_SECONDS or self.claim_ahead.is_long(
                    run.attempt.task.task
                )
        count, waiting = len(self.slots), len(self.waiting)
        if waiting <= count:  # what is claimed beyond them is short
            is_long = self.claim_ahead.is_long
            kept += sum(is_long(run.attempt.task.task) for run in list(self.waiting))
        return count - busy - waiting - self.coming, max(0, count - kept)

    def has_suspect(self) -> bool:
        """Whether one of the attempts here is of a task that was running when a worker died."""
        return any(run.attempt.task.crash_count for run in list(self.leased))

    def wait_for_room(self) -> None:
        """Until `room` may have become positive, or `wake_claimer`."""
        with self._changed:
            self.claimer_waits = True
            if self.room() <= 0 and not self.is_draining:
                self._changed.wait()
            self.claimer_waits = False

    def wake_claimer(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def add(self, runs: Sequence[Run], *, ahead: bool) -> None:
        """``ahead``: there are more of them than slots to take them."""
        self.leased.update(runs)
        self.waiting.update(runs)
        self.handover.put(runs, self.claim_ahead.seconds_apart)
        if ahead:
            self.watchdog.sooner(runs[0].claimed_at + GIVE_BACK_SECONDS)
        self.heartbeat.attempts_claimed()
        self.on_claimed()

    def may_start(self, run: Run) -> bool:
        """False: its circuit has opened since it was claimed, or too little time is left for it.

        Raises TimeoutTooLongError when it could not even run in a process that has just started.
        """
        ends_at = self.options.ends_at
        if ends_at != math.inf:
            timeout, longest = (
                run.attempt.task.timeout_seconds,
                self.options.longest_timeout_seconds,
            )
            if timeout > longest:
                raise TimeoutTooLongError(
                    f"its timeout of {timeout:g} s is longer than the {max(0.0, longest):.0f} s that a task may "
                    "take here: give it a shorter timeout, this function a longer one, or run it in a worker process"
                )
            if self.monotonic() + timeout > ends_at:
                return False
        return run.grant is None or self.admission.may_start(run.grant)

    # --- how attempts end -------------------------------------------------------------------------

    def conclude(
        self,
        run: Run,
        value: object,
        error: Exception | None,
        duration_ms: float,
        *,
        here: bool = False,
    ) -> None:
        """Its outcome goes to the finisher; what it held is free again. ``here``: this thread may write it as well."""
        outcome = outcome_of(
            self.execution, run, value, error, duration_ms, releasing=self.releasing
        )
        if not run.decided.acquire(blocking=False):
            return  # given back meanwhile
        if run.grant is not None:
            if isinstance(run.reason, GivenBackError):
                self.admission.release(run.grant)
            else:
                self.admission.settle(run.grant, run.reason or error)
        if outcome is None:
            self.leased.discard(run)
        elif self.waiting or not here or not self.finisher.write_here(run, outcome):
            self.outcomes.put((run, outcome))

    def end(self, run: Run, reason: Exception, *, grace_seconds: float = 0.0) -> None:
        """End an attempt: give it back if it has not started, else as `Slot.end` does."""
        if self._take_back(run):
            return
        for slot in list(self.slots):
            if slot.run is run:
                slot.end(run, reason, grace_seconds=grace_seconds)

    def give_back_waiting(self) -> None:
        for run in list(self.waiting):
            self._take_back(run)

    def give_back_uncalled(self) -> None:
        """For `stop`: what the payload store keeps from beginning, or its result from being stored. Nothing can be
        interrupted there, and a lease that runs out would count as a crash."""
        for slot in list(self.slots):
            if (run := slot.run) is not None and run.reason is not None and slot.call is None:
                self.conclude(run, None, None, 0.0)

    def slot_abandoned(self, slot: Slot, run: Run) -> None:
        """Its thread is stuck in the handler: go on without it."""
        self.count_abandoned(run)
        with self._changed:
            self.slots.remove(slot)
            self._abandoned_slots.add(slot)
        if len(self._abandoned_slots) < _MAX_ABANDONED_THREADS:
            self._add_slot()
        else:
            log.error(
                "worker.slot_lost", abandoned=len(self._abandoned_slots), slots=len(self.slots)
            )
        self.conclude(run, None, None, (self.monotonic() - run.started_at) * 1000)
        self.wake_claimer()

    def slot_ended(self, slot: Slot) -> None:
        """Its thread ends: the worker stops, or a thread that was given up has come back."""
        with self._changed:
            self._abandoned_slots.discard(slot)
        if slot.is_abandoned and len(self.slots) < self.options.num_workers:
            self._add_slot()

    def count_abandoned(self, run: Run) -> None:
        task = run.attempt.task
        log.warning(
            "worker.attempt_abandoned", task=task.task, task_id=task.task_id, attempt=task.attempt
        )
        self.abandoned_total += 1
        self._on_abandoned()

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """For `stop`, when nothing is claimed any more: until no slot is busy, or time is up, or `wake_claimer`."""
        self.claim_below = len(self.leased)
        with self._changed:
            self.claimer_waits = True
            if self.busy:
                self._changed.wait(timeout_seconds)
        return not self.busy

    def end_slots(self, timeout_seconds: float) -> None:
        slots = list(self.slots)
        self.handover.end(len(slots))
        deadline = self.monotonic() + timeout_seconds
        for slot in slots:
            slot.thread.join(max(0.0, deadline - self.monotonic()))

    # --- inside -----------------------------------------------------------------------------------

    def _take_back(self, run: Run) -> bool:
        try:
            self.waiting.remove(run)
        except KeyError:
            return False
        run.reason = GivenBackError()
        self.conclude(run, None, None, 0.0)
        return True

    def _look(self, now: float) -> float:
        """For the watchdog: whose time is up, and what has waited here for too long."""
        next_look = math.inf
        for slot in list(self.slots):
            if (run := slot.run) is not None:
                next_look = min(next_look, run.due if run.due > now else slot.look(run, now))
        stale = False
        for run in list(self.waiting):
            give_back_at = run.claimed_at + GIVE_BACK_SECONDS
            if give_back_at <= now:
                stale = self._take_back(run) or stale
            else:
                next_look = min(next_look, give_back_at)
        if stale:
            self.claim_ahead.be_cautious()
        return next_look

    def _add_slot(self) -> None:
        with self._changed:
            self._slot_count += 1
            slot = Slot(self, self._slot_count)
            self.slots.append(slot)
        slot.thread.start()


def find(runs: Iterable[Run], keys: Iterable[tuple[str, str]]) -> list[Run]:
    """The runs of these tasks."""
    wanted = set(keys)
    return [run for run in runs if (run.attempt.task.tenant_id, run.attempt.task.task_id) in wanted]
