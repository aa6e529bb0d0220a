"""What a profile costs a month, idle and at a number of tasks per second: arithmetic over cdk/profiles.py and prices.

The assumptions are constants here and are told with every estimate. It is an estimate: a bill also has taxes, transfer
to the internet, snapshots, and what a free tier takes off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cdk.profiles import ApiContainers, ApiFunction, Profile
from deployment import prices
from taskflow.observability.catalogue import (
    HEARTBEAT,
    METRICS,
    OLDEST_WAITING,
    OUTBOX_LAG,
    OUTBOX_PENDING,
    PRIORITIES,
)

MONTH_SECONDS: Final = prices.HOURS * 3_600
RATES: Final = (0.0, 1.0, 100.0, 1_000.0)  # tasks per second, as docs/deploy.md shows them

# About a task.
TASK_SECONDS: Final = 0.1
TASK_BYTES: Final = 2_048  # in the database: row, events, index entries
LOGGED_BYTES: Final = 1_024
TASK_KINDS: Final = 5
HTTP_BYTES: Final = 4_096  # a submission and its answer, once looked at
API_SECONDS: Final = 0.03  # of a function, for these two requests
AWS_BYTES: Final = (
    4_096  # to and from AWS's services: message sent, received, deleted, headers; containers' logs
)
# About the program.
IDLE_POLLS_A_MONTH: Final = 650_000  # of an event source mapping: five long polls at once
MAINTENANCE_SECONDS: Final = 1.0  # of the function that runs once a minute
TASKS_PER_VCPU_SECOND: Final = 250  # what API instances take, at 60 % of their processors
LCU_BYTES: Final = 1e9  # an hour
_INVOCATION_SECONDS: Final = 0.05  # beside the tasks in it
_LOAD_BALANCER_ADDRESSES: Final = 2
# Up to so many tasks a second the class is enough.
_DATABASE_FOR: Final = (
    (20.0, "db.t4g.micro"),
    (50.0, "db.t4g.small"),
    (150.0, "db.t4g.medium"),
    (400.0, "db.m7g.large"),
    (1_200.0, "db.m7g.xlarge"),
    (2_500.0, "db.m7g.2xlarge"),
)


@dataclass(frozen=True)
class Line:
    item: str
    quantity: str
    dollars: float


@dataclass(frozen=True)
class Estimate:
    profile: str
    tasks_per_second: float
    lines: Sequence[Line]

    @property
    def dollars(self) -> float:
        return sum(line.dollars for line in self.lines)


def sized(profile: Profile, parameters: Mapping[str, str]) -> Profile:
    """The profile with the sizes that a stack has, or is to have, by its parameters. A class of the database that has
    no price here is left out: see `unpriced`."""

    def number(name: str, default: int) -> int:
        return int(parameters.get(name) or default)

    database, functions, api = profile.database, profile.functions, profile.api
    named = parameters.get("DatabaseInstanceClass", "")
    database = replace(
        database,
        instance_class=named if named in prices.DATABASE_CLASS_HOUR else database.instance_class,
        storage_gib=number("DatabaseStorageGiB", database.storage_gib),
        multi_az=parameters.get("DatabaseMultiAz", str(database.multi_az)).lower() == "true",
        proxy=parameters.get("DatabaseProxy", str(database.proxy)).lower() == "true",
    )
    memory = number("WorkerMemory", functions.worker.memory_mib)
    match api:
        case ApiContainers():
            api = replace(
                api,
                count=number("ApiCount", api.count),
                cpu=number("ApiCpu", api.cpu),
                memory_mib=number("ApiMemory", api.memory_mib),
            )
        case ApiFunction():
            size = replace(api.function, memory_mib=number("ApiMemory", api.function.memory_mib))
            api = replace(api, function=size)
    gateways = number("NatGateways", profile.network.nat_gateways)
    return replace(
        profile,
        network=replace(profile.network, nat_gateways=gateways),
        database=database,
        functions=replace(functions, worker=replace(functions.worker, memory_mib=memory)),
        api=api,
        retention_days=number("RetentionDays", profile.retention_days),
        log_retention_days=number("LogRetentionDays", profile.log_retention_days),
    )


def unpriced(parameters: Mapping[str, str]) -> str | None:
    """The database's class, if nothing is known of its price."""
    named = parameters.get("DatabaseInstanceClass")
    return named if named and named not in prices.DATABASE_CLASS_HOUR else None


