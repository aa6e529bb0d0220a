"""Every number of the infrastructure, by profile. Pure: deploy.py prices it, the docs make tables of it.

Sizes that a deployment may change are the defaults of the template's parameters of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# What taskflow.serverless.worker keeps free before a function's end (TASKFLOW_LAMBDA_MARGIN_SECONDS) and at its start.
FUNCTION_MARGIN_SECONDS: Final = 5
FUNCTION_START_SECONDS: Final = 2
# Lambda Developer Guide, "Using Lambda with Amazon SQS": room for retries of throttled invocations.
VISIBILITY_FACTOR: Final = 6
# Queues of containers: twice the lease, which the worker's heartbeat extends (docs/aws-queue.md).
LONG_VISIBILITY_SECONDS: Final = 60
# As adapters/queue/sqs/limits.py has it: dead letters outlive what they were.
RETENTION_SECONDS: Final = 4 * 86_400
DEAD_LETTER_RETENTION_SECONDS: Final = 14 * 86_400

ANYWHERE: Final = "0.0.0.0/0"
DATABASE_PORT: Final = 5432
POSTGRES_MAJOR: Final = "17"
API_PORT: Final = 8000  # of the image: GET /health of an API instance, and of a worker
ARCHIVE_DAYS: Final = 90
ARCHIVE_CLASS: Final = (
    "GLACIER_IR"  # read at once like any other object: adapters/payloads/s3_bucket.py
)
# Between 90 and 180 days the archive would cost more than it saves: it bills 90 days at least.
RETENTION_DAYS: Final = (7, 30, 90, 180, 365, 1095, 2555)
LONGEST_DELAY_DAYS: Final = (
    31,
    366,
    3660,
)  # the last is what the program accepts: MAX_DELAY_SECONDS
LOG_RETENTION_DAYS: Final = (1, 3, 7, 14, 30, 60, 90, 180, 365)
LAMBDA_RUNTIMES: Final = ("python3.11", "python3.12", "python3.13", "python3.14")


@dataclass(frozen=True)
class QueueNumbers:
    """What belongs to one priority: its queue, its dead letters, its share of the functions, its alarms."""

    priority: str
    function_concurrency: int  # invocations at once; Lambda takes 2 to 1,000
    batch_size: int
    max_receives: int  # high: a receive is not an attempt, see adapters/queue/sqs/provision.py
    age_slo_seconds: int  # of the oldest message
    long_age_slo_seconds: int  # of the oldest long task: a container may have to start first


# Priority, share of the concurrency (DESIGN.md §4: 8:4:2:1), and how old its oldest message may be.
_PRIORITIES: Final = (
    ("critical", 8, 60),
    ("high", 4, 300),
    ("normal", 2, 900),
    ("low", 1, 3_600),
)
_CONTAINER_START_SECONDS: Final = 300


def _queues(concurrency_of_low: int) -> tuple[QueueNumbers, ...]:
    return tuple(
        QueueNumbers(
            priority=priority,
            function_concurrency=share * concurrency_of_low,
            batch_size=10,
            max_receives=100,
            age_slo_seconds=age,
            long_age_slo_seconds=age + _CONTAINER_START_SECONDS,
        )
        for priority, share, age in _PRIORITIES
    )


@dataclass(frozen=True)
class FunctionNumbers:
    memory_mib: int
    timeout_seconds: int

    @property
    def longest_task_seconds(self) -> int:
        """The longest timeout of a task that such a function can run."""
        return self.timeout_seconds - FUNCTION_MARGIN_SECONDS - FUNCTION_START_SECONDS


@dataclass(frozen=True)
class Functions:
    worker: FunctionNumbers
    maintenance: FunctionNumbers
    dead_letters: FunctionNumbers
    migrate: FunctionNumbers
    worker_slots: int  # attempts at once in one invocation


@dataclass(frozen=True)
class ApiContainers:
    """API instances on Fargate behind the load balancer."""

    count: int  # at least
    max_count: int
    cpu: int  # 1024: one vCPU
    memory_mib: int
    cpu_target_percent: int = 60
    requests_target_per_minute: int = 6_000  # and instance
    health_interval_seconds: int = 10
    healthy_checks: int = 2
    unhealthy_checks: int = 3
    deregistration_seconds: int = 30  # as long as a request may be held (`?wait=`)
    drain_seconds: int = 25  # two health checks, and some for the balancer to act
    stop_seconds: int = 60  # until Fargate kills


@dataclass(frozen=True)
class ApiFunction:
    """The API as a function behind the load balancer: no instances, no WebSockets."""

    function: FunctionNumbers
    concurrency: int  # each has a connection to PostgreSQL


@dataclass(frozen=True)
class LongWorkers:
    """Containers for tasks that do not fit into a function; none while there are no such tasks."""

    max_count: int
    cpu: int
    memory_mib: int
    slots: int
    stop_seconds: int = 120  # Fargate's most
    idle_minutes: int = 10  # without a waiting task, before one container less is wanted
    scale_out_cooldown_seconds: int = 180  # a container takes that long to start and to receive
    scale_in_cooldown_seconds: int = 300
    backlog_steps: tuple[tuple[int, int], ...] = ((1, 1), (20, 2), (100, 5))  # waiting: more by

    @property
    def shutdown_grace_seconds(self) -> int:
        return self.stop_seconds - 10


@dataclass(frozen=True)
class Database:
    """RDS PostgreSQL. ``max_connections`` is RDS's default for the class: LEAST(memory / 9531392, 5000)."""

    instance_class: str
    max_connections: int
    storage_gib: int
    max_storage_gib: int  # storage grows by itself up to this
    multi_az: bool
    proxy: bool
    backup_days: int
    is_protected: bool  # against deletion; leaves a snapshot behind


