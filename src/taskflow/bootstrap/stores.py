"""The metadata store: its connections, its schema, and what its readers see of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskflow.core.errors import ConfigurationError
from taskflow.ports.clock import Clock
from taskflow.ports.inspection import InspectionStore
from taskflow.ports.liveness import Liveness
from taskflow.ports.metadata import (
    ArtifactStore,
    ExecutionStore,
    InsightStore,
    MaintenanceStore,
    OutboxStore,
    ResendStore,
    RetentionStore,
    SubmissionStore,
    TaskStore,
    WorkerStore,
)
from taskflow.settings import Settings

if TYPE_CHECKING:
    from taskflow.adapters.metadata.database import Database

_TOKEN_BITS = 62  # a lease token is unique per claim, and fits a signed 64-bit column


@dataclass(frozen=True)
class Stores:
    """The metadata store, by reader."""

    submissions: SubmissionStore
    execution: ExecutionStore
    outbox: OutboxStore
    resending: ResendStore
    retention: RetentionStore
    tasks: TaskStore
    workers: WorkerStore
    insights: InsightStore
    maintenance: MaintenanceStore
    inspection: InspectionStore
    artifacts: ArtifactStore


def build_stores(database: Database, new_id: Callable[[], str]) -> Stores:
    from taskflow.adapters.metadata.artifacts import SqlArtifacts
    from taskflow.adapters.metadata.dependents import Dependents
    from taskflow.adapters.metadata.execution import SqlExecution
    from taskflow.adapters.metadata.insights import SqlInsights
    from taskflow.adapters.metadata.inspection import SqlInspection
    from taskflow.adapters.metadata.journal import Journal
    from taskflow.adapters.metadata.maintenance import SqlMaintenance
    from taskflow.adapters.metadata.new_tasks import NewTasks
    from taskflow.adapters.metadata.outbox import SqlOutbox
    from taskflow.adapters.metadata.resending import SqlResending
    from taskflow.adapters.metadata.retention import SqlRetention
    from taskflow.adapters.metadata.submissions import SqlSubmissions
    from taskflow.adapters.metadata.tasks import SqlTasks
    from taskflow.adapters.metadata.workers import SqlWorkers

    journal = Journal(database, new_id)
    dependents = Dependents(database, journal)

    def new_token() -> int:
        return secrets.randbits(_TOKEN_BITS)

    return Stores(
        submissions=SqlSubmissions(database, NewTasks(database, journal, new_token)),
        execution=SqlExecution(database, journal, dependents, new_token),
        outbox=SqlOutbox(database, journal),
        resending=SqlResending(database, journal),
        retention=SqlRetention(database, journal),
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


def build_liveness(settings: Settings, database: Database) -> Liveness:
    from taskflow.adapters.liveness.files import FileLiveness, UnknownLiveness

    return FileLiveness(settings.home / "workers") if database.is_sqlite else UnknownLiveness()
