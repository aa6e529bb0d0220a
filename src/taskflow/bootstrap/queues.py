"""The task queue, and what has to be there for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from taskflow.core.errors import ConfigurationError
from taskflow.core.task import TaskPriority
from taskflow.ports.clock import Clock
from taskflow.ports.events import EventQueue
from taskflow.ports.queue import LocalQueue, TaskQueue
from taskflow.settings import Settings

if TYPE_CHECKING:
    from taskflow.adapters.queue.sqs.names import QueueNames


def build_queue(settings: Settings, clock: Clock, *, works: bool) -> TaskQueue:
    queue = _build_queue(settings, clock, works=works)
    if settings.chaos_seed:
        from taskflow.adapters.queue.chaos import ChaosQueue

        return ChaosQueue(queue, seed=settings.chaos_seed)
    return queue


def queued_here(queue: TaskQueue) -> Callable[[str, str], bool]:
    """Whether a message of a task (tenant, task id) is in this process, as far as ``queue`` can tell at once."""
    return queue.known if isinstance(queue, LocalQueue) else lambda _tenant_id, _task_id: False


def _build_queue(settings: Settings, clock: Clock, *, works: bool) -> TaskQueue:
    match settings.resolved_queue_backend:
        case "local":
            if settings.worker_queues == "long":
                raise ConfigurationError(
                    "TASKFLOW_WORKER_QUEUES=long needs SQS: a local queue is one for all tasks, short and long"
                )
            if not works:
                from taskflow.adapters.queue.detached import DetachedQueue

                return DetachedQueue()
            from taskflow.adapters.queue.local import LocalTaskQueue

            return LocalTaskQueue(
                clock,
                # The lease decides who owns a task; the message stays hidden a little longer than it.
                visibility_timeout_seconds=settings.lease_seconds * 2,
                starvation_every=settings.starvation_every,
            )
        case "sqs":
            from taskflow.adapters.queue.sqs.client import sqs_clients
            from taskflow.adapters.queue.sqs.queue import SQSTaskQueue

            names = _queue_names(settings)
            serves = _served(settings, names) if works else ()
            return SQSTaskQueue(
                sqs_clients(
                    region=settings.aws_region,
                    threads=settings.num_workers + settings.queue_max_sends,
                    receivers=len(serves),
                ),
                names,
                visibility_timeout_seconds=settings.lease_seconds * 2,
                serves=serves,
                starvation_every=settings.starvation_every,
                wait_seconds=settings.queue_poll_seconds,
            )
        case never:
            assert_never(never)


def _served(settings: Settings, names: QueueNames) -> list[int]:
    """The queues that a worker here receives from. Raises ConfigurationError if there are none."""
    from taskflow.adapters.queue.sqs.names import queue_of

    kinds = {"ordinary": [False], "long": [True], "all": [False, True]}[settings.worker_queues]
    priorities = sorted(settings.priorities or map(int, TaskPriority))
    wanted = [queue_of(priority, is_long=kind) for priority in priorities for kind in kinds]
    served = [queue for queue in wanted if queue in names.queues]
    if not served:
        raise ConfigurationError(
            "TASKFLOW_WORKER_QUEUES=long, but no task is a long one: set TASKFLOW_LONG_TASK_SECONDS, "
            "the same for all processes"
        )
    return served


def provision_queues(settings: Settings) -> dict[str, bool]:
    """Make each priority's queue and dead-letter queue, or set their attributes right. Which of them are new.

    Raises ConfigurationError, QueueUnavailableError.
    """
    from taskflow.adapters.queue.sqs.client import sqs_client
    from taskflow.adapters.queue.sqs.provision import provision

    client = sqs_client(region=settings.aws_region)
    try:
        return provision(
            client,
            _queue_names(settings),
            visibility_timeout_seconds=settings.lease_seconds * 2,
        )
    finally:
        client.close()


def _queue_names(settings: Settings) -> QueueNames:
    from taskflow.adapters.queue.sqs.names import QueueNames

    return QueueNames(
        settings.queue_prefix,
        {
            TaskPriority.CRITICAL: settings.queue_url_critical,
            TaskPriority.HIGH: settings.queue_url_high,
            TaskPriority.NORMAL: settings.queue_url_normal,
            TaskPriority.LOW: settings.queue_url_low,
        },
        long_task_seconds=settings.long_task_seconds,
    )


def build_event_queue(settings: Settings, clock: Clock) -> EventQueue:
    """For a Lambda function that SQS calls. Raises ConfigurationError when the queue is not SQS."""
    if settings.resolved_queue_backend != "sqs":
        raise ConfigurationError(
            "a function that messages are brought to needs TASKFLOW_QUEUE_BACKEND=sqs (or TASKFLOW_BACKEND=aws)"
        )
    from taskflow.adapters.queue.sqs.client import sqs_client
    from taskflow.adapters.queue.sqs.event_messages import EventMessages
    from taskflow.adapters.queue.sqs.event_queue import SQSEventQueue

    return SQSEventQueue(
        build_queue(settings, clock, works=False),
        EventMessages(lambda: sqs_client(region=settings.aws_region), _queue_names(settings)),
        monotonic=clock.monotonic,
    )
