"""What tasks may be, and how often they are tried."""

from __future__ import annotations

from pydantic import Field


class Tasks:
    """Limits and defaults of submissions, attempts and what is kept."""

    # Tasks
    max_queue_size: int = Field(
        0, ge=0, description="Most tasks that may wait (not final, not running); 0: no limit"
    )
    max_payload_bytes: int = Field(
        2**20, ge=1024, description="Largest arguments, result or metadata of one task"
    )
    inline_payload_bytes: int = Field(
        65_536, ge=0, description="Payloads above this go to the payload store"
    )
    max_artifact_bytes: int = Field(
        16 * 2**20, ge=1, description="Largest artifact; it passes through the memory of a process"
    )
    max_artifacts: int = Field(100, ge=1, description="Most artifacts of one task")
    default_max_retries: int = Field(3, ge=0, description="Retries of a task that names none")
    default_timeout: float = Field(
        300.0, gt=0, description="Seconds an attempt may run, if the task names none"
    )
    retry_base_seconds: float = Field(
        1.0, ge=0, description="Backoff before the first retry, at most"
    )
    retry_cap_seconds: float = Field(900.0, ge=0, description="Longest backoff")
    max_crashes: int = Field(
        5, ge=1, description="Worker deaths after which a task is dead-lettered"
    )
    max_uncounted_attempts: int = Field(
        100,
        ge=1,
        description="Attempts that used up no retry (rate-limited) after which a task is dead-lettered",
    )
    retention_days: float = Field(30.0, ge=0, description="Days a final task is kept; 0: for ever")
