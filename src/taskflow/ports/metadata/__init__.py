"""The metadata store, one Protocol per reader. It is the truth about every task.

All moments are Unix microseconds of *database* time. Every method is one transaction; all raise StoreUnavailableError
(nothing was written; safe to repeat). Contract: tests/contract/metadata, on SQLite and PostgreSQL.
"""

from __future__ import annotations

from taskflow.ports.metadata.artifacts import ArtifactStore, NewArtifact, StoredArtifact
from taskflow.ports.metadata.execution import (
    ClaimedTask,
    ClaimResult,
    ExecutionStore,
    ExpireResult,
    FinishResult,
    HeartbeatResult,
    Lease,
    LostTask,
    Outcome,
    Unclaimed,
)
from taskflow.ports.metadata.insights import Backlog, InsightStore, TaskCounts
from taskflow.ports.metadata.keys import OutboxEntry, TaskKey
from taskflow.ports.metadata.maintenance import MaintenanceStore
from taskflow.ports.metadata.outbox import OutboxStore, ResendStore
from taskflow.ports.metadata.retention import RetentionStore
from taskflow.ports.metadata.submissions import InsertResult, StartNow, SubmissionStore
from taskflow.ports.metadata.tasks import (
    CancelResult,
    FailureGroup,
    RedriveResult,
    StoredTask,
    TaskFilter,
    TaskStore,
)
from taskflow.ports.metadata.workers import SILENT_SECONDS, WorkerRecord, WorkerStore

__all__ = [
    "SILENT_SECONDS",
    "ArtifactStore",
    "Backlog",
    "CancelResult",
    "ClaimResult",
    "ClaimedTask",
    "ExecutionStore",
    "ExpireResult",
    "FailureGroup",
    "FinishResult",
    "HeartbeatResult",
    "InsertResult",
    "InsightStore",
    "Lease",
    "LostTask",
    "MaintenanceStore",
    "NewArtifact",
    "OutboxEntry",
    "OutboxStore",
    "Outcome",
    "RedriveResult",
    "ResendStore",
    "RetentionStore",
    "StartNow",
    "StoredArtifact",
    "StoredTask",
    "SubmissionStore",
    "TaskCounts",
    "TaskFilter",
    "TaskKey",
    "TaskStore",
    "Unclaimed",
    "WorkerRecord",
    "WorkerStore",
]
