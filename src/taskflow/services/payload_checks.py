"""The doctor's checks of the payload store against the rows that refer to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from taskflow.core.errors import PayloadCorruptError, PayloadMissingError, StoreUnavailableError
from taskflow.ports.clock import Clock
from taskflow.ports.inspection import InspectionStore
from taskflow.ports.metadata import MaintenanceStore, TaskKey
from taskflow.ports.payloads import PayloadStore
from taskflow.services.finding import BATCH, EXAMPLES, Finding, Health

_AT_ONCE = 8  # payloads in memory at the same time
_ORPHAN_SECONDS = 3_600.0
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class PayloadChecks:
    """``fix``: delete what nothing refers to, or will refer to. A store that is away is a finding, too."""

    def __init__(
        self,
        inspection: InspectionStore,
        maintenance: MaintenanceStore,
        payloads: PayloadStore,
        clock: Clock,
    ) -> None:
        self._inspection = inspection
        self._maintenance = maintenance
        self._payloads = payloads
        self._clock = clock

    def unfinished(self, fix: bool) -> Finding:
        return _made("temporary files", lambda: self._unfinished(fix))

    def missing(self) -> Finding:
        return _made("payloads", self._missing)

    def orphaned(self, fix: bool) -> Finding:
        return _made("orphans", lambda: self._orphaned(fix))

    def _unfinished(self, fix: bool) -> Finding:
        with _reaching_payloads():
            found = self._payloads.unfinished(remove=fix)
        if not found:
            return Finding("temporary files", Health.OK, "no unfinished file was left behind")
        message = f"{len(found)} unfinished files were left behind by processes that died"
        if fix:
            return Finding("temporary files", Health.REPAIRED, f"{message}; deleted", len(found))
        return Finding(
            "temporary files",
            Health.WARNING,
            message,
            len(found),
            "--fix deletes them",
            tuple(found[:EXAMPLES]),
        )

    def _missing(self) -> Finding:
        lost: list[str] = []
        checked = 0
        for keys in self._inspection.payload_keys(batch=BATCH):
            checked += len(keys)
            for start in range(0, len(keys), _AT_ONCE):
                lost += self._lost_among(keys[start : start + _AT_ONCE])
        lost = self._still_referenced(lost)
        if not lost:
            return Finding(
                "payloads", Health.OK, f"all {checked} stored payloads are there and intact"
            )
        return Finding(
            "payloads",
            Health.PROBLEM,
            f"{len(lost)} of {checked} payloads that tasks refer to are missing or damaged",
            len(lost),
            "put them back from a copy of the home or the bucket; tasks without their arguments fail when they are run",
            tuple(lost[:EXAMPLES]),
        )

    def _lost_among(self, keys: Sequence[str]) -> list[str]:
        """Read together first, which on S3 is several times as fast as one by one."""
        try:
            with _reaching_payloads():
                self._payloads.get(keys)
        except (PayloadMissingError, PayloadCorruptError):
            if len(keys) == 1:
                return list(keys)
            return [lost for key in keys for lost in self._lost_among([key])]
        return []

    def _still_referenced(self, keys: Sequence[str]) -> list[str]:
        """Without those whose task was purged or redriven while we looked."""
        owned = {key: owner for key in keys if (owner := _owner(key)) is not None}
        uses = self._inspection.payload_uses(list(set(owned.values()))) if owned else {}
        return [
            key
            for key in keys
            if key not in owned or ((use := uses.get(owned[key])) is not None and key in use.keys)
        ]

    def _orphaned(self, fix: bool) -> Finding:
        orphans: list[str] = []
        for keys in self._stored():
            found = self._orphans_among(keys)
            orphans += self._deleted(found) if fix and found else found
        if not orphans:
            return Finding("orphans", Health.OK, "no payload is left over")
        count = len(orphans)
        message = f"{count} payloads belong to no task any more"
        if not fix:
            return Finding(
                "orphans",
                Health.WARNING,
                message,
                count,
                "--fix deletes them",
                tuple(orphans[:EXAMPLES]),
            )
        return Finding("orphans", Health.REPAIRED, f"{message}; deleted", count)

    def _stored(self) -> Iterator[list[str]]:
        with _reaching_payloads():
            keys = self._payloads.list()
            while batch := list(islice(keys, BATCH)):
                yield batch

    def _orphans_among(self, keys: Sequence[str]) -> list[str]:
        """Keys no row refers to nor may come to refer to: a payload is stored before its row is written, so those
        of tasks that are not final, and of submissions younger than an hour, are left alone."""
        owned = {key: owner for key in keys if (owner := _owner(key)) is not None}
        uses = self._inspection.payload_uses(list(set(owned.values()))) if owned else {}
        before_ms = self._clock.now_us() / 1_000 - _ORPHAN_SECONDS * 1_000
        orphans = []
        for key, owner in owned.items():
            use = uses.get(owner)
            if use is None:
                if int(owner.task_id.replace("-", "")[:12], 16) < before_ms:  # UUIDv7: milliseconds
                    orphans.append(key)
            elif use.final and key not in use.keys:
                orphans.append(key)
        return orphans

    def _deleted(self, keys: Sequence[str]) -> list[str]:
        """Those that are orphans still: a restore stores payloads before their rows, too, and of tasks of any age."""
        with self._maintenance.without_imports():
            orphans = self._orphans_among(keys)
            with _reaching_payloads():
                self._payloads.delete(orphans)
        return orphans


class _PayloadsAwayError(Exception):
    """The payload store did not answer: not the database, whose error is of the same kind."""


@contextmanager
def _reaching_payloads() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as exc:
        raise _PayloadsAwayError(exc.detail) from exc


def _made(check: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except _PayloadsAwayError as exc:
        return Finding(check, Health.PROBLEM, f"cannot be checked: {exc}", 1)
    except StoreUnavailableError as exc:
        return Finding("store", Health.PROBLEM, f"{check} cannot be checked: {exc.detail}", 1)


def _owner(key: str) -> TaskKey | None:
    """The task a payload key was made for (`services/payloads.py`); None for keys of another making."""
    tenant_id, _, rest = key.partition("/")
    match = _UUID7.search(rest)
    return TaskKey(tenant_id, match[0]) if match else None