def estimate(profile: Profile, *, tasks_per_second: float = 0.0, alarms: int = 0) -> Estimate:
    """A month of continuous load. ``alarms``: how many series those of the template watch."""
    lines = [
        _load_balancer(tasks_per_second),
        *_network(profile, tasks_per_second),
        _api(profile, tasks_per_second),
        _functions(profile, tasks_per_second),
        _queues(profile, tasks_per_second),
        *_database(profile, tasks_per_second),
        _logs(profile, tasks_per_second),
        _metrics(tasks_per_second),
        Line(
            "Secret, alarms, dashboard",
            f"1, {alarms} metrics, 1",
            prices.SECRET_MONTH + alarms * prices.ALARM_MONTH + prices.DASHBOARD_MONTH,
        ),
    ]
    return Estimate(profile.name, tasks_per_second, [line for line in lines if line.dollars > 0])


def _metrics(rate: float) -> Line:
    """The program's own. Those that have no value in an hour are not billed for it."""
    values = {"priority": len(PRIORITIES), "task": TASK_KINDS, "service": 2}
    always = (OUTBOX_PENDING, OUTBOX_LAG, OLDEST_WAITING, HEARTBEAT)
    series = sum(
        math.prod(values[name] for name in names)
        for metric in (METRICS if rate else always)
        for names in metric.dimensions
    )
    return Line("Metrics", f"{series} series", series * prices.METRIC_MONTH)


def assumptions() -> list[str]:
    return [
        f"list prices of {prices.REGION}, {prices.AS_OF}, without taxes, free tier, internet transfer, snapshots",
        f"tasks of {TASK_SECONDS * 1_000:.0f} ms with payloads below 64 KiB, day and night at that rate",
        f"{TASK_BYTES} bytes in the database and {LOGGED_BYTES} bytes of logs per task, kept as the profile says",
        f"{AWS_BYTES} bytes per task through interface endpoints or a NAT gateway; what tasks themselves call is extra",
        f"{TASK_KINDS} kinds of tasks with metrics of their own",
        "the database grows with the load: the class in the table is what that load needs",
    ]


def database_class(profile: Profile, tasks_per_second: float) -> str:
    """The profile's, or a larger one where the load needs it."""
    order = list(prices.DATABASE_CLASS_HOUR)
    needed = next((name for most, name in _DATABASE_FOR if tasks_per_second <= most), order[-1])
    return max(profile.database.instance_class, needed, key=order.index)


def _load_balancer(rate: float) -> Line:
    units = max(rate * HTTP_BYTES * 3_600 / LCU_BYTES, 0.05)  # health checks are always there
    dollars = prices.HOURS * (
        prices.LOAD_BALANCER_HOUR
        + units * prices.LOAD_BALANCER_LCU_HOUR
        + _LOAD_BALANCER_ADDRESSES * prices.PUBLIC_ADDRESS_HOUR
    )
    return Line("Load balancer", f"{units:.1f} LCU, {_LOAD_BALANCER_ADDRESSES} addresses", dollars)


def _network(profile: Profile, rate: float) -> list[Line]:
    """Over IPv6 the way to AWS costs nothing; with interface endpoints nothing of it passes a NAT gateway."""
    network, gb = profile.network, rate * MONTH_SECONDS * AWS_BYTES / 1e9
    endpoints = len(network.interface_endpoints) * network.availability_zones
    gateway = prices.NAT_GATEWAY_HOUR + prices.PUBLIC_ADDRESS_HOUR
    through_endpoints = gb if endpoints else 0.0
    through_gateways = (
        gb if network.nat_gateways and not endpoints and not network.ipv6_only else 0.0
    )
    return [
        Line(
            "Interface endpoints",
            f"{endpoints}, {through_endpoints:,.0f} GB",
            endpoints * prices.INTERFACE_ENDPOINT_HOUR * prices.HOURS
            + through_endpoints * prices.INTERFACE_ENDPOINT_GB,
        ),
        Line(
            "NAT gateways",
            f"{network.nat_gateways}, {through_gateways:,.0f} GB",
            network.nat_gateways * gateway * prices.HOURS
            + through_gateways * prices.NAT_GATEWAY_GB,
        ),
    ]


