"""The backends a behaviour test runs on: everything local, or SQS, S3 and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from taskflow.adapters.clock.system import SystemClock
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.provision import provision
from tests.support import aws, guard
from tests.support.postgres import Postgres

POLL_SECONDS = 1  # so that the receivers of a queue that was closed end soon after it


def migrate_database(url: str) -> None:
    database = Database(url, clock=SystemClock())
    try:
        migrate(database)
    finally:
        database.close()


def migrated(server: Postgres) -> str:
    """Name of a template database with TaskFlow's tables."""
    return server.template(migrate_database, name="migrated")


class Emulated:
    """SQS and S3 of one test session, on the emulator at ``url``: clients and the bucket are made once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sqs = aws.client("sqs", url)
        self._bucket = aws.unique("behaviour")
        s3 = aws.client("s3", url)
        s3.create_bucket(Bucket=self._bucket)
        s3.close()

    def close(self) -> None:
        self._sqs.close()

    def identity(self, role: str, prefix: str) -> str:
        """Of a process in this role, with these queues."""
        return guard.identity(role, prefix=prefix, bucket=self._bucket)

    def refused(self, identity: str) -> list[str]:
        """What the guard has refused to it."""
        return guard.refused(self.url, identity)

    def everything(self, database_url: str) -> dict[str, Any]:
        """Settings with this database, new queues, and a part of the bucket that nobody else uses."""
        prefix = aws.unique("behaviour")
        provision(self._sqs, QueueNames(prefix), visibility_timeout_seconds=60.0)
        return {
            **self.stores(database_url),
            "backend": "aws",
            "queue_prefix": prefix,
            "queue_poll_seconds": POLL_SECONDS,
        }

    def stores(self, database_url: str) -> dict[str, Any]:
        """The same without queues."""
        return {
            "database_url": database_url,
            "payload_backend": "s3",
            "s3_bucket": self._bucket,
            "s3_prefix": f"{aws.unique('behaviour')}/",
        }


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """The same for another process: this one's environment with `TASKFLOW_…` variables."""
    return {
        **os.environ,
        **{f"TASKFLOW_{name.upper()}": str(value) for name, value in settings.items()},
    }
