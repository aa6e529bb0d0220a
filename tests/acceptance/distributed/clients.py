"""Clients that submit through whichever API instance answers, and repeat with the same key until one has."""

from __future__ import annotations

import http.client
import json
import random
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

CLIENTS = 8
_PAUSE_SECONDS = 0.02  # after no answer, and between submissions: the machine has other work
_LONGEST_SECONDS = 20.0
_GONE = (OSError, http.client.HTTPException, ValueError)


class Clients:
    """``accepted``: task ids that were answered, with the result each is to have."""

    def __init__(self, ports: Sequence[int], rng: random.Random) -> None:
        self._ports = ports
        self._stopping = threading.Event()
        self.accepted: dict[str, Any] = {}
        self.complaints: list[str] = []
        self._threads = [
            threading.Thread(target=self._submit, args=(random.Random(rng.random()),))
            for _ in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, meanwhile: Callable[[], None]) -> None:
        """What has been begun is still brought to an answer, while ``meanwhile`` is called again and again."""
        self._stopping.set()
        for thread in self._threads:
            while thread.is_alive():
                meanwhile()
                thread.join(0.1)

    def _submit(self, rng: random.Random) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            body, result = _wanted(rng)
            while (task_id := self._post(rng.choice(self._ports), body)) is None:
                threading.Event().wait(_PAUSE_SECONDS)
            if task_id:
                self.accepted[task_id] = result

    def _post(self, port: int, body: dict[str, Any]) -> str | None:
        """Its id; None: nobody knows, ask again; empty: it was refused, which must not be."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST_SECONDS)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/api/v1/tasks", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status in (200, 202):
                return str(json.loads(text)["task_id"])
        except _GONE:
            return None
        finally:
            connection.close()
        if answer.status == 503:
            return None
        self.complaints.append(f"{answer.status}: {text[:500]!r}")
        return ""


def _wanted(rng: random.Random) -> tuple[dict[str, Any], Any]:
    common = {
        "idempotency_key": uuid.uuid4().hex,
        "priority": rng.choice(["critical", "high", "normal", "low"]),
    }
    if rng.random() < 0.2:
        return {"task": "distributed.flaky", **common}, None
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    kwargs = {"a": a, "b": b, "seconds": rng.choice([0.0, 0.0, 0.05, 0.3])}
    delay = rng.choice([0.0, 0.0, 0.0, 0.5])
    return {"task": "distributed.add", "kwargs": kwargs, "delay": delay, **common}, a + b
