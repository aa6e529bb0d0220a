"""What is seen of a process, and how it is put to the test."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


def _in_any_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Observation:
    """Fault injection, logs and metrics."""

    # Fault injection
    chaos_seed: int = Field(
        0,
        ge=0,
        description="Let the queue misbehave as SQS may, in an order that this seed decides, for tests; 0: never",
    )

    # Logs
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_in_any_case)
    ] = Field("info", description="Least level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON"
    )
    log_keep_bytes: int = Field(
        32 * 2**20,
        ge=0,
        description="Logs kept in the home for `taskflow logs`, of all processes together; on AWS and with 0: none",
    )

    # Metrics for CloudWatch
    metrics_emf: bool = Field(
        False, description="Write metrics among the logs, in CloudWatch's embedded metric format"
    )
    metrics_emf_seconds: float = Field(
        60.0, ge=1, description="How often; a Lambda function writes at the end of each invocation"
    )
    metrics_emf_tasks: int = Field(
        20,
        ge=0,
        description="Most tasks with metrics of their own, each costs; the others share one: other",
    )
