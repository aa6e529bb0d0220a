"""Three API and three worker processes; whichever is killed is replaced at once, as an orchestrator would."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path

from taskflow.cluster.emulator import answers
from tests.acceptance.crash.processes import Nursery, Process
from tests.support.ports import free_port

INSTANCES = 3
WORKERS = 3
_START_SECONDS = 60.0
_MODULE = "tests.acceptance.distributed.programs"


class Fleet:
    """``roles``: whose identity (`tests.support.guard`) an api and a worker have.

    ``deaths``: when (Unix seconds) the process of an id was gone, for every one that was killed."""

    def __init__(
        self,
        nursery: Nursery,
        directory: Path,
        environment: Mapping[str, str],
        rng: random.Random,
        *,
        roles: Mapping[str, str],
    ) -> None:
        self._nursery = nursery
        self._directory = directory
        self._environment = dict(environment)
        self._roles = dict(roles)
        self._rng = rng
        self.ports = tuple(free_port() for _ in range(INSTANCES))
        self.deaths: dict[int, float] = {}
        self._processes: dict[str, Process] = {}
        for number in range(INSTANCES):
            self._start(f"api-{number}")
        for number in range(WORKERS):
            self._start(f"worker-{number}")

    def kill_one(self) -> str:
        """Any of them, without mercy; its successor is started. Returns its name."""
        name = self._rng.choice(list(self._processes))
        process = self._processes.pop(name)
        process.kill()
        self.deaths[process.pid] = time.time()
        process.channel.close()
        self._start(name)
        return name

    def replace_ended(self) -> None:
        """Those that ended by themselves, which only one that starts while PostgreSQL is away may do."""
        for name, process in list(self._processes.items()):
            path = Path(f"/proc/{process.pid}/stat")
            if path.read_text().rpartition(")")[2].split()[0] != "Z":
                continue
            code = process.wait()
            last = process.log_tail().rstrip().rpartition("\n")[2]
            expected = code == 1 and last.startswith("taskflow: PostgreSQL did not answer")
            assert expected, f"{name} ended with {code}:\n{process.log_tail()}"
            self.deaths[process.pid] = time.time()
            process.channel.close()
            self._start(name)

    def wait_until_ready(self) -> None:
        """All instances answer."""
        deadline = time.monotonic() + _START_SECONDS
        for port in self.ports:
            while not answers("127.0.0.1", port, "/health/ready", status=200):
                self.replace_ended()
                assert time.monotonic() < deadline, f"nobody answers on port {port}"

    def stop(self) -> None:
        for process in self._processes.values():
            with process:
                pass

    def _start(self, name: str) -> None:
        kind, _, number = name.partition("-")
        arguments = {"port": self.ports[int(number)]} if kind == "api" else {}
        self._processes[name] = self._nursery.start(
            f"{_MODULE}:{kind}",
            log=self._directory / f"{name}.log",
            environment=self._environment | {"AWS_SDK_UA_APP_ID": self._roles[kind]},
            **arguments,
        )