@dataclass(frozen=True)
class Network:
    """Interface endpoints where they are cheaper than NAT gateways, else these: docs/decisions/network.md.

    ``ipv6_only``: functions reach AWS over IPv6 and the egress-only gateway, which costs nothing.
    """

    availability_zones: int
    interface_endpoints: tuple[str, ...]
    nat_gateways: int
    ipv6_only: bool = False


@dataclass(frozen=True)
class AlarmNumbers:
    """When a person is told (cdk/alarms.py). How old a queue's oldest message may be is in `QueueNumbers`.

    ``all_of_each_queue`` False: only age and dead letters are watched, since alarms are paid for one by one.
    """

    all_of_each_queue: bool = True
    in_flight_messages: int = 96_000  # four fifths of what SQS lets out of a queue at once
    stalled_minutes: int = 20  # longer than the longest function runs
    growth_minutes: int = 15
    heartbeat_minutes: int = 5
    outbox_lag_seconds: int = 300
    waiting_slack_seconds: int = 120  # the store is looked at once a minute
    leases_lost: int = 10  # in a quarter of an hour
    duration_percent: int = 80  # of a function's timeout
    database_cpu_percent: int = 80
    database_connections_percent: int = 80
    database_free_storage_percent: int = 5  # RDS adds storage by itself at 10
    database_transaction_ids: int = (
        1_000_000_000  # half way to the wraparound that stops PostgreSQL
    )
    server_errors_per_minute: int = 5


@dataclass(frozen=True)
class Profile:
    name: str
    template: str  # file in cloudformation/
    description: str
    network: Network
    database: Database
    queues: tuple[QueueNumbers, ...]
    functions: Functions
    api: ApiContainers | ApiFunction
    long_workers: LongWorkers | None
    retention_days: int
    log_retention_days: int
    container_insights: bool
    flow_logs: bool  # of refused connections
    keeps_data: bool  # database and bucket outlive the stack
    alarms: AlarmNumbers = AlarmNumbers()

    @property
    def has_containers(self) -> bool:
        return isinstance(self.api, ApiContainers)

    @property
    def default_timeout_seconds(self) -> int:
        """Of tasks that name none: the program's own default, if that fits into the worker function."""
        return min(300, self.functions.worker.longest_task_seconds)

    @property
    def long_task_seconds(self) -> int:
        """Tasks with a longer timeout are for containers; 0: there are none."""
        return self.functions.worker.longest_task_seconds if self.long_workers else 0


