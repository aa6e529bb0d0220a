"""An emulator of SQS, queues on it, and an embedded TaskFlow that uses them and PostgreSQL."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from taskflow import TaskFlow
from taskflow.bootstrap import provision_queues
from taskflow.settings import load
from tests.support import aws
from tests.support.aws_proxy import AwsProxy, aws_proxy
from tests.support.emulator_server import start


@contextmanager
def emulator() -> Iterator[str]:
    """Endpoint of a MiniStack of its own; AWS's variables name it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="taskflow-benchmark-") as home:
        process, url = start("ministack", Path(home))
        try:
            with mock.patch.dict(os.environ, aws.environment(url)):
                yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def counting(url: str) -> Iterator[AwsProxy]:
    """A proxy that counts requests; AWS's variables name it meanwhile."""
    with aws_proxy(url) as proxy, mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": proxy.url}):
        yield proxy


@contextmanager
def running(database_url: str, *, workers: int) -> Iterator[TaskFlow]:
    """On new queues, everything else as it comes."""
    import benchmarks.handlers  # noqa: F401 - registers the task

    with tempfile.TemporaryDirectory(prefix="taskflow-benchmark-") as home:
        values: dict[str, Any] = {
            "home": Path(home),
            "queue_backend": "sqs",
            "queue_prefix": aws.unique("benchmark"),
            "database_url": database_url,
            "tasks": (),
            "max_queue_size": 0,
            "num_workers": workers,
        }
        settings = load(**values)
        provision_queues(settings)
        with TaskFlow(settings) as app:
            app.submit("noop", 0).result(timeout=60)
            gc.collect()
            yield app
