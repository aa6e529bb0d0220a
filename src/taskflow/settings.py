"""Every setting, its unit, default and limits. The only reader of the environment (prefix ``TASKFLOW_``).

`.env.example` lists the same settings; a test compares both.
"""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from taskflow.core.addresses import reachable, url_of
from taskflow.core.errors import ConfigurationError, InvalidRequestError
from taskflow.core.task import TaskPriority

Names = Annotated[tuple[str, ...], NoDecode]  # comma-separated in the environment


class Settings(BaseSettings):
    """Settings of one process. Keyword arguments win over the environment, that over the `.env` file."""

    model_config = SettingsConfigDict(
        env_prefix="TASKFLOW_",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
    )

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

    # SQS and S3 (region, credentials and endpoint: AWS's own variables)
    queue_prefix: str = Field(
        "taskflow-dev",
        pattern=r"^[A-Za-z0-9_-]{1,66}$",
        description="Queues are called prefix-priority, their dead letters prefix-priority-dead",
    )
    queue_poll_seconds: int = Field(
        20,
        ge=1,
        le=20,
        description="How long SQS holds a request for messages while there are none; a process that stops waits for it",
    )
    queue_resend_seconds: float = Field(
        259_200.0,
        ge=60,
        le=302_400,
        description="A task that has waited for this long gets a new message: SQS forgets one after 4 days",
    )
    queue_url_critical: str = Field("", description="Full URL instead of the name; so the next")
    queue_url_high: str = Field("", description="Full URL instead of the name")
    queue_url_normal: str = Field("", description="Full URL instead of the name")
    queue_url_low: str = Field("", description="Full URL instead of the name")
    long_task_seconds: float = Field(
        0.0,
        ge=0,
        description="Tasks with a longer timeout go to queues of their own, prefix-long-priority; 0: none do. SQS only",
    )
    s3_bucket: str = Field("", description="Bucket of payloads, results and artifacts")
    s3_prefix: str = Field("", description="Before every key, e.g. taskflow/")
    s3_encryption: Literal["AES256", "aws:kms"] = Field(
        "AES256", description="Server-side encryption of objects"
    )
    s3_kms_key: str = Field("", description="Key for aws:kms; empty: the account's default key")
    s3_public_endpoint_url: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+\S*)?$",
        description="Where clients reach S3, if not where the server does: a result_url is signed for this address. "
        "For emulators",
    )
    result_url_seconds: float = Field(
        900.0, ge=1, le=604_800, description="How long a presigned result_url works"
    )

    # HTTP
    host: str = Field("127.0.0.1", description="Address the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0: any free one")
    url: str = Field(
        "", description="Server that the command line talks to; empty: http://host:port"
    )
    cors_origins: Names = Field(
        (), description="Origins browsers may call the API from, comma-separated; *: all"
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="Largest request body")
    max_batch_size: int = Field(
        1_000, ge=1, le=10_000, description="Most submissions in one batch request"
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        description="How long an API serves on after SIGTERM, /health saying draining; balancers need 2 checks' time",
    )
    max_wait_seconds: float = Field(30.0, ge=0, description="Longest ?wait= of GET /tasks/{id}")

    # Load balancer
    balancer_host: str = Field("127.0.0.1", description="Address the balancer listens on")
    balancer_port: int = Field(
        8080, ge=0, le=65535, description="Port the balancer listens on; 0: any free one"
    )
    balancer_instances: Names = Field(
        (), description="Instances, comma-separated, e.g. http://127.0.0.1:8001"
    )
    balancer_config_file: str = Field(
        "", description="TOML file with further instances, read again on SIGHUP; empty: none"
    )
    balancer_strategy: Literal["round_robin", "least_connections"] = Field(
        "round_robin", description="Who gets the next request: round_robin or least_connections"
    )
    balancer_health_path: str = Field(
        "/health", pattern=r"^/[\x21-\x7e]*$", description="What instances are asked"
    )
    balancer_health_interval_seconds: float = Field(
        2.0, gt=0, description="From one health check of an instance to the next"
    )
    balancer_health_timeout_seconds: float = Field(
        2.0, gt=0, description="How long an instance may take to answer a health check"
    )
    balancer_rise: int = Field(2, ge=1, description="Good checks in a row that bring it back")
    balancer_fall: int = Field(3, ge=1, description="Bad checks in a row that take it out")
    balancer_max_failures: int = Field(
        3, ge=1, description="Connection errors in a row that eject an instance between two checks"
    )
    balancer_slow_start_seconds: float = Field(
        10.0, ge=0, description="How long an instance that came back gets less than its share"
    )
    balancer_connect_timeout_seconds: float = Field(
        2.0, gt=0, description="How long to wait for an instance to accept a connection"
    )
    balancer_first_byte_timeout_seconds: float = Field(
        60.0, gt=0, description="How long an instance may take to begin its answer"
    )
    balancer_idle_timeout_seconds: float = Field(
        60.0, gt=0, description="Longest silence in the middle of a request or an answer"
    )
    balancer_request_timeout_seconds: float = Field(
        3_600.0, ge=0, description="Longest exchange, apart from tunnels; 0: no limit"
    )
    balancer_head_timeout_seconds: float = Field(
        10.0, gt=0, description="How long the head of a request may take to arrive"
    )
    balancer_keep_alive_seconds: float = Field(
        75.0, gt=0, description="How long a client's connection is kept between requests"
    )
    balancer_instance_keep_alive_seconds: float = Field(
        60.0, gt=0, description="The same to instances: less than they keep it themselves"
    )
    balancer_tunnel_timeout_seconds: float = Field(
        3_600.0, ge=0, description="Longest silence in a WebSocket or another tunnel; 0: no limit"
    )
    balancer_drain_seconds: float = Field(
        30.0, ge=0, description="How long a stopping balancer lets exchanges finish"
    )
    balancer_max_head_bytes: int = Field(
        32_768, ge=512, description="Largest head of a request: its line and its headers"
    )
    balancer_max_headers: int = Field(100, ge=1, description="Most headers of a request")
    balancer_max_target_bytes: int = Field(
        8_192, ge=16, description="Longest path with query of a request"
    )
    balancer_max_body_bytes: int = Field(
        0, ge=0, description="Largest body of a request; 0: no limit but the instances'"
    )
    balancer_max_connections: int = Field(
        10_000, ge=1, description="Most connections from clients at once"
    )
    balancer_max_client_connections: int = Field(
        1_024,
        ge=0,
        description="Most of them from one address that is no trusted proxy; 0: no limit",
    )
    balancer_max_instance_connections: int = Field(
        0,
        ge=0,
        description="Most connections to one instance; 0: no limit but the one on clients",
    )
    balancer_buffer_bytes: int = Field(
        65_536,
        ge=4_096,
        description="What is read ahead for one connection, and kept of a request to send it again",
    )
    balancer_trusted_proxies: Names = Field(
        (), description="Addresses and networks whose X-Forwarded-* is believed, comma-separated"
    )
    balancer_tls_certificate: str = Field(
        "", description="File with the certificate chain (PEM): HTTPS; empty: HTTP"
    )
    balancer_tls_key: str = Field("", description="File with the certificate's key (PEM)")
    balancer_tls_minimum: Literal["1.2", "1.3"] = Field(
        "1.2", description="Lowest version of TLS: 1.2 or 1.3"
    )
    balancer_hsts_seconds: int = Field(
        0, ge=0, description="Strict-Transport-Security: max-age of HTTPS answers; 0: no header"
    )
    balancer_redirect_port: int = Field(
        0, ge=0, le=65535, description="Port that sends HTTP clients to HTTPS; 0: none"
    )
    balancer_admin_token: str = Field(
        "", description="Token for /_balancer: status, metrics, instances; empty: switched off"
    )
    balancer_access_log: bool = Field(True, description="Log a line per request")

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

    # Workers
    num_workers: int = Field(
        4, ge=0, le=1_000, description="Attempts that may run at once; 0: no worker here"
    )
    worker_health_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which `taskflow worker` answers GET /health; 0: none",
    )
    worker_queues: Literal["ordinary", "long", "all"] = Field(
        "all",
        description="Which SQS queues workers here serve: ordinary, long (those of long tasks) or all",
    )
    worker_priorities: Names = Field(
        (), description="Serve only these priorities, comma-separated; empty: all"
    )
    worker_tasks: Names = Field(
        (), description="Serve only these tasks, comma-separated; empty: all"
    )
    worker_resources: Names = Field(
        (), description="What tasks may ask for, e.g. gpu=1,memory_mb=2048"
    )
    lease_seconds: float = Field(
        30.0, ge=1, description="A silent worker's tasks are taken over after this"
    )
    cancel_grace_seconds: float = Field(
        5.0, ge=0, description="From the cancellation of a running task to its interruption"
    )
    abandon_grace_seconds: float = Field(
        1.0, ge=0, description="From the interruption of a thread to giving it up"
    )
    shutdown_grace_seconds: float = Field(
        30.0, ge=0, description="How long a stopping worker lets attempts finish"
    )
    process_memory_bytes: int = Field(
        2**30, ge=0, description="Memory of a child process (executor=process); 0: no limit"
    )
    breaker_failures: int = Field(
        5, ge=1, description="Failures in a row that open a circuit breaker"
    )
    breaker_open_seconds: float = Field(
        30.0, gt=0, description="How long an open circuit waits before it lets one through"
    )
    starvation_every: int = Field(
        32,
        ge=2,
        description="One in this many deliveries goes to a lower priority that waits while higher ones do",
    )

    # Lambda
    lambda_margin_seconds: float = Field(
        5.0,
        ge=1,
        description="Before a function's end, kept free for giving back what still runs",
    )
    lambda_base_path: str = Field(
        "", description="Stage that API Gateway puts before every path, e.g. /prod; empty: none"
    )

    # Built-in handlers
    http_allow_private: bool = Field(
        False, description="Let http_request reach private and loopback addresses"
    )
    http_max_response_bytes: int = Field(
        2**19,
        ge=1,
        description="Most of an answer that http_request reads; less than max_payload_bytes, it is a result",
    )
    smtp_url: str = Field(
        "", description="smtp://user:password@host:587; empty: mail goes into the home's mailbox"
    )
    email_from: str = Field("taskflow@localhost", description="Sender of mail by the email handler")

    # Fault injection
    chaos_seed: int = Field(
        0,
        ge=0,
        description="Let the queue misbehave as SQS may, in an order that this seed decides, for tests; 0: never",
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged"
    )
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

    @field_validator(
        "tasks",
        "cors_origins",
        "balancer_instances",
        "balancer_trusted_proxies",
        "worker_priorities",
        "worker_tasks",
        "worker_resources",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("s3_prefix")
    @classmethod
    def _stays_in_addresses(cls, value: str) -> str:
        if {".", ".."} & set(value.split("/")):
            raise ValueError(
                "must have no . or .. between slashes: in presigned URLs they mean something else"
            )
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def resolved_database_url(self) -> str:
        if self.database_url or self.database_secret_arn:
            return self.database_url or "postgresql://"  # whose address and login are in the secret
        return f"sqlite:///{(self.home / 'taskflow.db').absolute()}"

    @property
    def resolved_url(self) -> str:
        return self.url or url_of(reachable(self.host), self.port)

    @property
    def priorities(self) -> frozenset[int] | None:
        """Which priorities workers here serve; None: all."""
        try:
            named = [int(TaskPriority.parse(name)) for name in self.worker_priorities]
        except InvalidRequestError as exc:
            raise ConfigurationError(f"TASKFLOW_WORKER_PRIORITIES: {exc.detail}") from exc
        return frozenset(named) or None

    @property
    def resolved_queue_backend(self) -> Literal["local", "sqs"]:
        return self.queue_backend or ("sqs" if self.backend == "aws" else "local")

    @property
    def resolved_payload_backend(self) -> Literal["files", "s3"]:
        return self.payload_backend or ("s3" if self.backend == "aws" else "files")

    @property
    def log_directory(self) -> Path | None:
        """Where the processes of this machine keep their logs; None: nowhere, on AWS CloudWatch does."""
        return None if self.is_on_aws or not self.log_keep_bytes else self.home / "logs"

    @property
    def is_on_aws(self) -> bool:
        """Whether queue or payloads are AWS's own; an emulator's are not."""
        uses_aws = self.resolved_queue_backend == "sqs" or self.resolved_payload_backend == "s3"
        return uses_aws and not os.environ.get("AWS_ENDPOINT_URL")

    @property
    def aws_region(self) -> str | None:
        """AWS's own variables; boto3 by itself knows only the second, Lambda and ECS set the first."""
        return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None

    @property
    def ecs_agent_uri(self) -> str:
        """Amazon ECS's own variable, in each of its containers."""
        return os.environ.get("ECS_AGENT_URI", "")

    @property
    def resources(self) -> dict[str, float]:
        """What workers here have, by name."""
        amounts: dict[str, float] = {}
        for part in self.worker_resources:
            name, equals, amount = part.partition("=")
            try:
                amounts[name.strip()] = float(amount)
            except ValueError:
                equals = ""
            if not equals or not 0 <= amounts[name.strip()] < math.inf:
                raise ConfigurationError(f"TASKFLOW_WORKER_RESOURCES: {part!r} is not name=number")
        return amounts

    def new_worker_id(self, unique: str) -> str:
        """``host-pid-unique``: names a worker process in rows, logs and metrics."""
        return f"{socket.gethostname()[:64]}-{os.getpid()}-{unique}"


def environment() -> dict[str, str]:
    """A copy of this process's environment: for processes it starts, and for variables that are AWS's."""
    return dict(os.environ)


def load(**values: Any) -> Settings:
    """Settings from arguments, environment and `.env`. Raises ConfigurationError naming each wrong variable."""
    try:
        return Settings(**values)
    except ValidationError as exc:
        fields = [
            {
                "field": f"TASKFLOW_{str(error['loc'][0]).upper()}" if error["loc"] else "",
                "message": error["msg"],
            }
            for error in exc.errors(include_url=False, include_input=False)
        ]
        summary = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        raise ConfigurationError(f"settings: {summary}", fields=fields) from None
