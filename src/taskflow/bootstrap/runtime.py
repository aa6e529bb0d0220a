"""One process's TaskFlow: every service, wired."""

from __future__ import annotations

import random
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskflow.bootstrap.payloads import build_payload_store
from taskflow.bootstrap.queues import build_queue, queued_here
from taskflow.bootstrap.stores import Stores, build_database, build_liveness, build_stores
from taskflow.bootstrap.world import (
    build_clock,
    build_http_sender,
    build_mail_sender,
    build_metrics,
)
from taskflow.core.ids import UUID7
from taskflow.core.registry import Registry
from taskflow.core.registry import registry as default_registry
from taskflow.core.retry import RetryPolicy
from taskflow.ports.clock import Clock
from taskflow.ports.http import HttpSender
from taskflow.ports.liveness import Liveness
from taskflow.ports.payloads import PayloadStore
from taskflow.ports.queue import TaskQueue
from taskflow.services.artifacts import Artifacts
from taskflow.services.completions import Completions
from taskflow.services.conclusion import Conclusion
from taskflow.services.counters import Counters
from taskflow.services.dead_letters import DeadLetters
from taskflow.services.execution import Execution
from taskflow.services.insights import Insights
from taskflow.services.payloads import Payloads
from taskflow.services.preparation import Preparation
from taskflow.services.recovery import Recovery
from taskflow.services.relay import Relay
from taskflow.services.resending import Resending
from taskflow.services.retention import Retention
from taskflow.services.sending import Sending
from taskflow.services.submission import Submissions
from taskflow.services.tasks import Tasks
from taskflow.services.verdicts import Verdicts
from taskflow.settings import Settings

if TYPE_CHECKING:
    from taskflow.adapters.metadata.database import Database
    from taskflow.observability.metrics import Metrics
    from taskflow.services.backlog import BacklogMeasurement


@dataclass(frozen=True)
class Runtime:
    """One process's TaskFlow, wired. `close` it when done. ``metrics`` (and ``backlog``) None: nobody wants them."""

    settings: Settings
    clock: Clock
    registry: Registry
    worker_id: str
    stores: Stores
    queue: TaskQueue
    payloads: PayloadStore
    liveness: Liveness
    http: HttpSender
    counters: Counters
    completions: Completions
    sending: Sending
    submissions: Submissions
    tasks: Tasks
    artifacts: Artifacts
    dead_letters: DeadLetters
    execution: Execution
    relay: Relay
    recovery: Recovery
    retention: Retention
    resending: Resending
    insights: Insights
    metrics: Metrics | None
    backlog: BacklogMeasurement | None
    database: Database

    def close(self) -> None:
        """Commits what is being submitted, then lets go of everything. Workers must have been stopped before."""
        with ExitStack() as closing:  # one that fails does not keep the others open
            closing.callback(self.database.close)
            closing.callback(self.liveness.release, self.worker_id)
            closing.callback(self.payloads.close)
            closing.callback(self.queue.close)
            closing.callback(self.sending.close)
            closing.callback(self.submissions.close)


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    registry: Registry = default_registry,
    with_worker: bool | None = None,
    queue: TaskQueue | None = None,
    rng: random.Random | None = None,
    service: str = "embedded",
) -> Runtime:
    """Open (and create or migrate) the store, and wire every service.

    The runtime's registry is ``registry`` with the built-in handlers beneath it. ``with_worker``: whether this process
    will run workers (default: ``settings.num_workers > 0``). One that will not leaves its messages in the outbox for a
    process that does. ``queue``: one that is there already, instead of the settings' (`build_event_queue`).
    ``service``: what kind of process its metrics are from.

    Raises ConfigurationError, StoreVersionError, StoreUnavailableError, StoreReadOnlyError, StoreCorruptError; nothing
    is left open then.
    """
    clock = clock or build_clock()
    works = settings.num_workers > 0 if with_worker is None else with_worker
    worker_id = settings.new_worker_id(secrets.token_hex(4))
    database = build_database(settings, clock, process=worker_id if works else None)
    try:
        return _wire(
            settings,
            database,
            clock=clock,
            registry=Registry(parent=registry),
            works=works,
            worker_id=worker_id,
            queue=queue or build_queue(settings, clock, works=works),
            rng=rng or random.Random(),
            service=service,
        )
    except BaseException:
        database.close()
        raise


