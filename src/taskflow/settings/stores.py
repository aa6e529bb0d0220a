"""Where tasks and payloads are kept, and how PostgreSQL is used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from taskflow.settings.names import Names


class Stores:
    """The backends, the data of this machine, the database."""

    # Where things are kept
    backend: Literal["local", "aws"] = Field(
        "local", description="aws: SQS, S3 and PostgreSQL, each of which may also be chosen alone"
    )
    home: Path = Field(
        Path(".taskflow"), description="Directory of local data: store, payloads, mailbox"
    )
    database_url: str = Field(
        "", description="sqlite:///… or postgresql://…; empty: taskflow.db in the home"
    )
    queue_backend: Literal["", "local", "sqs"] = Field(
        "", description="The task queue: local or sqs; empty: as the backend says"
    )
    payload_backend: Literal["", "files", "s3"] = Field(
        "", description="Payloads over the inline limit: files or s3; empty: as the backend says"
    )
    tasks: Names = Field(
        (), description="Modules that register tasks, comma-separated, imported at start"
    )
    database_busy_timeout_seconds: float = Field(
        5.0,
        ge=0,
        description="How long to wait for another process that holds the SQLite write lock",
    )

    # PostgreSQL
    database_secret_arn: str = Field(
        "",
        description="Secrets Manager secret with the database's address and password, instead of a URL",
    )
    database_pool_size: int = Field(4, ge=1, description="Connections a process keeps")
    database_max_overflow: int = Field(
        1, ge=0, description="Connections a process opens beyond these while it needs them"
    )
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="How long to wait for a connection before answering 503"
    )
    database_pool_recycle_seconds: float = Field(
        1_800.0, gt=0, description="Age at which a connection is replaced"
    )
    database_connect_timeout_seconds: float = Field(
        5.0, ge=1, description="How long to wait for PostgreSQL to accept a connection"
    )
    database_statement_timeout_seconds: float = Field(
        30.0, ge=0, description="PostgreSQL gives up a statement after this; 0: never"
    )
    database_tls: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = (
        Field("prefer", description="TLS to PostgreSQL, in libpq's words")
    )
    database_tls_root_cert: str = Field(
        "", description="File of the certificate authorities to trust; empty: libpq's default"
    )
    database_replica_url: str = Field(
        "", description="A read replica for lists and statistics, which may lag; empty: none"
    )

    @property
    def resolved_database_url(self) -> str:
        if self.database_url or self.database_secret_arn:
            return self.database_url or "postgresql://"  # whose address and login are in the secret
        return f"sqlite:///{(self.home / 'taskflow.db').absolute()}"

    @property
    def resolved_queue_backend(self) -> Literal["local", "sqs"]:
        return self.queue_backend or ("sqs" if self.backend == "aws" else "local")

    @property
    def resolved_payload_backend(self) -> Literal["files", "s3"]:
        return self.payload_backend or ("s3" if self.backend == "aws" else "files")
