"""The factory: builds everything from settings. The only module that names adapters.

Imports are local, so that one backend never pays for another.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from taskflow.core.errors import ConfigurationError
from taskflow.core.ids import UUID7
from taskflow.core.registry import Registry
from taskflow.core.registry import registry as default_registry
from taskflow.core.retry import RetryPolicy
from taskflow.core.task import TaskPriority
from taskflow.ports.clock import Clock
from taskflow.ports.events import EventQueue
from taskflow.ports.http import HttpSender
from taskflow.ports.inspection import InspectionStore
from taskflow.ports.liveness import Liveness
from taskflow.ports.mail import MailSender
from taskflow.ports.metadata import (
    ArtifactStore,
    ExecutionStore,
    InsightStore,
    MaintenanceStore,
    OutboxStore,
    SubmissionStore,
    TaskStore,
    WorkerStore,
)
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
from taskflow.services.recovery import Recovery
from taskflow.services.relay import Relay
from taskflow.services.retention import Retention
from taskflow.services.sending import Sending
from taskflow.services.submission import Submissions
from taskflow.services.tasks import Tasks
from taskflow.services.verdicts import Verdicts
from taskflow.settings import Settings

if TYPE_CHECKING:
    from taskflow.adapters.metadata.database import Database
    from taskflow.adapters.queue.sqs.names import QueueNames

_TOKEN_BITS = 62  # a lease token is unique per claim, and fits a signed 64-bit column


@dataclass(frozen=True)
class Stores:
    """The metadata store, by reader."""

    submissions: SubmissionStore
    execution: ExecutionStore
    outbox: OutboxStore
    tasks: TaskStore
    workers: WorkerStore
    insights: InsightStore
    maintenance: MaintenanceStore
    inspection: InspectionStore
    artifacts: ArtifactStore


@dataclass(frozen=True)
class Runtime:
    """One process's TaskFlow, wired. `close` it when done."""

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
    submissions: Submissions
    tasks: Tasks
    artifacts: Artifacts
    dead_letters: DeadLetters
    execution: Execution
    relay: Relay
    recovery: Recovery
    retention: Retention
    insights: Insights
    database: Database

    def close(self) -> None:
        """Commits what is being submitted, then lets go of everything. Workers must have been stopped before."""
        with ExitStack() as closing:  # one that fails does not keep the others open
            closing.callback(self.database.close)
            closing.callback(self.liveness.release, self.worker_id)
            closing.callback(self.payloads.close)
            closing.callback(self.queue.close)
            closing.callback(self.submissions.close)


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    registry: Registry = default_registry,
    with_worker: bool | None = None,
    queue: TaskQueue | None = None,
    rng: random.Random | None = None,
) -> Runtime:
    """Open (and create or migrate) the store, and wire every service.

    The runtime's registry is ``registry`` with the built-in handlers beneath it. ``with_worker``: whether this process
    will run workers (default: ``settings.num_workers > 0``). One that will not leaves its messages in the outbox for a
    process that does. ``queue``: one that is there already, instead of the settings' (`build_event_queue`).

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
) -> Runtime:
    from taskflow.handlers import register_builtin_handlers

    http = build_http_sender(settings)
    register_builtin_handlers(
        registry,
        http=http,
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
    counters, completions = Counters(), Completions()
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
    sending = Sending(queue, stores.outbox)
    conclusion = Conclusion(stores.execution, queue, sending, completions)
    verdicts = Verdicts(
        clock=clock,
        rng=rng,
        max_crashes=settings.max_crashes,
        default_policy=RetryPolicy(
            base_seconds=settings.retry_base_seconds, cap_seconds=settings.retry_cap_seconds
        ),
    )
    tasks = Tasks(stores.tasks, payloads=payloads, sending=sending, completions=completions)
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
        submissions=Submissions(
            stores.submissions,
            registry=registry,
            payloads=payloads,
            sending=sending,
            completions=completions,
            counters=counters,
            new_id=new_id,
            default_max_retries=settings.default_max_retries,
            default_timeout_seconds=settings.default_timeout,
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
            stores.tasks,
            payloads,
            insights=stores.insights,
            now_us=database.now,
            keep_days=settings.retention_days,
        ),
        insights=Insights(stores.insights, workers=stores.workers, queue=queue, counters=counters),
        database=database,
    )


def build_clock() -> Clock:
    from taskflow.adapters.clock.system import SystemClock

    return SystemClock()


def build_stores(database: Database, new_id: Callable[[], str]) -> Stores:
    from taskflow.adapters.metadata.artifacts import SqlArtifacts
    from taskflow.adapters.metadata.dependents import Dependents
    from taskflow.adapters.metadata.execution import SqlExecution
    from taskflow.adapters.metadata.insights import SqlInsights
    from taskflow.adapters.metadata.inspection import SqlInspection
    from taskflow.adapters.metadata.journal import Journal
    from taskflow.adapters.metadata.maintenance import SqlMaintenance
    from taskflow.adapters.metadata.outbox import SqlOutbox
    from taskflow.adapters.metadata.submissions import SqlSubmissions
    from taskflow.adapters.metadata.tasks import SqlTasks
    from taskflow.adapters.metadata.workers import SqlWorkers

    journal = Journal(database, new_id)
    dependents = Dependents(database, journal)
    return Stores(
        submissions=SqlSubmissions(database, journal),
        execution=SqlExecution(
            database, journal, dependents, lambda: secrets.randbits(_TOKEN_BITS)
        ),
        outbox=SqlOutbox(database, journal),
        tasks=SqlTasks(database, journal, dependents),
        workers=SqlWorkers(database),
        insights=SqlInsights(database),
        maintenance=SqlMaintenance(database),
        inspection=SqlInspection(database, journal, dependents),
        artifacts=SqlArtifacts(database),
    )


def build_database(settings: Settings, clock: Clock, *, process: str | None = None) -> Database:
    """The migrated store. ``process``: the id of the worker that connects (None: a process without workers)."""
    from taskflow.adapters.metadata.migrate import migrate

    database = _open_database(settings, clock, process)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def migrate_store(settings: Settings, clock: Clock) -> tuple[str | None, str]:
    """Only that. Returns the revision there was before (None: the store was empty) and the one there is now.

    Raises StoreVersionError when the store was written by a newer TaskFlow, StoreUnavailableError.
    """
    from taskflow.adapters.metadata.migrate import HEAD, migrate

    database = _open_database(settings, clock, None)
    try:
        return migrate(database), HEAD
    finally:
        database.close()


def _open_database(settings: Settings, clock: Clock, process: str | None) -> Database:
    from taskflow.adapters.metadata.database import Database
    from taskflow.adapters.metadata.postgresql import PostgresqlOptions
    from taskflow.adapters.metadata.secret import secrets_manager_credentials

    arn = settings.database_secret_arn
    if settings.backend == "aws" and not (settings.database_url or arn):
        raise ConfigurationError(
            "TASKFLOW_BACKEND=aws needs a database: TASKFLOW_DATABASE_URL or TASKFLOW_DATABASE_SECRET_ARN"
        )
    # The end of an id is what tells workers apart, and PostgreSQL shows 63 bytes of a name.
    name = f"taskflow-worker {process[-47:]}" if process else "taskflow-api"
    return Database(
        settings.resolved_database_url,
        clock=clock,
        busy_timeout_seconds=settings.database_busy_timeout_seconds,
        postgresql=PostgresqlOptions(
            application_name=name,
            pool_size=settings.database_pool_size,
            max_overflow=settings.database_max_overflow,
            pool_timeout_seconds=settings.database_pool_timeout_seconds,
            pool_recycle_seconds=settings.database_pool_recycle_seconds,
            connect_timeout_seconds=settings.database_connect_timeout_seconds,
            statement_timeout_seconds=settings.database_statement_timeout_seconds,
            tls=settings.database_tls,
            tls_root_cert=settings.database_tls_root_cert,
        ),
        credentials=secrets_manager_credentials(arn) if arn else None,
        replica_url=settings.database_replica_url,
    )


def build_queue(settings: Settings, clock: Clock, *, works: bool) -> TaskQueue:
    queue = _build_queue(settings, clock, works=works)
    if settings.chaos_seed:
        from taskflow.adapters.queue.chaos import ChaosQueue

        return ChaosQueue(queue, seed=settings.chaos_seed)
    return queue


def _build_queue(settings: Settings, clock: Clock, *, works: bool) -> TaskQueue:
    match settings.resolved_queue_backend:
        case "local":
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

            priorities = settings.priorities or frozenset(map(int, TaskPriority))
            serves = priorities if works else frozenset()
            return SQSTaskQueue(
                sqs_clients(
                    region=settings.aws_region,
                    threads=settings.num_workers,
                    receivers=len(serves),
                ),
                _queue_names(settings),
                visibility_timeout_seconds=settings.lease_seconds * 2,
                serves=serves,
                starvation_every=settings.starvation_every,
                wait_seconds=settings.queue_poll_seconds,
            )
        case never:
            assert_never(never)


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


def build_payload_store(settings: Settings) -> PayloadStore:
    match settings.resolved_payload_backend:
        case "files":
            from taskflow.adapters.payloads.files import FilePayloads

            return FilePayloads(settings.home / "payloads")
        case "s3":
            from taskflow.adapters.payloads.s3 import THREADS, S3Payloads
            from taskflow.adapters.payloads.s3_client import s3_client

            return S3Payloads(
                # Beside its own threads, those that carry a single object: slots, the finisher, requests.
                s3_client(
                    region=settings.aws_region, connections=2 * THREADS + settings.num_workers
                ),
                bucket=_bucket(settings),
                prefix=settings.s3_prefix,
                encryption=settings.s3_encryption,
                kms_key=settings.s3_kms_key or None,
            )
        case never:
            assert_never(never)


def provision_bucket(settings: Settings) -> bool:
    """Make the bucket with its encryption, public access block and lifecycle, or set these right. Whether it is new.

    Raises ConfigurationError, StoreUnavailableError.
    """
    from taskflow.adapters.payloads.s3_bucket import provision
    from taskflow.adapters.payloads.s3_client import s3_client

    bucket = _bucket(settings)
    client = s3_client(region=settings.aws_region, connections=1)
    try:
        return provision(
            client,
            bucket=bucket,
            prefix=settings.s3_prefix,
            region=settings.aws_region,
            encryption=settings.s3_encryption,
            kms_key=settings.s3_kms_key,
        )
    finally:
        client.close()


def _bucket(settings: Settings) -> str:
    if not settings.s3_bucket:
        raise ConfigurationError(
            "TASKFLOW_S3_BUCKET is not set; payloads in S3 (TASKFLOW_PAYLOAD_BACKEND, TASKFLOW_BACKEND) need a bucket"
        )
    return settings.s3_bucket


def build_liveness(settings: Settings, database: Database) -> Liveness:
    from taskflow.adapters.liveness.files import FileLiveness, UnknownLiveness

    return FileLiveness(settings.home / "workers") if database.is_sqlite else UnknownLiveness()


def build_http_sender(settings: Settings) -> HttpSender:
    from taskflow.adapters.http.sender import VettedHttpSender

    return VettedHttpSender(
        allow_private=settings.http_allow_private, max_body_bytes=settings.http_max_response_bytes
    )


def build_mail_sender(settings: Settings) -> MailSender:
    if settings.smtp_url:
        from taskflow.adapters.mail.smtp import SmtpMailSender

        return SmtpMailSender(settings.smtp_url)
    from taskflow.adapters.mail.folder import FolderMailSender

    return FolderMailSender(settings.home / "mailbox")
