"""Which tasks this worker takes at the moment: by priority, name, resources and circuit breakers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from taskflow.core.breaker import Breaker
from taskflow.core.classification import classify
from taskflow.core.registry import Handler, Registry
from taskflow.core.task import ErrorClass
from taskflow.logs import get_logger
from taskflow.ports.queue import Selector
from taskflow.worker.resources import Resources

log = get_logger(__name__)

# Only these say that the dependency is in trouble; a wrong argument or a missing record does not.
_SAYS_BROKEN = frozenset({ErrorClass.TRANSIENT, ErrorClass.TIMED_OUT})


class Grant(NamedTuple):
    """What an admitted task holds until `Admission.settle` or `Admission.release`."""

    handler: Handler[..., Any]
    breaker: Breaker | None
    ticket: int


class Choice(NamedTuple):
    """``changes_in_seconds``: when the selector may be another by itself (infinite: only on news)."""

    selector: Selector
    changes_in_seconds: float


class Admission:
    """Thread safe. ``on_change`` is called when a task that was left in the queue might be taken now."""

    def __init__(
        self,
        registry: Registry,
        *,
        priorities: frozenset[int] | None,
        tasks: frozenset[str] | None,
        resources: Mapping[str, float],
        breaker_failures: int,
        breaker_open_seconds: float,
        monotonic: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._priorities = priorities
        self._tasks = tasks
        self._resources = Resources(resources)
        self._breaker_failures = breaker_failures
        self._breaker_open_seconds = breaker_open_seconds
        self._monotonic = monotonic
        self._on_change = on_change
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._handlers: list[Handler[..., Any]] = []
        self._constrained: list[Handler[..., Any]] = []
        self._unknown: set[str] = set()  # delivered, but not registered here: left to other workers

    def choice(self) -> Choice:
        """What to ask the queue for now."""
        with self._lock:
            self._follow_registry()
            excluded = set(self._unknown)
            changes_in = (
                1.0 if excluded else math.inf
            )  # a handler may be registered late, and tells nobody
            now = self._monotonic()
            for handler in self._constrained:
                declared = handler.declared
                breaker = self._breaker(declared.breaker)
                if breaker is not None and not breaker.would_admit(now):
                    excluded.add(handler.name)
                    changes_in = min(changes_in, breaker.half_opens_in(now) or math.inf)
                elif not self._resources.free_for(declared.resources):
                    excluded.add(handler.name)
        return Choice(Selector(self._priorities, self._tasks, frozenset(excluded)), changes_in)

    def takes_freely(self, task: str, priority: int) -> bool:
        """Whether a worker takes such tasks whatever else is going on: known here, with nothing to be shared."""
        handler = self._registry.find(task)
        return (
            handler is not None
            and (self._priorities is None or priority in self._priorities)
            and (self._tasks is None or task in self._tasks)
            and not handler.declared.resources
            and handler.declared.breaker is None
        )

    def admit(self, task: str) -> tuple[bool, Grant | None]:
        """Whether one delivery of ``task`` may be claimed, and what it holds then (None: nothing)."""
        handler = self._registry.find(task)
        if handler is None:
            if task not in self._unknown:
                log.warning("worker.unknown_task", task=task)
                with self._lock:
                    self._unknown.add(task)
            return False, None
        declared = handler.declared
        if not declared.resources and declared.breaker is None:
            return True, None
        with self._lock:
            if not self._resources.free_for(declared.resources):
                return False, None
            breaker, ticket = self._breaker(declared.breaker), None
            if breaker is not None:
                ticket = breaker.admit(self._monotonic())
                if ticket is None:
                    return False, None
            self._resources.take(declared.resources)
            return True, Grant(handler, breaker, ticket or 0)

    def may_start(self, grant: Grant) -> bool:
        """False when the circuit has opened since the attempt was claimed."""
        if grant.breaker is None:
            return True
        with self._lock:
            return grant.breaker.is_valid(grant.ticket)

    def release(self, grant: Grant) -> None:
        """The attempt did not start, or ended for a reason that is not its own."""
        with self._lock:
            if grant.breaker is not None:
                grant.breaker.released(grant.ticket)
            self._resources.give_back(grant.handler.declared.resources)
        self._on_change()

    def settle(self, grant: Grant, error: BaseException | None) -> None:
        """The attempt ran and succeeded (None) or failed."""
        broken = error is not None and _says_broken(error, grant.handler)
        with self._lock:
            if grant.breaker is not None:
                now = self._monotonic()
                before = grant.breaker.state(now)
                if error is None:
                    grant.breaker.succeeded(grant.ticket)
                elif broken:
                    grant.breaker.failed(grant.ticket, now)
                else:
                    grant.breaker.released(grant.ticket)
                after = grant.breaker.state(now)
                if after is not before:
                    log.warning(
                        "breaker.changed", breaker=grant.handler.declared.breaker, state=after
                    )
            self._resources.give_back(grant.handler.declared.resources)
        self._on_change()

    def never_served(self) -> dict[str, dict[str, float]]:
        """Registered tasks that need more than this worker has in total, and what they need."""
        return {
            handler.name: dict(handler.declared.resources)
            for handler in self._registry.handlers()
            if not self._resources.has(handler.declared.resources)
        }

    def breakers(self) -> dict[str, str]:
        with self._lock:
            now = self._monotonic()
            return {name: breaker.state(now).value for name, breaker in self._breakers.items()}

    def resources(self) -> dict[str, dict[str, float]]:
        with self._lock:
            return self._resources.snapshot()

    def _follow_registry(self) -> None:
        handlers = self._registry.handlers()
        if handlers != self._handlers:
            self._handlers = handlers
            self._constrained = [
                h for h in handlers if h.declared.resources or h.declared.breaker is not None
            ]
            self._unknown.difference_update(handler.name for handler in handlers)

    def _breaker(self, name: str | None) -> Breaker | None:
        if name is None:
            return None
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = Breaker(
                failures=self._breaker_failures, open_seconds=self._breaker_open_seconds
            )
            self._breakers[name] = breaker
        return breaker


def _says_broken(error: BaseException, handler: Handler[..., Any]) -> bool:
    try:
        return classify(error, handler) in _SAYS_BROKEN
    except Exception:  # noqa: BLE001 - an error is user code; what it held has to be given back all the same
        return False
