"""Which processes a cluster has, and what each of them is told."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taskflow.cluster import emulator, postgres
from taskflow.cluster.certificate import LocalCertificate
from taskflow.cluster.emulator import Emulator
from taskflow.cluster.process import Group, ProcessSpec
from taskflow.core.addresses import reachable, url_of

DATABASE = "taskflow"
_TASKFLOW = "taskflow.cli:main"
_CLOSE_SECONDS = 5.0  # beyond the grace: to answer, to close what is open
_WRITE_SECONDS = (
    25.0  # beyond the grace: to claim no more, to interrupt, to write the last outcomes
)
_POSTGRES_SECONDS = 15.0  # it kills those of its processes that do not end within 5 s


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything is decided. ``emulator`` None: nothing needs one; ``postgres_port`` None: another server is used.

    ``settings`` are the environment variables of every process of TaskFlow, also of commands in another terminal.
    """

    directory: Path
    host: str
    ports: tuple[int, ...]
    health_ports: tuple[int, ...]
    emulator: Emulator | None
    emulator_port: int
    postgres_directory: Path
    postgres_port: int | None
    balancer_port: int
    balancer_token: str
    certificate: LocalCertificate | None
    grace_seconds: float
    settings: Mapping[str, str]

    @property
    def addresses(self) -> list[str]:
        return [url_of(reachable(self.host), port) for port in self.ports]

    @property
    def balancer_address(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return url_of(reachable(self.host), self.balancer_port, scheme=scheme)


def groups(plan: Plan) -> list[Group]:
    """In the order in which they start; they stop in the opposite one."""
    return [_foundation(plan), _steps(plan), _apis(plan), _workers(plan), _balancer(plan)]


def _foundation(plan: Plan) -> Group:
    specs = []
    if plan.postgres_port is not None:
        url = plan.settings["TASKFLOW_DATABASE_URL"]
        log = plan.directory / "postgres.log"
        specs.append(
            ProcessSpec(
                name="postgres",
                entry="taskflow.cluster.postgres_process:main",
                arguments=(
                    str(plan.postgres_directory),
                    str(plan.postgres_port),
                    DATABASE,
                    str(log),
                ),
                is_ready=lambda: postgres.answers(url),
                log_file=log,
                orphan_signal=signal.SIGTERM,  # it has to take the server along
                stop_seconds=_POSTGRES_SECONDS,
            )
        )
    if plan.emulator is not None:
        # Restarted, it has forgotten queues and bucket.
        again = ("provision",)
        specs.append(
            emulator.spec(plan.emulator, plan.emulator_port, plan.directory, repeats=again)
        )
    return specs


def _steps(plan: Plan) -> Group:
    names = ["migrate"] if plan.emulator is None else ["migrate", "provision"]
    return [
        ProcessSpec(
            name, _TASKFLOW, (name,), plan.settings, log_file=plan.directory / f"{name}.log"
        )
        for name in names
    ]


def _apis(plan: Plan) -> Group:
    return [
        ProcessSpec(
            name=f"api-{number}",
            entry=_TASKFLOW,
            arguments=("api", "--host", plan.host, "--port", str(port)),
            environment=plan.settings,
            is_ready=_is_healthy(plan.host, port),
            stop_seconds=plan.grace_seconds + _CLOSE_SECONDS,
            stop_signal=signal.SIGINT,  # the balancer is gone by then: no drain
        )
        for number, port in enumerate(plan.ports, 1)
    ]


def _workers(plan: Plan) -> Group:
    local = {**plan.settings, "TASKFLOW_HOST": "127.0.0.1"}
    return [
        ProcessSpec(
            name=f"worker-{number}",
            entry=_TASKFLOW,
            arguments=("worker", "--health-port", str(port)),
            environment=local,
            is_ready=_is_healthy("127.0.0.1", port),
            stop_seconds=plan.grace_seconds + _WRITE_SECONDS,
        )
        for number, port in enumerate(plan.health_ports, 1)
    ]


def _balancer(plan: Plan) -> Group:
    variables = {**plan.settings, "TASKFLOW_BALANCER_ADMIN_TOKEN": plan.balancer_token}
    if plan.certificate is not None:
        variables["TASKFLOW_BALANCER_TLS_CERTIFICATE"] = str(plan.certificate.certificate)
        variables["TASKFLOW_BALANCER_TLS_KEY"] = str(plan.certificate.key)
    return [
        ProcessSpec(
            name="balancer",
            entry=_TASKFLOW,
            arguments=(
                "balancer",
                *plan.addresses,
                "--host",
                plan.host,
                "--port",
                str(plan.balancer_port),
            ),
            environment=variables,
            is_ready=lambda: _listens(plan.host, plan.balancer_port),
            stop_seconds=plan.grace_seconds + _CLOSE_SECONDS,
        )
    ]


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((reachable(host), port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _is_healthy(host: str, port: int) -> Callable[[], bool]:
    return lambda: emulator.answers(reachable(host), port, "/health", status=200)
