"""A slot: one thread that carries out attempts, one at a time, wherever their handlers run.

A sync handler runs in the slot's own thread; for a coroutine the thread waits for the event loop, for a process it
listens to the child. So one number bounds them all, and one watchdog ends them all.
"""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow.core import trace
from taskflow.core.errors import AttemptError, AttemptTimeoutError, StoreUnavailableError
from taskflow.logs import bind_contextvars, get_logger
from taskflow.worker.calls import Abandoned, Call, Result
from taskflow.worker.child_call import START_SECONDS, ChildCall
from taskflow.worker.context import AttemptContext, bound_fields
from taskflow.worker.coroutines import CoroutineCall
from taskflow.worker.exits import as_error
from taskflow.worker.interrupts import where_is
from taskflow.worker.run import GivenBackError, PostponedError, Run, Stage
from taskflow.worker.thread_call import ThreadCall

if TYPE_CHECKING:
    from taskflow.worker.pool import Pool

log = get_logger(__name__)

_ASK_AGAIN_SECONDS = 0.005  # when a call could not be interrupted just then

_LEFT_BEHIND = {
    Abandoned.THREAD: "; its thread did not react, is probably blocked in C code, and was abandoned",
    Abandoned.COROUTINE: "; its coroutine did not end when it was cancelled, and was abandoned",
}


