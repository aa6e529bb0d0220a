"""`TaskFlow`: queue, store and workers inside your own program."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from taskflow.bootstrap import Runtime, build, import_tasks
from taskflow.calls.embedded import RuntimeCalls
from taskflow.core.arguments import did_you_mean
from taskflow.core.errors import ConfigurationError, NoActiveAppError
from taskflow.core.registry import Registry, registry
from taskflow.ports.clock import Clock
from taskflow.ports.metadata import TaskKey
from taskflow.settings import Settings, load
from taskflow.worker.background import Background
from taskflow.worker.worker import Worker

if TYPE_CHECKING:
    from taskflow.observability.periodic import PeriodicMetrics
    from taskflow.services.backup import Backups
    from taskflow.services.doctor import Doctor


@dataclass(slots=True)
class _Running:
    """What exists between start and stop. ``pid``: the process that may use it."""

    runtime: Runtime
    pid: int
    metrics: PeriodicMetrics | None
    worker: Worker | None = None
    background: Background | None = None


class TaskFlow(RuntimeCalls):
    """A task system inside this process; any number of processes may share one home.

    ``TaskFlow()`` takes its settings from the environment, ``TaskFlow(num_workers=2, home="…")`` names some of them
    here (see `Settings`), ``TaskFlow(settings, …)`` changes some of those given. ``service`` names this kind of process
    in metrics. ``num_workers=0`` makes an app that
    only submits: other processes on the same home do the work. Use it as a context manager, or `start` and `stop` it.

    While it runs, `handler.submit()` goes to it (to the one started last, if there are several), also from handlers.
    Thread safe. It does not survive a fork (SQLite does not): fork before it is started, or use multiprocessing's
    "spawn". Using an inherited one raises NoActiveAppError, as does using one that was not started or was stopped.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        handlers: Registry = registry,
        service: str = "embedded",
        **settings_overrides: Any,
    ) -> None:
        self.settings = _settings(settings, settings_overrides)
        self._clock = clock
        self._registry = handlers
        self._service = service
        self._running: _Running | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._running is None else "running"
        return f"<TaskFlow {self.settings.home} {state}>"

    def start(self) -> Self:
        """Import the tasks' modules, open (or create) the store, find unfinished work, start the workers.

        Raises ConfigurationError, StoreVersionError, StoreUnavailableError; nothing is left open then.
        """
        with self._lock:
            self._refuse_in_a_fork()
            if self._running is not None:
                raise ConfigurationError("this TaskFlow is started already")
            import_tasks(self.settings)
            with ExitStack() as undo:
                runtime = build(
                    self.settings,
                    clock=self._clock,
                    registry=self._registry,
                    with_worker=self.settings.num_workers > 0,
                    service=self._service,
                )
                undo.callback(runtime.close)
                runtime.tasks.on_cancel(self._interrupt)
                self._running = _Running(runtime, os.getpid(), self._periodic_metrics(runtime))
                undo.callback(setattr, self, "_running", None)
                if self.settings.num_workers:
                    runtime.relay.rebuild()
                    self.start_workers()
                runtime.registry.bind(self)
                undo.pop_all()
                if self._running.metrics is not None:
                    self._running.metrics.start()
        return self

    def stop(self, *, grace_seconds: float | None = None) -> None:
        """Let attempts that run finish (``grace_seconds``; default: the setting), give back the rest, close the store.

        Waiting tasks stay stored and are run after the next start. Does nothing when not running. Handlers that are
        being finished may still submit; everybody else gets NoActiveAppError afterwards.
        """
        with self._lock:
            running = self._running
            if running is None:
                return
            if running.pid != os.getpid():
                return  # forked: threads and connections are the parent's, closing them here could harm it
            with ExitStack() as closing:
                closing.callback(setattr, self, "_running", None)
                closing.callback(running.runtime.close)
                if running.metrics is not None:
                    closing.callback(running.metrics.stop)
                closing.callback(running.runtime.registry.unbind, self)
                self.stop_workers(grace_seconds=grace_seconds)

    @property
    def workers_running(self) -> bool:
        return self._running is not None and self._running.worker is not None

    @property
    def worker(self) -> Worker | None:
        """The workers of this process, while they run."""
        return self._running.worker if self._running is not None else None

    def start_workers(self) -> None:
        """Run tasks in this process again. Does nothing when workers run.

        Raises ConfigurationError when ``num_workers`` is 0: such an app keeps no queue that workers could serve.
        """
        with self._lock:
            runtime = self.runtime
            running = self._running
            assert running is not None
            if running.worker is not None:
                return
            if not self.settings.num_workers:
                raise ConfigurationError(
                    "num_workers is 0: this TaskFlow only submits; give it workers at start"
                )
            with ExitStack() as undo:
                worker = Worker.from_runtime(runtime)
                worker.start()
                undo.callback(worker.stop)
                background = Background.from_runtime(runtime)
                background.start()
                undo.pop_all()
            running.worker, running.background = worker, background

    def stop_workers(self, *, grace_seconds: float | None = None) -> None:
        """Let attempts that run finish, run nothing more. Submitting goes on; tasks wait for `start_workers`."""
        with self._lock:
            self.runtime  # noqa: B018 - raises unless this process may
            running = self._running
            assert running is not None
            worker, background = running.worker, running.background
            running.worker = running.background = None
            with ExitStack() as stopping:
                if background is not None:
                    stopping.callback(background.stop)
                if worker is not None:
                    stopping.callback(worker.stop, grace_seconds=grace_seconds)

    @property
    def runtime(self) -> Runtime:
        """The services inside, for those who build on them. Raises NoActiveAppError unless started here."""
        running = self._running
        if running is None:
            raise NoActiveAppError(
                "this TaskFlow is not running: use it inside `with TaskFlow() as app:`, or call start()"
            )
        if running.pid != os.getpid():
            raise NoActiveAppError(
                f"this TaskFlow was started by process {running.pid} and does not survive a fork: "
                "fork before it is started, or use multiprocessing's 'spawn'"
            )
        return running.runtime

    @property
    def backups(self) -> Backups:
        """Whole-store backup and restore."""
        from taskflow.services.backup import Backups

        runtime = self.runtime
        stores = runtime.stores
        return Backups(
            stores.maintenance, stores.inspection, stores.workers, runtime.payloads, runtime.clock
        )

    @property
    def doctor(self) -> Doctor:
        """Checks and repairs of the store and its surroundings."""
        from taskflow.services import home_checks, queue_checks
        from taskflow.services.doctor import Doctor

        runtime = self.runtime
        stores = runtime.stores
        is_remote = self.settings.resolved_queue_backend == "sqs"
        queue_checked = queue_checks.checks_of(runtime.queue) if is_remote else []
        return Doctor(
            stores.inspection,
            stores.maintenance,
            stores.outbox,
            stores.workers,
            stores.execution,
            runtime.payloads,
            runtime.liveness,
            runtime.clock,
            recover=runtime.recovery.run_once,
            registered=lambda: [handler.name for handler in runtime.registry.handlers()],
            surroundings=[*home_checks.checks_of(self.settings.home), *queue_checked],
            long_task_seconds=self.settings.long_task_seconds if queue_checked else 0.0,
        )

    def _refuse_in_a_fork(self) -> None:
        """SQLite keeps its locks on a file in memory that a child inherits: a second connection there would believe
        them its own, and damage the store (sqlite.org/howtocorrupt.html §2.6)."""
        inherited = [app for app in self._registry.submitters if isinstance(app, TaskFlow)]
        for app in [self, *inherited]:
            if app._running is not None and app._running.pid != os.getpid():
                raise ConfigurationError(
                    f"process {app._running.pid} had started a TaskFlow before it forked this one: "
                    "fork before it is started, or use multiprocessing's 'spawn'"
                )

    def _periodic_metrics(self, runtime: Runtime) -> PeriodicMetrics | None:
        """Those with workers look at the store as well, as at what the others left undone."""
        if runtime.metrics is None or runtime.backlog is None:
            return None
        from taskflow.observability.periodic import PeriodicMetrics

        return PeriodicMetrics(
            runtime.metrics,
            seconds=self.settings.metrics_emf_seconds,
            measure=runtime.backlog.run if self.settings.num_workers else None,
        )

    def _interrupt(self, keys: Sequence[TaskKey]) -> None:
        """Running tasks were marked as cancelled: tell the workers here."""
        worker = self.worker
        if worker is not None:
            worker.cancel(keys)


def _settings(given: Settings | None, overrides: dict[str, Any]) -> Settings:
    for name in overrides:
        if name not in Settings.model_fields:
            hint = did_you_mean(name, list(Settings.model_fields))
            raise ConfigurationError(f"there is no setting {name!r}{hint}")
    if given is None:
        return load(**overrides)
    return load(**(given.model_dump() | overrides)) if overrides else given
