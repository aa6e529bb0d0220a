"""One tick of what otherwise a thread of each worker does: sending from the outbox, recovery, resending, retention."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from taskflow.core.errors import ConfigurationError, TaskFlowError
from taskflow.logs import bound_contextvars, get_logger
from taskflow.observability import catalogue
from taskflow.serverless.container import Container, Context, remaining_seconds
from taskflow.services.backlog import BacklogMeasurement

log = get_logger(__name__)


class MaintenanceFunction:
    """One job that fails keeps no other from running; the invocation fails after all of them, so that it is seen."""

    def __init__(self, container: Container) -> None:
        self._container = container
        container.warm_up()

    def __call__(self, event: Any, context: Context) -> dict[str, Any]:
        """How much each job did: ``{"relayed": 3, "recovered": 0, "resent": 0, "purged": 120}``.

        ``event`` may say ``{"resend_after_seconds": 60}``: what has waited that long gets a new message now, because
        the queues have lost theirs, or the database has been restored. Raises ConfigurationError when that is no
        number of seconds, and what the last job that failed raised.
        """
        silent_seconds = _resend_after(event)
        with bound_contextvars(aws_request_id=context.aws_request_id):
            try:
                return self._tick(context, silent_seconds)
            finally:
                self._container.write_metrics()

    def _measure(self, backlog: BacklogMeasurement) -> None:
        try:
            backlog.run()
        except TaskFlowError as exc:
            log.warning("metrics.not_measured", code=exc.code, error=exc.detail)

    def _tick(self, context: Context, silent_seconds: float | None) -> dict[str, Any]:
        runtime = self._container.runtime()
        margin: float = self._container.settings.lambda_margin_seconds

        def goes_on() -> bool:
            return remaining_seconds(context) > margin

        def recover() -> int:
            """Twice if a lease is in doubt: the next tick may come to another container, which has not seen it."""
            recovered = runtime.recovery.run_once(goes_on)
            doubt = runtime.recovery.undecided_seconds()
            if doubt and remaining_seconds(context) - margin > doubt:
                time.sleep(doubt)
                recovered += runtime.recovery.run_once(goes_on)
            return recovered

        jobs: dict[str, Callable[[], int]] = {
            "relayed": lambda: runtime.relay.drain(goes_on),
            "recovered": recover,
            "resent": lambda: runtime.resending.run_once(goes_on, silent_seconds=silent_seconds),
            "purged": lambda: runtime.retention.run_once(goes_on),
        }
        if runtime.backlog is not None:
            self._measure(runtime.backlog)  # before the jobs mend what there is to see
        done: dict[str, Any] = {}
        error: TaskFlowError | None = None
        for name, job in jobs.items():
            if not goes_on():
                log.warning("maintenance.out_of_time", job=name)
                break
            try:
                done[name] = job()
            except TaskFlowError as exc:
                log.error("maintenance.failed", job=name, code=exc.code, error=exc.detail)
                error = exc
        log.info("maintenance.done", **done)
        if error is not None:
            raise error
        if runtime.metrics is not None and len(done) == len(jobs):
            runtime.metrics.count(catalogue.HEARTBEAT)
        return done


def _resend_after(event: Any) -> float | None:
    seconds = event.get("resend_after_seconds") if isinstance(event, Mapping) else None
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < math.inf:
        raise ConfigurationError(f"resend_after_seconds: {seconds!r} is not a number of seconds")
    return float(seconds)
