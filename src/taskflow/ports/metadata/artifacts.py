"""The files that handlers left with their tasks."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from taskflow.core.errors import TaskFlowError
from taskflow.ports.metadata.keys import TaskKey


class NewArtifact(NamedTuple):
    """A file that an attempt has put into the payload store, as ``artifact_key``."""

    tenant_id: str
    task_id: str
    lease_token: int
    attempt: int
    name: str
    artifact_key: str
    size_bytes: int
    content_type: str


class StoredArtifact(NamedTuple):
    name: str
    artifact_key: str
    size_bytes: int
    content_type: str
    attempt: int
    created_at: int


class ArtifactStore(Protocol):
    """Which artifacts a task has. They go with the task (`RetentionStore.purge`)."""

    def add(
        self, artifacts: Sequence[NewArtifact], *, most: int
    ) -> builtins.list[str | TaskFlowError | None]:
        """Write each under its name, in place of what was there, while its attempt holds the lease.

        Answers in order: the key of what was replaced (None: nothing was), LeaseLostError, or InvalidRequestError for
        one more than ``most`` of a task.
        """
        ...

    def list(self, key: TaskKey) -> builtins.list[StoredArtifact] | None:
        """By name; None when there is no such task."""
        ...
