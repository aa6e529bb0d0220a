"""Eight clients that submit over HTTP until the server is gone, and remember what it answered."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.crash.load import Wanted, wanted
from tests.acceptance.crash.verdict import Answered

CLIENTS = 8
_GONE = (ConnectionError, http.client.HTTPException, OSError)


@dataclass
class Clients:
    """``enough`` is set once ``target`` submissions have been answered. ``complaints``: answers that must not be."""

    port: int
    seed: str
    answered: Answered
    target: int
    enough: threading.Event = field(default_factory=threading.Event)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._threads = [
            threading.Thread(target=self._submit, args=(f"{self.seed}-{number}",))
            for number in range(CLIENTS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """The server is gone, so they end."""
        for thread in self._threads:
            thread.join()

    def _submit(self, seed: str) -> None:
        rng = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        previous: str | None = None
        try:
            for number in itertools.count():
                previous = self._one(connection, rng, f"{seed}-{number}", previous)
        except _GONE:
            pass
        finally:
            self.enough.set()  # whatever it was, there is nothing more to wait for
            connection.close()

    def _one(
        self,
        connection: http.client.HTTPConnection,
        rng: random.Random,
        key: str,
        previous: str | None,
    ) -> str | None:
        if rng.random() < 0.05:
            wants = [wanted(rng, key=f"{key}-{n}", previous=previous) for n in range(10)]
            bodies = [_body(want) for want in wants]
            status, answer = _call(connection, "/api/v1/tasks/batch", {"tasks": bodies})
            if status >= 300:
                self.complaints.append(f"{status}: {answer}")
                return previous
            for want, item in zip(wants, answer["items"], strict=True):
                self._note(want, item["task_id"])
            return previous
        want = wanted(rng, key=key, previous=previous)
        status, answer = _call(connection, "/api/v1/tasks", _body(want))
        if status != 202:
            self.complaints.append(f"{status}: {answer}")
            return previous
        task_id: str = answer["task_id"]
        self._note(want, task_id)
        if want.again:
            status, again = _call(connection, "/api/v1/tasks", _body(want))
            if (status, again.get("task_id")) != (200, task_id):
                self.complaints.append(f"repeated: {status}: {again}, not {task_id}")
        if rng.random() < 0.05:
            self.answered.cancelled.add(task_id)
            status, answer = _call(connection, f"/api/v1/tasks/{task_id}/cancel", {})
            if status not in (200, 202, 409):
                self.complaints.append(f"cancel: {status}: {answer}")
        return task_id

    def _note(self, want: Wanted, task_id: str) -> None:
        with self._lock:
            self.answered.kinds[task_id] = want.kind
            if want.depends_on is not None:
                self.answered.parents[task_id] = want.depends_on
            self._count += 1
            if self._count >= self.target:
                self.enough.set()


def _body(want: Wanted) -> dict[str, Any]:
    body = {
        "task": want.task,
        "kwargs": want.arguments,
        "priority": want.priority,
        "delay": want.delay,
        "idempotency_key": want.key,
        "depends_on": None if want.depends_on is None else [want.depends_on],
    }
    return {name: value for name, value in body.items() if value is not None}


def _call(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())
