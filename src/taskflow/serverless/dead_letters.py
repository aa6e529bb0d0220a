"""Takes up what SQS itself has moved to a dead-letter queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskflow.logs import bound_contextvars, get_logger
from taskflow.serverless.container import Container, Context, seconds_to_answer
from taskflow.serverless.events import answer, records_of
from taskflow.services.undelivered import Undelivered

log = get_logger(__name__)


class DeadLettersFunction:
    """Never raises. What cannot be decoded stays in the dead-letter queue, and is logged whenever it is received."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._queue = container.events
        container.warm_up()

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """The partial batch response: the messages that are to stay."""
        queue, records = self._queue, records_of(event)
        with bound_contextvars(aws_request_id=context.aws_request_id):
            queue.begin(records)
            try:
                deliveries = queue.dequeue(max_messages=len(records), timeout_seconds=0)
                if deliveries:
                    Undelivered(self._container.runtime().execution).take_over(deliveries)
            except Exception:  # they stay, and come back
                log.exception("lambda.event_failed", messages=len(records))
                queue.give_up()
            finally:
                self._container.write_metrics()
            return answer(queue.end(seconds_to_answer(context)))
