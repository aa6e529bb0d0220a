"""From what the user asked for to a running cluster: checks, ports, directories, database, greeting."""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from taskflow.cluster import certificate, emulator, postgres
from taskflow.cluster.emulator import Emulator
from taskflow.cluster.lock import locked
from taskflow.cluster.plan import DATABASE, Plan, groups
from taskflow.cluster.postgres import PostgresMissingError
from taskflow.cluster.private_file import write_private
from taskflow.cluster.screen import Screen
from taskflow.cluster.supervisor import Supervisor
from taskflow.core.errors import ConfigurationError
from taskflow.listening import free_ports, listen

_HIGHEST_PORT = 65_535
ENVIRONMENT_FILE = "environment"
SERVER_URL = "TASKFLOW_TEST_DATABASE_URL"
# They could lead out of the cluster.
_NOT_USED = (
    "TASKFLOW_DATABASE_SECRET_ARN",
    "TASKFLOW_DATABASE_REPLICA_URL",
    "TASKFLOW_QUEUE_URL_CRITICAL",
    "TASKFLOW_QUEUE_URL_HIGH",
    "TASKFLOW_QUEUE_URL_NORMAL",
    "TASKFLOW_QUEUE_URL_LOW",
)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """``port``: of the first API instance; 0: free ones, also for the balancer. ``emulator`` None: neither queue nor
    payloads need one. ``https``: the balancer's, with a certificate of this machine's own.

    ``server_url``: a PostgreSQL server to make a database on; empty: one of our own. ``settings``: variables for every
    TaskFlow process, beside those decided here. ``environment``: what all processes inherit.
    """

    home: Path
    host: str
    port: int
    instances: int
    workers: int
    emulator: Emulator | None
    balancer_port: int
    https: bool
    server_url: str
    grace_seconds: float
    settings: Mapping[str, str]
    environment: Mapping[str, str]


def run(wishes: Wishes, stream: TextIO, *, colour: bool, as_json: bool) -> int:
    """Until it is stopped; the exit code. Raises ConfigurationError, CannotListenError, PostgresMissingError and
    ClusterRunningError before anything is started."""
    _check_installed(wishes)
    directory = _directory(wishes.home.absolute() / "cluster")
    with ExitStack() as closing:
        lock = closing.enter_context(locked(directory))
        ports = _api_ports(wishes)
        for log in directory.glob("*.log"):
            log.unlink()
        plan = _plan(wishes, directory, ports, closing)
        life, ours = os.pipe()  # its end tells every process that we are gone
        closing.callback(os.close, ours)
        closing.callback(os.close, life)
        specs = groups(plan)
        names = [spec.name for group in specs for spec in group]
        screen = Screen(stream, names, colour=colour, as_json=as_json)
        supervisor = Supervisor(
            specs, screen, environment=_inherited(wishes), inherited=(life, lock)
        )
        screen.on_closed = supervisor.request_stop
        environment_file = directory / ENVIRONMENT_FILE
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in plan.settings.items()]
        write_private(environment_file, "".join(lines).encode())
        closing.callback(environment_file.unlink, missing_ok=True)
        screen.say(f"starting {', '.join(names)}")
        return supervisor.run(lambda: screen.say(_greeting(plan, wishes)))


