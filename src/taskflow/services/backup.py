"""Backup of the whole store into one file, and back: rows from one snapshot, and the payload objects they refer to."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from taskflow import __version__
from taskflow.core.errors import (
    BackupInvalidError,
    InvalidRequestError,
    PayloadCorruptError,
    PayloadMissingError,
    StoreFullError,
    StoreReadOnlyError,
)
from taskflow.ports.clock import Clock
from taskflow.ports.inspection import InspectionStore
from taskflow.ports.metadata import MaintenanceStore, WorkerStore
from taskflow.ports.payloads import PayloadStore
from taskflow.services import backup_file
from taskflow.services.backup_file import Header, PayloadObject, Record, Row

_TRANSIENT = frozenset({"workers"})  # tables about processes, not about tasks
_KEY_COLUMNS = ("input_key", "result_key", "artifact_key")
_LIVE_SECONDS = 60.0  # a worker that reported within this time is at work
_US = 1_000_000


class BackupReport(NamedTuple):
    """``damaged``: payload keys that rows refer to but the payload store could not give; they are not in the file."""

    path: Path
    header: Header
    damaged: list[str]


class Backups:
    """Thread safe. A backup may be made while tasks are submitted and run; a restore wants the store for itself."""

    def __init__(
        self,
        maintenance: MaintenanceStore,
        inspection: InspectionStore,
        workers: WorkerStore,
        payloads: PayloadStore,
        clock: Clock,
    ) -> None:
        self._maintenance = maintenance
        self._inspection = inspection
        self._workers = workers
        self._payloads = payloads
        self._clock = clock

    def default_name(self) -> str:
        """``taskflow-backup-20250131T120000Z.json``."""
        return f"taskflow-backup-{self._now():%Y%m%dT%H%M%SZ}.json"

    def backup(self, path: Path) -> BackupReport:
        """Write everything to ``path``, atomically; an existing file is replaced. Memory stays constant.

        Raises StoreReadOnlyError or StoreFullError when the file cannot be written, StoreUnavailableError.
        """
        damaged: list[str] = []
        try:
            header = backup_file.write(
                path,
                self._records(damaged),
                created_at=self._now().isoformat(),
                taskflow=__version__,
                schema_revision=self._inspection.schema_revision(),
            )
        except OSError as exc:
            kind = StoreFullError if exc.errno == errno.ENOSPC else StoreReadOnlyError
            raise kind(f"cannot write the backup {path}: {exc.strerror}") from exc
        return BackupReport(path, header, damaged)

    def verify(self, path: Path) -> Header:
        """Read the whole file and check that it can be restored here. Raises BackupInvalidError naming the line."""
        try:
            header = backup_file.read_header(path)
            revision = self._inspection.schema_revision()
            if header.schema_revision != revision:
                raise BackupInvalidError(
                    f"{path}, line 1: the backup has schema {header.schema_revision}, this store {revision}: "
                    f"restore it with TaskFlow {header.taskflow}, then upgrade"
                )
            for _ in backup_file.read(path):
                pass
        except OSError as exc:
            raise InvalidRequestError(f"cannot read the backup {path}: {exc.strerror}") from exc
        return header

    def restore(self, path: Path, *, force: bool = False) -> Header:
        """Replace the content of the store by that of the file, which is checked completely before anything changes.

        Refused while the store holds tasks or a worker is alive, unless ``force``. Rows are replaced in one
        transaction; payload objects of tasks that are gone stay behind until the doctor removes them. Servers that
        run on this store should be restarted: what they have queued is forgotten, what was restored they find then.

        Raises BackupInvalidError (nothing changed), InvalidRequestError, StoreUnavailableError.
        """
        header = self.verify(path)
        if not force:
            self._refuse_to_overwrite()
        self._maintenance.import_rows(self._rows(path))
        return header

    def _refuse_to_overwrite(self) -> None:
        if tasks := self._inspection.task_count():
            raise InvalidRequestError(
                f"the store holds {tasks} tasks, which a restore would replace: force it, or use another store"
            )
        since = self._clock.now_us() - _LIVE_SECONDS * _US
        for worker in self._workers.list():
            if worker.seen_at > since and worker.status != "stopped":
                raise InvalidRequestError(
                    f"worker {worker.worker_id} (process {worker.pid} on {worker.hostname}) is alive: stop it before a "
                    "restore, or force it"
                )

    def _records(self, damaged: list[str]) -> Iterator[Record]:
        for table, columns in self._maintenance.export():
            if table in _TRANSIENT:
                continue
            yield Row(table, columns)
            for name in _KEY_COLUMNS:
                key = columns.get(name)
                if key is not None:
                    try:
                        data = self._payloads.get([key])[key]
                    except (PayloadMissingError, PayloadCorruptError):
                        damaged.append(
                            key
                        )  # purged meanwhile, or lost: the rest is worth all the more
                    else:
                        yield PayloadObject(key, data)

    def _rows(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The rows for the store; payload objects go to theirs on the way, before the rows are committed."""
        for record in backup_file.read(path):
            if isinstance(record, PayloadObject):
                self._payloads.put({record.key: record.data})
            else:
                yield record.table, record.columns

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_us() // _US, UTC)
