"""What a worker does with the store and the queue: start attempts, keep their leases, write down how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from taskflow import logs
from taskflow.core.classification import describe
from taskflow.core.errors import (
    InvalidResultError,
    PayloadTooLargeError,
    UnknownTaskError,
)
from taskflow.core.ids import is_uuid
from taskflow.core.registry import Handler, Registry
from taskflow.core.results import result_text
from taskflow.core.task import FINAL, ErrorClass, TaskStatus
from taskflow.ports.metadata import (
    ClaimedTask,
    ExecutionStore,
    HeartbeatResult,
    Lease,
    Outcome,
    StartNow,
    TaskKey,
    Unclaimed,
)
from taskflow.ports.queue import Delivery, TaskQueue
from taskflow.services.artifacts import Artifacts
from taskflow.services.attempt_log import log_end, log_fenced
from taskflow.services.conclusion import Conclusion
from taskflow.services.counters import Counters
from taskflow.services.payloads import Payloads
from taskflow.services.verdicts import Verdicts

log = logs.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Attempt:
    """One start of one task on this worker. ``handler`` None: the task is not registered in this process."""

    task: ClaimedTask
    receipt: str
    handler: Handler[..., Any] | None


class Execution:
    """Thread safe. Everything takes and returns batches; each call is at most one transaction."""

    def __init__(
        self,
        store: ExecutionStore,
        *,
        worker_id: str,
        queue: TaskQueue,
        registry: Registry,
        payloads: Payloads,
        artifacts: Artifacts,
        conclusion: Conclusion,
        counters: Counters,
        verdicts: Verdicts,
        lease_seconds: float,
    ) -> None:
        self.worker_id = worker_id
        self.artifacts = artifacts
        self._store = store
        self._queue = queue
        self._registry = registry
        self._payloads = payloads
        self._conclusion = conclusion
        self._counters = counters
        self._verdicts = verdicts
        self._lease_seconds = lease_seconds

    def start(
        self, deliveries: Sequence[Delivery], *, most_suspects: int | None = None
    ) -> list[Attempt]:
        """Claim what was delivered. What cannot start is forgotten or hidden until it is due; so are for a moment all
        but ``most_suspects`` of the tasks that were running when a worker died. What names no task is put away: no
        store could look for it, and the whole batch would fail with it.

        Raises StoreUnavailableError; the messages come back after their visibility timeout, or nack them.
        """
        if nameless := [one for one in deliveries if not _names_a_task(one)]:
            self._queue.dead_letter([one.receipt for one in nameless], "it names no task")
            deliveries = [one for one in deliveries if _names_a_task(one)]
        by_key = {
            TaskKey(delivery.tenant_id, delivery.task_id): delivery for delivery in deliveries
        }
        result = self._store.claim(
            list(by_key),
            worker_id=self.worker_id,
            lease_seconds=self._lease_seconds,
            most_suspects=most_suspects,
        )
        if len(result.tasks) < len(deliveries):
            self._put_back(deliveries, by_key, result.unclaimed)
        return self.started(result.tasks, by_key)

    def start_now(self, keys: Sequence[TaskKey]) -> StartNow:
        """How their submission claims them for this worker; `started` follows."""
        return StartNow(keys, self.worker_id, self._lease_seconds)

    def started(
        self, tasks: Sequence[ClaimedTask], deliveries: Mapping[TaskKey, Delivery]
    ) -> list[Attempt]:
        """The attempts of tasks that have been claimed for this worker."""
        waits: dict[tuple[str, int], list[float]] = {}
        attempts = []
        for task in tasks:
            receipt = deliveries[TaskKey(task.tenant_id, task.task_id)].receipt
            attempts.append(Attempt(task, receipt, self._registry.find(task.task)))
            wait_ms = max(0, task.started_at - task.run_at) / 1000
            waits.setdefault((task.task, task.priority), []).append(wait_ms)
        self._counters.started(waits)
        return attempts

    def _put_back(
        self,
        deliveries: Sequence[Delivery],
        by_key: Mapping[TaskKey, Delivery],
        unclaimed: Sequence[Unclaimed],
    ) -> None:
        """Forget or hide what was not started. Never raises: the others have been started by now."""
        unknown = [one.key.task_id for one in unclaimed if not one.is_known]
        if unknown and self._queue.durable:
            # Deleted meanwhile, which is rare; or the messages of another store go to us, whose tasks wait for them.
            log.warning(
                "message.task_unknown",
                count=len(unknown),
                task_id=unknown[0],
                hint="does another store use these queues (TASKFLOW_QUEUE_PREFIX, TASKFLOW_DATABASE_URL)?",
            )
        gone = [by_key[u.key].receipt for u in unclaimed if u.retry_in_seconds is None]
        kept = {delivery.receipt for delivery in by_key.values()}
        gone += [delivery.receipt for delivery in deliveries if delivery.receipt not in kept]
        try:
            if gone:
                self._queue.ack(gone)
            for key, seconds, _ in unclaimed:
                if seconds is not None:
                    delay = min(seconds, self._queue.max_delay_seconds)
                    self._queue.nack([by_key[key].receipt], delay_seconds=delay)
        except Exception:  # they come back after their visibility timeout
            log.exception("queue.not_put_back", count=len(gone))

    def arguments(self, attempt: Attempt) -> tuple[list[Any], dict[str, Any]]:
        """Loaded, validated and converted. Raises UnknownTaskError, InvalidArgumentsError, PayloadMissingError, …"""
        task, handler = attempt.task, attempt.handler
        if handler is None:
            raise UnknownTaskError(f"no task is registered as {task.task!r} in this worker")
        text = task.arguments
        if text is None:
            key = task.input_key or ""
            text = self._payloads.load([key])[key]
        args, kwargs = orjson.loads(text)
        return handler.signature.call_arguments(args, kwargs)

    # --- how it ended ---------------------------------------------------------------------------

    def succeeded(self, attempt: Attempt, value: Any, duration_ms: float) -> Outcome:
        """The outcome of a handler that returned ``value``; a value that cannot be stored fails the attempt.

        Raises StoreUnavailableError when a large result cannot be put away now.
        """
        task = attempt.task
        result: str | None = "null"
        result_key: str | None = None
        if value is not None:
            # A name of its own for each lease: a worker that lost it must not overwrite the payload of its successor.
            name = f"{task.task_id}.{task.lease_token:x}"
            try:
                text = result_text(value)
                result, result_key, body = self._payloads.place(
                    task.tenant_id, "result", name, text
                )
            except (InvalidResultError, PayloadTooLargeError) as exc:
                return self.failed(attempt, exc, duration_ms)
            if result_key is not None:
                self._payloads.put({result_key: body})
        return Outcome(
            task.tenant_id,
            task.task_id,
            task.lease_token,
            TaskStatus.COMPLETED,
            task.attempt,
            duration_ms,
            result,
            result_key,
        )

    def failed(self, attempt: Attempt, exc: BaseException, duration_ms: float) -> Outcome:
        """The outcome of an attempt that raised, timed out, crashed or was cancelled: retried, or dead-lettered."""
        return self._verdicts.outcome(
            attempt.task, exc, attempt.handler, duration_ms=duration_ms, again=TaskStatus.RETRYING
        )

    def given_back(self, attempt: Attempt) -> Outcome:
        """The outcome of an attempt that was not started, or that a stopping worker lets go: nothing is used up."""
        task = attempt.task
        return Outcome(
            task.tenant_id,
            task.task_id,
            task.lease_token,
            TaskStatus.PENDING,
            task.attempt - 1,
            0.0,
        )

    def postponed(self, attempt: Attempt, exc: BaseException, *, delay_seconds: float) -> Outcome:
        """The outcome of an attempt that could not begin because a part of ours was away: repeated until it can, with
        nothing used up, however long that takes."""
        error = describe(exc, ErrorClass.TRANSIENT)
        return self.given_back(attempt)._replace(
            status=TaskStatus.RETRYING,
            error=error.model_dump_json(exclude_none=True),
            retry_delay_seconds=delay_seconds,
        )

    def finish(self, done: Sequence[tuple[Attempt, Outcome]]) -> frozenset[Outcome]:
        """Write all of it in one transaction, then acknowledge, send, tell those who wait, count and log.

        Outcomes whose lease had been lost are dropped. Returns those that could not be written yet, since somebody
        else's transaction holds their tasks, or some that fail with them: give them again. Raises
        StoreUnavailableError; safe to repeat.
        """
        outcomes = [outcome for _, outcome in done]
        result = self._conclusion.commit(outcomes, [attempt.receipt for attempt, _ in done])
        locked = frozenset(result.locked)
        fenced = frozenset(result.fenced)
        if fenced:
            self._counters.fenced(len(fenced))
        ended = set(result.ended)
        runs: dict[tuple[str, str], list[float]] = {}
        errors: dict[tuple[str, str], int] = {}
        for attempt, outcome in done:
            task = attempt.task
            key = (task.tenant_id, task.task_id)
            if locked and outcome in locked:
                continue
            if fenced and outcome in fenced:
                log_fenced(task)
                continue
            status = outcome.status
            if status not in FINAL and key in ended:
                status = TaskStatus.CANCELLED  # asked for while it ran: it is not run again
            runs.setdefault((task.task, status.value), []).append(outcome.duration_ms)
            if outcome.error is not None:
                kind = (orjson.loads(outcome.error)["classification"], status.value)
                errors[kind] = errors.get(kind, 0) + 1
            log_end(task, outcome, status)
        self._counters.finished(runs, errors)
        return locked

    # --- meanwhile ------------------------------------------------------------------------------

    def heartbeat(
        self, attempts: Sequence[Attempt], progress: Mapping[str, tuple[float, str | None]]
    ) -> HeartbeatResult:
        """Extend leases, write ``progress`` by task id, bring back who is cancelled or lost."""
        leases = [
            Lease(
                a.task.tenant_id,
                a.task.task_id,
                a.task.lease_token,
                *progress.get(a.task.task_id, (None, None)),
            )
            for a in attempts
        ]
        return self._store.heartbeat(leases, lease_seconds=self._lease_seconds)

    def keep_hidden(self, attempts: Sequence[Attempt]) -> None:
        """Extend the visibility timeout of their messages, as `heartbeat` extends their leases."""
        if attempts:
            self._queue.extend([a.receipt for a in attempts], self._lease_seconds)


def _names_a_task(delivery: Delivery) -> bool:
    """PostgreSQL takes nothing else for an id, and no NUL in a text."""
    return is_uuid(delivery.task_id) and "\0" not in delivery.tenant_id
