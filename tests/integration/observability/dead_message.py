"""A process that takes up a message which the queue has given up, as the dead-letters function does.

Arguments: the home. Prints the id of the task.
"""

from __future__ import annotations

import sys

from taskflow import logs
from taskflow.bootstrap import build
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT
from taskflow.observability.log_files import LogFiles
from taskflow.services.undelivered import Undelivered
from taskflow.settings import load


def main(home: str) -> None:
    settings = load(home=home, max_crashes=1)
    kept = LogFiles(settings.home / "logs", "dead-letters", keep_bytes=settings.log_keep_bytes)
    logs.configure("info", "json", service="dead-letters", also=kept.write)
    runtime = build(settings)
    try:
        task = runtime.submissions.submit_one(
            DEFAULT_TENANT, Submission("echo", (1,), {}, SubmitOptions())
        )
        Undelivered(runtime.execution).take_over(
            runtime.queue.dequeue(max_messages=10, timeout_seconds=5)
        )
        print(task.task_id)
    finally:
        runtime.close()
        kept.close()


if __name__ == "__main__":
    main(sys.argv[1])