class Slot:
    """``run`` is what the slot works on; ``call`` is set while its handler is being called, and only then may others
    end it, under the slot's lock. `open` and `close` are for calls, `end` and `look` for other threads."""

    def __init__(self, pool: Pool, number: int) -> None:
        self.run: Run | None = None
        self.call: Call | None = None
        self.is_abandoned = False
        self._pool = pool
        self._lock = threading.Lock()
        self._here: ThreadCall
        self._child: ChildCall | None = None
        self.thread = threading.Thread(
            target=self._work, name=f"taskflow-slot-{number}", daemon=True
        )

    # --- on the slot's own thread -----------------------------------------------------------------

    def _work(self) -> None:
        pool = self._pool
        self._here = ThreadCall(self)
        take, waiting = pool.handover.take, pool.waiting
        try:
            while (run := take()) is not None:
                self.run = run
                try:
                    waiting.remove(run)
                except KeyError:
                    pass  # given back meanwhile
                else:
                    self._carry_out_guarded(run)
                if self.is_abandoned:
                    return
                self.run = run = None
                if pool.claimer_waits and len(waiting) <= pool.claim_below:
                    pool.wake_claimer()
        finally:
            if self._child is not None:
                self._child.close()
            pool.slot_ended(self)

    def _carry_out_guarded(self, run: Run) -> None:
        try:
            self._carry_out(run)
        except Exception:  # a fault of ours costs this attempt its lease, never the slot
            log.exception("worker.attempt_lost", task_id=run.attempt.task.task_id)
            self._pool.leased.discard(run)

    def _carry_out(self, run: Run) -> None:
        pool, attempt = self._pool, run.attempt
        value: Any = None
        error: BaseException | None = None
        started = ended = 0.0
        if run.reason is None:
            try:
                if not pool.may_start(run):
                    raise GivenBackError
                args, kwargs = pool.execution.arguments(attempt)
            except GivenBackError as exc:
                run.reason = exc
            except StoreUnavailableError as exc:
                run.reason = PostponedError(exc)
            except Exception as exc:  # noqa: BLE001 - argument types run user code: anything
                error = exc
            else:
                started = pool.monotonic()
                value, error = self._call(run, started, args, kwargs)
                if self.is_abandoned:
                    return
                run.due = math.inf
                ended = pool.monotonic()
                pool.claim_ahead.observe(attempt.task.task, ended - started)
        elif not isinstance(run.reason, GivenBackError):
            run.reason = GivenBackError()  # cancelled or lost before it started
        if error is not None:
            error = _without_our_frames(as_error(error))
        pool.conclude(run, value, error, (ended - started) * 1000, here=True)

    def _call(self, run: Run, started: float, args: list[Any], kwargs: dict[str, Any]) -> Result:
        pool, handler = self._pool, run.attempt.handler
        assert handler is not None
        kind, task = handler.declared.executor, run.attempt.task
        # Until the next attempt: whatever this thread logs, the handler's libraries included, belongs to this one.
        bind_contextvars(**bound_fields(task))
        trace.CURRENT.set(task.traceparent)
        timeout = task.timeout_seconds
        run.started_at = started
        run.due = due = started + (timeout if kind != "process" else timeout + START_SECONDS)
        if due < pool.watchdog.wake_at:
            pool.watchdog.sooner(due)
        if kind == "process":
            self._child = self._child or ChildCall(self, pool)
            return self._child.carry_out(run, args, kwargs)
        if handler.signature.context_parameter is not None:
            context = AttemptContext(
                run, pool.monotonic, pool.heartbeat.progress_made, pool.execution.artifacts
            )
            handler.signature.give_context(args, kwargs, context)
        if kind == "asyncio":
            call = CoroutineCall(pool.coroutines, self)
            return call.carry_out(run, partial(handler.function, *args, **kwargs))
        return self._here.carry_out(run, handler.function, args, kwargs)

    # --- for calls --------------------------------------------------------------------------------

    def open(self, call: Call, run: Run) -> bool:
        """From now on the call can be ended. False when it need not begin."""
        with self._lock:
            self.call = call
            return run.reason is None

    def close(self) -> None:
        with self._lock:
            self.call = None

    def restart_timeout(self, run: Run) -> None:
        """The handler starts only now; until here its executor was being prepared."""
        with self._lock:
            if run.stage is not Stage.UNDISTURBED:
                return
            run.started_at = self._pool.monotonic()
            run.due = due = run.started_at + run.attempt.task.timeout_seconds
        self._pool.watchdog.sooner(due)

    # --- from other threads -----------------------------------------------------------------------

    def end(self, run: Run, reason: Exception, *, grace_seconds: float) -> None:
        """End the attempt for ``reason`` (the first one counts): its context says so now, and ``grace_seconds`` later
        it is interrupted. Called again with a shorter grace, that counts."""
        pool = self._pool
        with self._lock:
            run.reason = run.reason or reason
            call = self.call
            if (
                call is None
                or self.run is not run
                or run.stage not in (Stage.UNDISTURBED, Stage.TOLD)
            ):
                return
            now = pool.monotonic()
            if run.stage is Stage.UNDISTURBED:
                run.stage = Stage.TOLD
                call.tell()
            run.due = min(run.due, now + grace_seconds)
            if call.cleans_up_on_cancel or grace_seconds <= 0:
                self._interrupt(
                    run, call, now, now + grace_seconds + pool.options.abandon_grace_seconds
                )
            due = run.due
        pool.watchdog.sooner(due)

    def look(self, run: Run, now: float) -> float:
        """For the watchdog, when ``run.due`` has come. Returns when to look again."""
        with self._lock:
            call = self.call
            if call is None or self.run is not run or run.stage is Stage.ABANDONED:
                return math.inf
            if run.reason is None:
                timeout = run.attempt.task.timeout_seconds
                run.reason = AttemptTimeoutError(f"ran longer than its timeout of {timeout:g} s")
            if run.stage is Stage.INTERRUPTED or now >= run.abandon_at:
                left = self._abandon(run, call)
            else:
                self._interrupt(run, call, now, now + self._pool.options.abandon_grace_seconds)
                return run.due
        if left is Abandoned.THREAD:
            if self._child is not None:
                self._child.close()  # idle, and of no use to anybody now
            self._pool.slot_abandoned(self, run)
        elif left is Abandoned.COROUTINE:
            self._pool.count_abandoned(run)
        return math.inf

    def _interrupt(self, run: Run, call: Call, now: float, abandon_at: float) -> None:
        if run.stage is not Stage.ENDING:
            run.stage = Stage.ENDING
            run.abandon_at = abandon_at
        if call.can_be_interrupted():
            run.stage = Stage.INTERRUPTED
            run.due = run.abandon_at
            call.interrupt()
        else:
            run.due = min(now + _ASK_AGAIN_SECONDS, run.abandon_at)

    def _abandon(self, run: Run, call: Call) -> Abandoned:
        run.stage = Stage.ABANDONED
        run.due = math.inf
        left = call.abandon()
        if isinstance(run.reason, AttemptError):
            run.reason = type(run.reason)(run.reason.detail + _LEFT_BEHIND.get(left, ""))
        match left:
            case Abandoned.THREAD:
                self.is_abandoned = True
                self.call = None
                assert run.reason is not None
                run.reason.__traceback__ = where_is(self._here.thread_id)
            case Abandoned.NEVER_BEGAN if isinstance(run.reason, AttemptTimeoutError):
                run.reason = (
                    GivenBackError()
                )  # not its fault: something else blocked the event loop
        return left


def _without_our_frames(error: Exception) -> Exception:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        "taskflow.worker."
    ):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)
