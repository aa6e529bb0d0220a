"""Artifacts: handlers put them, everybody who may see the task reads them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from taskflow.core.artifacts import Artifact, checked_content_type, checked_name
from taskflow.core.errors import (
    ArtifactNotFoundError,
    CommitUnknownError,
    PayloadMissingError,
    PayloadTooLargeError,
    StoreUnavailableError,
    TaskFlowError,
    TaskNotFoundError,
)
from taskflow.core.ids import is_uuid
from taskflow.ports.metadata import (
    ArtifactStore,
    ClaimedTask,
    NewArtifact,
    StoredArtifact,
    TaskKey,
)
from taskflow.services.payloads import Payloads

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_List = list  # inside a class with a method `list` the name no longer means the type


def _unique() -> str:
    return secrets.token_hex(8)


class Artifacts:
    """Thread safe. Every object has a key of its own, named in the row only: whoever reads gets the old content or the
    new, and an attempt that dies between writing both leaves an object that `taskflow doctor` removes, nothing else."""

    def __init__(
        self,
        store: ArtifactStore,
        payloads: Payloads,
        *,
        max_bytes: int,
        most: int,
        unique: Callable[[], str] = _unique,
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._most = most
        self._unique = unique
        self.max_bytes = max_bytes

    def put(self, task: ClaimedTask, name: str, data: bytes, content_type: str | None) -> None:
        """Durable once this returns. Raises InvalidRequestError (name, content type, number), PayloadTooLargeError,
        LeaseLostError when the attempt is not the task's any more, StoreUnavailableError."""
        checked_name(name)
        kind = checked_content_type(content_type, name)
        check_size(name, len(data), self.max_bytes)
        key = f"{task.tenant_id}/artifact/{task.task_id}.{task.lease_token:x}-{self._unique()}"
        self._payloads.put({key: data})
        new = NewArtifact(
            task.tenant_id,
            task.task_id,
            task.lease_token,
            task.attempt,
            name,
            key,
            len(data),
            kind,
        )
        try:
            [answer] = self._store.add([new], most=self._most)
        except CommitUnknownError:
            raise  # the row may be there; if it is not, the doctor finds the object
        except StoreUnavailableError:
            self._payloads.forget([key])
            raise
        if isinstance(answer, TaskFlowError):
            self._payloads.forget([key])
            raise answer
        if answer is not None:
            self._payloads.forget([answer])

    def list(self, tenant_id: str, task_id: str) -> _List[Artifact]:
        """By name, whatever became of the task. Raises TaskNotFoundError."""
        return [self._shown(stored) for stored in self._stored(_key(tenant_id, task_id))]

    def find(self, tenant_id: str, task_id: str, name: str) -> Artifact:
        """Raises TaskNotFoundError, ArtifactNotFoundError."""
        return self._shown(self._find(_key(tenant_id, task_id), name))

    def get(self, tenant_id: str, task_id: str, name: str) -> bytes:
        """Raises TaskNotFoundError, ArtifactNotFoundError, PayloadMissingError, PayloadCorruptError."""
        key = _key(tenant_id, task_id)
        stored = self._find(key, name)
        while True:
            try:
                return self._payloads.read(stored.artifact_key)
            except PayloadMissingError:
                # Replaced or purged since the row was read?
                again = self._find(key, name)
                if again.artifact_key == stored.artifact_key:
                    raise
                stored = again

    def _find(self, key: TaskKey, name: str) -> StoredArtifact:
        for stored in self._stored(key):
            if stored.name == name:
                return stored
        raise ArtifactNotFoundError(f"task {key.task_id} has no artifact {name!r:.80}")

    def _stored(self, key: TaskKey) -> _List[StoredArtifact]:
        stored = self._store.list(key)
        if stored is None:
            raise TaskNotFoundError(f"there is no task {key.task_id!r}")
        return stored

    def _shown(self, stored: StoredArtifact) -> Artifact:
        return Artifact(
            name=stored.name,
            size_bytes=stored.size_bytes,
            content_type=stored.content_type,
            attempt=stored.attempt,
            created_at=_EPOCH + timedelta(microseconds=stored.created_at),
            url=self._payloads.url(
                stored.artifact_key, content_type=stored.content_type, filename=stored.name
            ),
        )


def check_size(name: str, size: int, max_bytes: int) -> None:
    """Raises PayloadTooLargeError; both in bytes."""
    if size > max_bytes:
        raise PayloadTooLargeError(
            f"artifact {name}: {size} bytes, more than TASKFLOW_MAX_ARTIFACT_BYTES ({max_bytes})",
            fields=[{"field": "data", "message": f"at most {max_bytes} bytes"}],
        )


def _key(tenant_id: str, task_id: str) -> TaskKey:
    if not is_uuid(task_id):
        raise TaskNotFoundError(f"there is no task {task_id[:64]!r}")
    return TaskKey(tenant_id, task_id)
