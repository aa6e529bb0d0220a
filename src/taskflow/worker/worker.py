"""The worker: takes tasks from the queue, runs their handlers, writes down how they ended.

    queue → claimer → slots (threads, event loop, child processes) → finisher → store
                        ↑ watchdog: timeouts      ↑ heartbeat: leases, progress, cancellations

One claimer and one finisher, so that every transaction carries as much as there is; between them queues of single
attempts. Tasks that are submitted in this process and can start now are claimed as they are stored (`AtOnce`); a slot
that has nothing else to do writes its outcome itself. Both are quicker than waking another thread.
Nothing polls: an idle worker sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskflow.core.errors import AttemptCancelledError, ConfigurationError
from taskflow.core.registry import Registry
from taskflow.core.task import TaskPriority
from taskflow.logs import get_logger
from taskflow.ports.clock import Clock
from taskflow.ports.metadata import TaskKey, WorkerStore
from taskflow.ports.protection import Protection
from taskflow.ports.queue import LocalQueue, TaskQueue
from taskflow.services.execution import Execution
from taskflow.services.submission import Submissions
from taskflow.worker.admission import Admission
from taskflow.worker.at_once import AtOnce
from taskflow.worker.child import is_child_process
from taskflow.worker.claimer import Claimer
from taskflow.worker.finisher import Finisher
from taskflow.worker.heartbeat import Heartbeat
from taskflow.worker.options import WorkerOptions
from taskflow.worker.pool import Pool, find
from taskflow.worker.protected import Protected
from taskflow.worker.reporter import Reporter
from taskflow.worker.run import GivenBackError

if TYPE_CHECKING:
    from taskflow.bootstrap import Runtime

log = get_logger(__name__)

CLAIM_SECONDS = 10.0  # for a claim under way when the worker stops
WRITE_SECONDS = 10.0  # for the last outcomes


class Worker:
    """Thread safe; may be started again after `stop`. ``workers`` None: it is not listed.

    ``on_abandoned`` is called for every attempt that had to be left behind running, ``on_claim_failed`` when the store
    did not let it claim. ``protection`` is on while attempts are here. What is submitted through ``submissions`` starts
    at once, if it can and ``queue`` is one of this process.
    """

    def __init__(
        self,
        execution: Execution,
        *,
        queue: TaskQueue,
        registry: Registry,
        clock: Clock,
        workers: WorkerStore | None,
        options: WorkerOptions,
        on_abandoned: Callable[[], None] = lambda: None,
        on_claim_failed: Callable[[], None] = lambda: None,
        protection: Protection | None = None,
        submissions: Submissions | None = None,
    ) -> None:
        self._execution = execution
        self._queue = queue
        self._registry = registry
        self._clock = clock
        self._workers = workers
        self._options = options
        self._on_abandoned = on_abandoned
        self._on_claim_failed = on_claim_failed
        self._protection = protection
        self._submissions = submissions
        self._lifecycle = threading.Lock()
        self._crew: _Crew | None = None

    @classmethod
    def from_runtime(cls, runtime: Runtime) -> Worker:
        from taskflow.bootstrap import build_protection

        return cls(
            runtime.execution,
            queue=runtime.queue,
            registry=runtime.registry,
            clock=runtime.clock,
            workers=runtime.stores.workers,
            options=WorkerOptions.from_settings(runtime.settings),
            on_abandoned=runtime.counters.abandoned,
            protection=build_protection(runtime.settings),
            submissions=runtime.submissions,
        )

    def start(self) -> None:
        """Returns at once; a second call does nothing. Raises ConfigurationError in a child process of a worker."""
        if is_child_process():
            raise ConfigurationError(
                "a worker was started while its script was imported in a child process (executor='process'); "
                "put what starts it under `if __name__ == '__main__':`"
            )
        with self._lifecycle:
            if self._crew is None:
                self._crew = _Crew(self)
                self._crew.start()

    def stop(self, *, grace_seconds: float | None = None) -> None:
        """Claim nothing more, give back what has not started, let attempts finish for ``grace_seconds`` (None: as the
        settings say), then interrupt and give back the rest. Returns when all outcomes are written."""
        with self._lifecycle:
            if self._crew is not None:
                self._crew.stop(
                    self._options.shutdown_grace_seconds if grace_seconds is None else grace_seconds
                )
                self._crew = None

    def release(self) -> None:
        """Stop at once; ends the grace of a `stop` that is under way in another thread."""
        if (crew := self._crew) is not None:
            crew.release()
        self.stop(grace_seconds=0.0)

    def cancel(self, keys: Sequence[TaskKey]) -> None:
        """End attempts of these tasks that are here. The store knows already that they are cancelled."""
        if (crew := self._crew) is not None:
            for run in find(list(crew.pool.leased), keys):
                crew.pool.end(
                    run,
                    AttemptCancelledError("the task was cancelled while it ran"),
                    grace_seconds=self._options.cancel_grace_seconds,
                )

    def snapshot(self) -> dict[str, Any]:
        """``total``, ``busy`` and ``idle`` slots, ``claimed_ahead``, ``abandoned`` attempts since the start, circuit
        states, resources, and tasks it can never take because they need more than it has."""
        crew = self._crew
        if crew is None:
            return {"status": "stopped", "total": 0, "busy": 0, "idle": 0}
        return crew.snapshot()


class _Crew:
    """All that lives from one start to the next stop."""

    def __init__(self, worker: Worker) -> None:
        execution, options, clock = worker._execution, worker._options, worker._clock
        self._options = options
        self._registry = worker._registry
        self._status = "running"
        self._admission = Admission(
            worker._registry,
            priorities=options.priorities,
            tasks=options.tasks,
            resources=options.resources,
            breaker_failures=options.breaker_failures,
            breaker_open_seconds=options.breaker_open_seconds,
            monotonic=clock.monotonic,
            on_change=self._news,
        )
        self.pool = Pool(execution, self._admission, options, clock.monotonic, worker._on_abandoned)
        self._heartbeat = self.pool.heartbeat = Heartbeat(self.pool, execution)
        self._protected = None
        if worker._protection is not None:
            self._protected = Protected(worker._protection, lambda: bool(self.pool.leased))
            self.pool.on_claimed = self._protected.attempts_claimed
        self._finisher = self.pool.finisher = Finisher(self.pool, execution, self._heartbeat)
        self._claimer = Claimer(
            self.pool, execution, worker._queue, self._admission, worker._on_claim_failed
        )
        self._submissions = worker._submissions
        self._at_once = None
        if isinstance(worker._queue, LocalQueue):
            self._at_once = AtOnce(self.pool, execution, worker._queue, self._admission)
        self._reporter = (
            None
            if worker._workers is None
            else Reporter(worker._workers, execution.worker_id, self.snapshot)
        )

    def start(self) -> None:
        for task, needs in self._admission.never_served().items():
            log.warning(
                "worker.task_not_served", task=task, needs=needs, has=dict(self._options.resources)
            )
        for task in sorted((self._options.tasks or frozenset()) - set(self._tasks())):
            log.warning("worker.task_unknown", task=task, setting="TASKFLOW_WORKER_TASKS")
        self.pool.start()
        self._heartbeat.start()
        self._finisher.start()
        if self._reporter is not None:
            self._reporter.start()
        if self._protected is not None:
            self._protected.start()
        self._claimer.start()
        if self._submissions is not None:
            self._submissions.starter = self._at_once
        self._say("worker.started", num_workers=self._options.num_workers)

    def stop(self, grace_seconds: float) -> None:
        pool, monotonic = self.pool, self.pool.monotonic
        self._status = "draining"
        self._say("worker.draining", busy=pool.busy, grace_seconds=grace_seconds)
        if self._submissions is not None:
            self._submissions.starter = None
        if self._at_once is not None:
            self._at_once.close(CLAIM_SECONDS)
        self._claimer.stop(CLAIM_SECONDS)
        pool.give_back_waiting()
        if pool.busy and self._reporter is not None:
            self._reporter.report("draining")
        deadline = monotonic() + grace_seconds
        while not pool.releasing.is_set() and (seconds := deadline - monotonic()) > 0:
            if pool.wait_until_idle(seconds):
                break
        pool.releasing.set()
        if pool.busy:
            log.warning("worker.releasing", busy=pool.busy)
            for slot in list(pool.slots):
                if (run := slot.run) is not None:
                    pool.end(run, GivenBackError())
            deadline = monotonic() + 2 * self._options.abandon_grace_seconds + 0.5
            while (seconds := deadline - monotonic()) > 0 and not pool.wait_until_idle(seconds):
                continue
            pool.give_back_uncalled()
        pool.end_slots(1.0)
        pool.watchdog.stop()
        pool.coroutines.stop()
        self._finisher.stop(WRITE_SECONDS)
        self._heartbeat.stop()
        if self._protected is not None:
            self._protected.stop()
        self._status = "stopped"
        if self._reporter is not None:
            self._reporter.stop()
        self._say("worker.stopped")

    def _say(self, event: str, **fields: Any) -> None:
        """A worker that nobody lists comes and goes with every event it serves."""
        (log.debug if self._reporter is None else log.info)(event, **fields)

    def release(self) -> None:
        self.pool.releasing.set()
        self.pool.wake_claimer()

    def _news(self) -> None:
        self._claimer.news()

    def _tasks(self) -> list[str]:
        """Names that it takes: for those who wonder why a task is not run."""
        chosen = self._options.tasks
        names = (handler.name for handler in self._registry.handlers())
        return [name for name in names if chosen is None or name in chosen]

    def snapshot(self) -> dict[str, Any]:
        pool = self.pool
        total, busy = len(pool.slots), pool.busy
        return {
            "status": self._status,
            "total": total,
            "busy": busy,
            "idle": total - busy,
            "claimed_ahead": len(pool.waiting),
            "abandoned": pool.abandoned_total,
            "breakers": self._admission.breakers(),
            "resources": self._admission.resources(),
            "not_served": sorted(self._admission.never_served()),
            "tasks": self._tasks(),
            "queues": self._options.queues,
            "priorities": sorted(self._options.priorities or map(int, TaskPriority)),
        }
