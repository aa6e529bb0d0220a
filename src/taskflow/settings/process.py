"""The settings of a process: all groups together."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from taskflow.settings.aws import Aws
from taskflow.settings.balancer import Balancer
from taskflow.settings.handlers import Handlers
from taskflow.settings.http import Http
from taskflow.settings.observation import Observation
from taskflow.settings.stores import Stores
from taskflow.settings.tasks import Tasks
from taskflow.settings.workers import Workers


class Settings(
    BaseSettings,
    # Pydantic takes the fields of the last one first
    Observation,
    Handlers,
    Workers,
    Tasks,
    Balancer,
    Http,
    Aws,
    Stores,
):
    """Settings of one process. Keyword arguments win over the environment, that over the `.env` file.

    The groups are plain classes: as models of their own they would cost every start 5 ms. Comments between their fields
    name the sections of `.env.example` and docs/configuration.md.
    """

    model_config = SettingsConfigDict(
        env_prefix="TASKFLOW_",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
    )

    @property
    def is_on_aws(self) -> bool:
        """Whether queue or payloads are AWS's own; an emulator's are not."""
        uses_aws = self.resolved_queue_backend == "sqs" or self.resolved_payload_backend == "s3"
        return uses_aws and not os.environ.get("AWS_ENDPOINT_URL")

    @property
    def log_directory(self) -> Path | None:
        """Where the processes of this machine keep their logs; None: nowhere, on AWS CloudWatch does."""
        return None if self.is_on_aws or not self.log_keep_bytes else self.home / "logs"
