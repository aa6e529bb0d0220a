"""Migrates the store when a deployment asks for it."""

from __future__ import annotations

from typing import Any

from taskflow import logs
from taskflow.bootstrap import build_clock, migrate_store
from taskflow.serverless.container import Context
from taskflow.settings import load

log = logs.get_logger(__name__)


class MigrateFunction:
    """Connects for each invocation: there is one per deployment."""

    def __init__(self) -> None:
        # A migration takes as long as it takes; the function's own timeout ends it.
        self._settings = load(
            database_pool_size=1, database_max_overflow=0, database_statement_timeout_seconds=0
        )
        logs.configure(
            self._settings.log_level, self._settings.log_format, service="lambda-migrate"
        )

    def __call__(self, event: Any, context: Context) -> dict[str, str | None]:
        """``{"before": revision or null, "revision": revision}``. Raises StoreVersionError, StoreUnavailableError, …:
        the deployment must not go on then."""
        before, revision = migrate_store(self._settings, build_clock())
        log.info("store.migrated", before=before, revision=revision)
        return {"before": before, "revision": revision}