def _api(profile: Profile, rate: float) -> Line:
    match profile.api:
        case ApiContainers() as api:
            vcpu, gb = api.cpu / 1_024, api.memory_mib / 1_024
            count = max(api.count, math.ceil(rate / (TASKS_PER_VCPU_SECOND * vcpu)))
            hour = vcpu * prices.FARGATE_VCPU_HOUR + gb * prices.FARGATE_GB_HOUR
            return Line(
                "API on Fargate", f"{count} × {vcpu:g} vCPU, {gb:g} GB", count * hour * prices.HOURS
            )
        case ApiFunction() as api:
            requests = 2 * rate * MONTH_SECONDS
            gb_seconds = rate * MONTH_SECONDS * API_SECONDS * api.function.memory_mib / 1_024
            dollars = requests * prices.FUNCTION_REQUEST + gb_seconds * prices.FUNCTION_GB_SECOND
            return Line("API on Lambda", f"{requests / 1e6:.1f} M requests", dollars)


def _functions(profile: Profile, rate: float) -> Line:
    """Workers and the tick of a minute. Tasks of a batch run side by side, as far as there are slots."""
    functions, batch = profile.functions, _batch(profile, rate)
    rounds = math.ceil(batch / functions.worker_slots)
    invocations = rate * MONTH_SECONDS / batch
    seconds = rounds * TASK_SECONDS + _INVOCATION_SECONDS
    ticks = MONTH_SECONDS / 60
    gb_seconds = invocations * seconds * functions.worker.memory_mib / 1_024
    gb_seconds += ticks * MAINTENANCE_SECONDS * functions.maintenance.memory_mib / 1_024
    dollars = (
        invocations + ticks
    ) * prices.FUNCTION_REQUEST + gb_seconds * prices.FUNCTION_GB_SECOND
    return Line("Functions", f"{(invocations + ticks) / 1e6:.2f} M invocations", dollars)


def _queues(profile: Profile, rate: float) -> Line:
    """Each task is sent, received and deleted; polls go on where nothing waits."""
    mappings = len(profile.queues) * (
        3 if profile.long_workers else 2
    )  # the queues, and all dead letters
    tasks = rate * MONTH_SECONDS
    requests = mappings * IDLE_POLLS_A_MONTH + 3 * tasks / _batch(profile, rate)
    dollars = requests * prices.QUEUE_REQUEST + tasks * prices.FAIR_QUEUE_MESSAGE
    return Line("SQS", f"{requests / 1e6:.1f} M requests", dollars)


def _database(profile: Profile, rate: float) -> list[Line]:
    database, name = profile.database, database_class(profile, rate)
    hour, processors = prices.DATABASE_CLASS_HOUR[name]
    zones = 2 if database.multi_az else 1
    rows_gb = rate * 86_400 * profile.retention_days * TASK_BYTES / 1e9
    storage_gb = max(float(database.storage_gib), rows_gb * 1.3)  # room to vacuum in
    zoned = "two zones" if database.multi_az else "one zone"
    proxy = processors * prices.DATABASE_PROXY_VCPU_HOUR * prices.HOURS if database.proxy else 0.0
    return [
        Line("PostgreSQL", f"{name}, {zoned}", zones * hour * prices.HOURS),
        Line("Its storage", f"{storage_gb:,.0f} GB", zones * storage_gb * prices.DATABASE_GB_MONTH),
        Line("RDS Proxy", f"{processors} vCPU", proxy),
    ]


def _logs(profile: Profile, rate: float) -> Line:
    gb = (rate * MONTH_SECONDS * LOGGED_BYTES + MONTH_SECONDS / 60 * LOGGED_BYTES) / 1e9
    kept = gb * profile.log_retention_days / 30
    return Line("Logs", f"{gb:,.1f} GB a month", gb * prices.LOGS_GB + kept * prices.LOGS_GB_MONTH)


def _batch(profile: Profile, rate: float) -> float:
    """Messages in a request: as many as come in a tenth of a second, up to SQS's ten."""
    most = min(queue.batch_size for queue in profile.queues)
    return min(float(most), max(1.0, rate / 10))
