"""What one execution environment of Lambda ("container") makes once and keeps from invocation to invocation."""

from __future__ import annotations

from typing import Protocol

from taskflow import logs
from taskflow.bootstrap import Runtime, build, build_clock, build_event_queue, import_tasks
from taskflow.core.errors import TaskFlowError
from taskflow.ports.events import EventQueue
from taskflow.settings import Settings, load

log = logs.get_logger(__name__)

_ANSWER_SECONDS = 0.2  # before the function's end, whatever is still going on


class Context(Protocol):
    """What is used of Lambda's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class Container:
    """Not thread safe: Lambda calls one invocation at a time. Raises ConfigurationError when it is made.

    A store that does not answer does not keep it from being made: it is asked again at each invocation.
    """

    def __init__(self, service: str) -> None:
        # One invocation at a time: whatever the pool's settings say, more connections would only be kept from others.
        self.service = service
        self.settings: Settings = load(database_pool_size=1, database_max_overflow=0)
        logs.configure(self.settings.log_level, self.settings.log_format, service=service)
        import_tasks(self.settings)
        self.clock = build_clock()
        self._events: EventQueue | None = None
        self._runtime: Runtime | None = None

    @property
    def events(self) -> EventQueue:
        """The queue of a function that messages are brought to; ask for it before `runtime`."""
        if self._events is None:
            self._events = build_event_queue(self.settings, self.clock)
        return self._events

    def runtime(self) -> Runtime:
        """Raises what `build` raises; the next call tries again."""
        if self._runtime is None:
            self._runtime = build(
                self.settings,
                clock=self.clock,
                queue=self._events,
                with_worker=False,
                service=self.service,
            )
        return self._runtime

    def write_metrics(self) -> None:
        """At the end of each invocation: nobody knows whether there will be another. Never raises."""
        if self._runtime is not None and self._runtime.metrics is not None:
            self._runtime.metrics.flush()

    def warm_up(self) -> None:
        """Build the runtime while Lambda starts the container, where the processor is faster and nobody waits."""
        try:
            self.runtime()
        except TaskFlowError as exc:
            log.warning("lambda.not_warm", code=exc.code, error=exc.detail)


def remaining_seconds(context: Context) -> float:
    return context.get_remaining_time_in_millis() / 1_000


def seconds_to_answer(context: Context) -> float:
    """How long something may take that the answer waits for."""
    return max(0.0, remaining_seconds(context) - _ANSWER_SECONDS)