_MAINTENANCE = FunctionNumbers(memory_mib=512, timeout_seconds=60)
_DEAD_LETTERS = FunctionNumbers(memory_mib=512, timeout_seconds=60)
_MIGRATE = FunctionNumbers(memory_mib=512, timeout_seconds=900)

STANDARD: Final = Profile(
    name="standard",
    template="taskflow-infrastructure.yaml",
    description="Production: API on Fargate, workers on Lambda, long tasks on Fargate, PostgreSQL in two zones",
    network=Network(
        availability_zones=2,
        interface_endpoints=("sqs", "secretsmanager", "ecr.api", "ecr.dkr", "logs"),
        nat_gateways=0,
    ),
    database=Database(
        instance_class="db.t4g.medium",
        max_connections=450,
        storage_gib=100,
        max_storage_gib=1_000,
        multi_az=True,
        proxy=False,
        backup_days=14,
        is_protected=True,
    ),
    queues=_queues(concurrency_of_low=8),
    functions=Functions(
        worker=FunctionNumbers(memory_mib=1024, timeout_seconds=300),
        maintenance=_MAINTENANCE,
        dead_letters=_DEAD_LETTERS,
        migrate=_MIGRATE,
        worker_slots=10,
    ),
    api=ApiContainers(count=2, max_count=8, cpu=512, memory_mib=1024),
    long_workers=LongWorkers(max_count=10, cpu=1024, memory_mib=2048, slots=4),
    retention_days=30,
    log_retention_days=30,
    container_insights=True,
    flow_logs=True,
    keeps_data=True,
)

SERVERLESS: Final = Profile(
    name="serverless",
    template="taskflow-serverless.yaml",
    description="No containers: API and workers on Lambda, the cheapest network and database that keep the promises",
    network=Network(availability_zones=2, interface_endpoints=(), nat_gateways=0, ipv6_only=True),
    database=Database(
        instance_class="db.t4g.micro",
        max_connections=112,
        storage_gib=20,
        max_storage_gib=200,
        multi_az=False,
        proxy=False,
        backup_days=7,
        is_protected=True,
    ),
    queues=_queues(concurrency_of_low=2),
    functions=Functions(
        worker=FunctionNumbers(memory_mib=1024, timeout_seconds=900),
        maintenance=_MAINTENANCE,
        dead_letters=_DEAD_LETTERS,
        migrate=_MIGRATE,
        worker_slots=10,
    ),
    api=ApiFunction(FunctionNumbers(memory_mib=1024, timeout_seconds=40), concurrency=20),
    long_workers=None,
    retention_days=30,
    log_retention_days=14,
    container_insights=False,
    flow_logs=False,
    keeps_data=True,
)

DEV: Final = replace(
    STANDARD,
    name="dev",
    template="taskflow-dev.yaml",
    description="To try things out: the smallest of standard, all of which can be destroyed",
    # One zone's five endpoints would cost more than one NAT gateway, which reaches the internet besides.
    network=Network(availability_zones=2, interface_endpoints=(), nat_gateways=1),
    database=replace(SERVERLESS.database, max_storage_gib=50, backup_days=1, is_protected=False),
    queues=_queues(concurrency_of_low=2),
    functions=replace(
        STANDARD.functions, worker=FunctionNumbers(memory_mib=512, timeout_seconds=300)
    ),
    api=ApiContainers(count=1, max_count=2, cpu=256, memory_mib=512),
    long_workers=LongWorkers(max_count=1, cpu=256, memory_mib=512, slots=2),
    retention_days=7,
    log_retention_days=7,
    container_insights=False,
    flow_logs=False,
    keeps_data=False,
    alarms=AlarmNumbers(all_of_each_queue=False),
)

PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile for profile in (STANDARD, SERVERLESS, DEV)
}
