"""Many submissions in as few requests as the server takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from taskflow.client import wire
from taskflow.core.errors import InvalidRequestError, PayloadTooLargeError, TaskFlowError

# In one request: a quarter of what servers take by default (TASKFLOW_MAX_BODY_BYTES), below the 6 MB of Lambda, and
# sent in seconds by a slow line.
REQUEST_BYTES = 4 * 2**20


class Batches:
    """Cuts batches by size. Where the server takes less (its own limit, or one of what is before it) it learns so, for
    the batches after it, too. Thread safe: two threads may learn the same."""

    def __init__(self, send: Callable[[bytes], Any]) -> None:
        self._send = send
        self._most_bytes = REQUEST_BYTES
        self._most_items: int | None = None

    def submit(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | TaskFlowError]:
        """The answer to each. Raises what is the matter with a request as a whole; those before it are accepted."""
        texts = [orjson.dumps(body) for body in bodies]
        answers: list[dict[str, Any] | TaskFlowError] = []
        while len(answers) < len(texts):
            chunk = self._next(texts, len(answers))
            try:
                answer = self._send(b'{"tasks":[' + b",".join(chunk) + b"]}")
            except PayloadTooLargeError as exc:
                if len(chunk) == 1:
                    answers.append(exc)
                else:
                    self._most_bytes = sum(map(len, chunk)) // 2
            except InvalidRequestError as exc:
                if len(chunk) == 1 or not _too_many(exc):
                    raise
                self._most_items = len(chunk) // 2
            else:
                items = wire.items_of(answer)
                if len(items) != len(chunk):
                    raise wire.unexpected("an answer to each submission")
                answers += items
        return answers

    def _next(self, texts: Sequence[bytes], start: int) -> Sequence[bytes]:
        """At least one, however large."""
        size, end = 0, start
        last = len(texts) if self._most_items is None else start + self._most_items
        for text in texts[start:last]:
            size += len(text)
            if size > self._most_bytes and end > start:
                break
            end += 1
        return texts[start:end]


def _too_many(exc: InvalidRequestError) -> bool:
    """Rather than something about one of them, which would be ``tasks[0]…``."""
    return any(field.get("field") == "tasks" for field in exc.fields)
