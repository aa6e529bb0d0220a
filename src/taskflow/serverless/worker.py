"""Runs the tasks that the messages of one SQS event name, with the worker that all processes use.

The worker lives as long as the invocation: Lambda freezes what is left between two of them, and a frozen thread may
hold a transaction.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskflow.core.errors import ConfigurationError, TaskFlowError
from taskflow.logs import bound_contextvars, get_logger
from taskflow.serverless.container import Container, Context, remaining_seconds, seconds_to_answer
from taskflow.serverless.events import answer, ids_of, records_of
from taskflow.worker.options import WorkerOptions
from taskflow.worker.worker import Worker

log = get_logger(__name__)

_START_SECONDS = 2.0  # until the first task runs
# Before the function's end, or half of the margin if that is less: messages are given back, whatever is still going on.
_SETTLE_SECONDS = 1.0


class WorkerFunction:
    """Never raises: an error of the function would make Lambda slow down the whole queue.

    Making it raises ConfigurationError.
    """

    def __init__(self, container: Container) -> None:
        if not container.settings.num_workers:
            raise ConfigurationError(
                "a function that may run nothing at once: set TASKFLOW_NUM_WORKERS to 1 or more"
            )
        self._container = container
        self._queue = container.events
        self._longest_seconds = 0.0  # a whole invocation, as far as seen
        container.warm_up()

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """The partial batch response: the messages that are to come back."""
        records = records_of(event)
        with bound_contextvars(aws_request_id=context.aws_request_id):
            try:
                return answer(self._run(records, context))
            except Exception:
                log.exception("lambda.event_failed", messages=len(records))
                return answer(ids_of(records))
            finally:
                self._container.write_metrics()

    def _run(self, records: Sequence[Mapping[str, Any]], context: Context) -> list[str]:
        container, queue = self._container, self._queue
        monotonic = container.clock.monotonic
        remaining = remaining_seconds(context)
        margin: float = container.settings.lambda_margin_seconds
        seconds = remaining - margin
        ends_at = monotonic() + seconds
        # Functions have whole seconds, of which the first milliseconds are always gone by now.
        whole = math.ceil(remaining) - margin - _START_SECONDS
        self._longest_seconds = max(self._longest_seconds, whole)
        queue.begin(records)
        try:
            if seconds <= 0:
                raise ConfigurationError(
                    f"the function has {remaining_seconds(context):.1f} s, of which "
                    f"TASKFLOW_LAMBDA_MARGIN_SECONDS keeps {container.settings.lambda_margin_seconds:g}"
                )
            runtime = container.runtime()
        except TaskFlowError as exc:
            log.error("lambda.not_ready", code=exc.code, error=exc.detail, messages=len(records))
            queue.give_up()
            return queue.end(seconds_to_answer(context))
        options = WorkerOptions.from_settings(container.settings)
        worker = Worker(
            runtime.execution,
            queue=queue,
            registry=runtime.registry,
            clock=container.clock,
            workers=None,  # it will be gone before anybody reads of it; attempts name it
            options=replace(
                options, ends_at=ends_at, longest_timeout_seconds=self._longest_seconds
            ),
            on_abandoned=runtime.counters.abandoned,
            on_claim_failed=queue.give_up,
        )
        worker.start()
        try:
            queue.wait_until_settled(ends_at - monotonic())
        finally:
            self._stop(worker, ends_at - monotonic(), context)
        return queue.end(seconds_to_answer(context))

    def _stop(self, worker: Worker, grace_seconds: float, context: Context) -> None:
        """In a thread: when the store hangs, the messages must still be given back before the function's end."""
        stopping = threading.Thread(
            target=worker.stop, kwargs={"grace_seconds": max(0.0, grace_seconds)}, daemon=True
        )
        stopping.start()
        settle_seconds = min(_SETTLE_SECONDS, self._container.settings.lambda_margin_seconds / 2)
        stopping.join(max(0.0, remaining_seconds(context) - settle_seconds))
        if stopping.is_alive():
            log.error("lambda.worker_hangs")