def _check_installed(wishes: Wishes) -> None:
    needed = ["psycopg2", *(["boto3"] if wishes.emulator else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"`taskflow cluster` needs {' and '.join(missing)}: pip install 'taskflow[cluster]'"
        )
    if wishes.emulator is not None:
        emulator.check(wishes.emulator)
    if not wishes.server_url:
        postgres.check()
    elif not wishes.server_url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(
            f"{SERVER_URL} is not the URL of a PostgreSQL server (postgresql://user@host:5432)"
        )
    if wishes.https:
        certificate.check()


def _directory(path: Path) -> Path:
    """Raises ConfigurationError when it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "lock").touch(mode=0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be written to: {exc.strerror} (--home, TASKFLOW_HOME)"
        ) from exc
    return path


def _api_ports(wishes: Wishes) -> tuple[int, ...]:
    """Nobody listens on any of them. Raises CannotListenError, ConfigurationError."""
    if wishes.port == 0:
        listen(wishes.host, 0).close()
        return tuple(free_ports(wishes.instances))
    ports = range(wishes.port, wishes.port + wishes.instances)
    if ports[-1] > _HIGHEST_PORT:
        raise ConfigurationError(f"there is no port {ports[-1]}: choose a lower --port")
    if wishes.balancer_port in ports:
        raise ConfigurationError(
            f"port {wishes.balancer_port} is an API instance's: choose another --balancer-port"
        )
    for port in ports:
        listen(wishes.host, port, option="--port").close()
    if wishes.balancer_port:
        listen(wishes.host, wishes.balancer_port, option="--balancer-port").close()
    return tuple(ports)


def _plan(wishes: Wishes, directory: Path, ports: tuple[int, ...], closing: ExitStack) -> Plan:
    """``closing`` removes at the end what is made here."""
    others = free_ports(wishes.workers + 3 + wishes.instances)
    free = [port for port in others if port not in ports]
    emulator_port, postgres_port, balancer_port, *health_ports = free
    if wishes.server_url:
        store = closing.enter_context(_database(wishes.server_url, directory))
        postgres_directory = directory
    else:
        store = f"postgresql://{postgres.SUPERUSER}@127.0.0.1:{postgres_port}/{DATABASE}"
        postgres_directory = closing.enter_context(_postgres_directory(directory))
    return Plan(
        directory=directory,
        host=wishes.host,
        ports=ports,
        health_ports=tuple(health_ports[: wishes.workers]),
        emulator=wishes.emulator,
        emulator_port=emulator_port,
        postgres_directory=postgres_directory,
        postgres_port=None if wishes.server_url else postgres_port,
        balancer_port=(wishes.balancer_port if wishes.port else 0) or balancer_port,
        balancer_token=secrets.token_urlsafe(16),
        certificate=(
            certificate.local_certificate(wishes.home.absolute() / "tls", wishes.host)
            if wishes.https
            else None
        ),
        grace_seconds=wishes.grace_seconds,
        settings={
            **dict.fromkeys(_NOT_USED, ""),
            **wishes.settings,
            "TASKFLOW_HOME": str(wishes.home.absolute()),
            "TASKFLOW_DATABASE_URL": store,
            **(emulator.clients(f"http://127.0.0.1:{emulator_port}") if wishes.emulator else {}),
        },
    )


@contextmanager
def _database(server_url: str, directory: Path) -> Iterator[str]:
    """A database of this home's on a server that others use, too."""
    name = f"taskflow_cluster_{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}"
    try:
        postgres.drop_database(server_url, name)  # of one that was killed
        store = postgres.create_database(server_url, name)
    except PostgresMissingError as exc:
        raise PostgresMissingError(f"{SERVER_URL}: {exc.detail}") from exc
    try:
        yield store
    finally:
        postgres.drop_database(server_url, name)


@contextmanager
def _postgres_directory(directory: Path) -> Iterator[Path]:
    """Empty, and one in which the server may write: as root it runs as nobody, who cannot enter every home."""
    path = directory / "postgres"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    if not postgres.is_usable(path):
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="taskflow-cluster-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _inherited(wishes: Wishes) -> dict[str, str]:
    """Not AWS's variables: profiles, roles and addresses of the real one are none of an emulator's business."""
    kept = {
        name: value
        for name, value in wishes.environment.items()
        if not (wishes.emulator and name.startswith("AWS_"))
    }
    return {**kept, "TASKFLOW_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}


def _greeting(plan: Plan, wishes: Wishes) -> str:
    rows = {
        "balancer": plan.balancer_address,
        "API": "  ".join(plan.addresses),
        "workers": "1 process" if wishes.workers == 1 else f"{wishes.workers} processes",
        "store": postgres.without_password(plan.settings["TASKFLOW_DATABASE_URL"]),
    }
    if plan.emulator is not None:
        rows[str(plan.emulator)] = plan.settings["AWS_ENDPOINT_URL"]
    rows["commands"] = f"set -a; . {shlex.quote(str(plan.directory / ENVIRONMENT_FILE))}; set +a"
    rows["status"] = f"{plan.balancer_address}/_balancer (password: {plan.balancer_token})"
    lines = [f"  {name:<9} {text}" for name, text in rows.items()]
    if plan.certificate is not None:
        lines.append("To trust the certificate of this machine:")
        lines += [f"  {line}" for line in plan.certificate.advice.splitlines()]
    return "\n".join(["TaskFlow runs. Ctrl-C stops.", *lines])