def _wire(
    settings: Settings,
    database: Database,
    *,
    clock: Clock,
    registry: Registry,
    works: bool,
    worker_id: str,
    queue: TaskQueue,
    rng: random.Random,
    service: str,
) -> Runtime:
    from taskflow.handlers import register_builtin_handlers

    http = build_http_sender(settings)
    register_builtin_handlers(
        registry,
        http=http,
        http_max_redirects=settings.http_max_redirects,
        mail=build_mail_sender(settings),
        email_from=settings.email_from,
        clock=clock,
    )
    new_id = UUID7(lambda: clock.now_us() // 1_000)
    stores = build_stores(database, new_id)
    payload_store = build_payload_store(settings)
    liveness = build_liveness(settings, database)
    if works:
        liveness.hold(worker_id)
    metrics = build_metrics(settings, clock, service=service)
    counters, completions = Counters(metrics), Completions()
    payloads = Payloads(
        payload_store,
        inline_bytes=settings.inline_payload_bytes,
        max_bytes=settings.max_payload_bytes,
        url_seconds=settings.result_url_seconds,
    )
    artifacts = Artifacts(
        stores.artifacts,
        payloads,
        max_bytes=settings.max_artifact_bytes,
        most=settings.max_artifacts,
    )
    sending = Sending(
        queue,
        stores.outbox,
        patience_seconds=settings.queue_send_seconds,
        most_under_way=settings.queue_max_sends,
    )
    conclusion = Conclusion(stores.execution, queue, sending, completions, counters)
    verdicts = Verdicts(
        clock=clock,
        rng=rng,
        max_crashes=settings.max_crashes,
        max_uncounted_attempts=settings.max_uncounted_attempts,
        default_policy=RetryPolicy(
            base_seconds=settings.retry_base_seconds, cap_seconds=settings.retry_cap_seconds
        ),
    )
    tasks = Tasks(
        stores.tasks,
        payloads=payloads,
        sending=sending,
        completions=completions,
        counters=counters,
        is_queued=queued_here(queue),
    )
    relay = Relay(stores.outbox, queue)
    return Runtime(
        settings=settings,
        clock=clock,
        registry=registry,
        worker_id=worker_id,
        stores=stores,
        queue=queue,
        payloads=payload_store,
        liveness=liveness,
        http=http,
        counters=counters,
        completions=completions,
        sending=sending,
        submissions=Submissions(
            stores.submissions,
            preparation=Preparation(
                registry=registry,
                payloads=payloads,
                new_id=new_id,
                default_max_retries=settings.default_max_retries,
                default_timeout_seconds=settings.default_timeout,
            ),
            payloads=payloads,
            sending=sending,
            completions=completions,
            counters=counters,
            max_waiting=settings.max_queue_size,
        ),
        tasks=tasks,
        artifacts=artifacts,
        dead_letters=DeadLetters(stores.tasks, tasks, payloads=payloads, sending=sending),
        execution=Execution(
            stores.execution,
            worker_id=worker_id,
            queue=queue,
            registry=registry,
            payloads=payloads,
            artifacts=artifacts,
            conclusion=conclusion,
            counters=counters,
            verdicts=verdicts,
            lease_seconds=settings.lease_seconds,
        ),
        relay=relay,
        recovery=Recovery(
            stores.execution,
            workers=stores.workers,
            liveness=liveness,
            conclusion=conclusion,
            completions=completions,
            counters=counters,
            registry=registry,
            clock=clock,
            verdicts=verdicts,
            rebuild=relay.rebuild,
            confirm_seconds=settings.lease_seconds / 3,
        ),
        retention=Retention(
            stores.retention,
            payloads,
            insights=stores.insights,
            now_us=database.now,
            keep_days=settings.retention_days,
        ),
        resending=Resending(stores.resending, queue, silent_seconds=settings.queue_resend_seconds),
        insights=Insights(
            stores.insights,
            workers=stores.workers,
            queue=queue,
            counters=counters,
            now_us=database.now,
        ),
        metrics=metrics,
        backlog=_measurement(stores, metrics),
        database=database,
    )


def _measurement(stores: Stores, metrics: Metrics | None) -> BacklogMeasurement | None:
    if metrics is None:
        return None
    from taskflow.services.backlog import BacklogMeasurement

    return BacklogMeasurement(stores.insights, metrics)
