"""The API without the store: the same application, models, middleware and server, which answers without storing.

Run as a process of its own (`python -m benchmarks.answering`), it is what `POST /api/v1/tasks` is measured against.
With ``--unchecked`` not even arguments are checked: nothing at all is done but answering.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import benchmarks.handlers  # noqa: F401 - registers the task
from taskflow import logs
from taskflow.api.app import create_app
from taskflow.api.server import serve
from taskflow.bootstrap import build
from taskflow.core.ids import UUID7
from taskflow.core.submission import Accepted, Submission
from taskflow.services.preparation import Preparation
from taskflow.services.submission import Submissions
from taskflow.settings import load


class Answering:
    """Takes the place of `Submissions`, and stores nothing. ``checks``: what validates arguments and makes the rows."""

    def __init__(self, checks: Preparation | None) -> None:
        self._new_id = UUID7(lambda: time.time_ns() // 1_000_000)
        self._checks = checks

    async def submit_async(
        self,
        tenant_id: str,
        submissions: Sequence[Submission],
        *,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Accepted]:
        """An id and the time."""
        now = time.time_ns() // 1_000
        if self._checks is None:
            return [Accepted(self._new_id(), "pending", now, now) for _ in submissions]
        prepared = self._checks.prepare(tenant_id, submissions, request_id, traceparent)
        assert not any(prepared.errors)
        return [Accepted(task.id, "pending", now, now) for task in prepared.tasks]

    def close(self) -> None:
        """Nothing to let go of."""


def main() -> None:
    settings = load(num_workers=0)
    logs.configure(settings.log_level, settings.log_format, service="dev")
    runtime = build(settings, with_worker=False)
    stand_in: Any = Answering(
        None if "--unchecked" in sys.argv else runtime.submissions.preparation
    )
    try:
        serve(create_app(replace(runtime, submissions=cast("Submissions", stand_in))), settings)
    finally:
        runtime.close()


if __name__ == "__main__":
    main()
