"""Functions as Lambda runs them, on PostgreSQL and on SQS and S3 of moto. A module shares database and queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskflow.bootstrap import Runtime, build, provision_queues
from taskflow.core.registry import registry
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT, Task
from taskflow.settings import load
from tests.support import aws
from tests.support.lambda_events import EventSource
from tests.support.lambda_runtime import LambdaFunction
from tests.support.postgres import Postgres

VISIBILITY_SECONDS = 600


@dataclass
class Cloud:
    """``runtime`` is that of a process which only submits, and looks."""

    runtime: Runtime
    sqs: Any
    environment: dict[str, str]
    directory: Path
    opened: ExitStack

    def function(
        self, name: str, *, timeout_seconds: float = 60.0, **settings: Any
    ) -> LambdaFunction:
        given = {f"TASKFLOW_{key.upper()}": str(value) for key, value in settings.items()}
        return self.opened.enter_context(
            LambdaFunction(
                f"lambdas.{name}.handler",
                self.environment | given,
                self.directory,
                timeout_seconds=timeout_seconds,
            )
        )

    def source(self, priority: str = "normal", *, dead: bool = False) -> EventSource:
        prefix = self.runtime.settings.queue_prefix
        return EventSource(self.sqs, f"{prefix}-{priority}{'-dead' if dead else ''}")

    def submit(self, task: str, *args: Any, **options: Any) -> str:
        submission = Submission(task, args, {}, SubmitOptions.of(**options))
        return self.runtime.submissions.submit_one(DEFAULT_TENANT, submission).task_id

    def get(self, task_id: str) -> Task:
        return self.runtime.tasks.get(DEFAULT_TENANT, task_id)

    def status(self, *task_ids: str) -> list[str]:
        return [self.get(task_id).status.value for task_id in task_ids]

    def history(self, task_id: str) -> list[str]:
        events = self.runtime.tasks.history(DEFAULT_TENANT, task_id)
        return [event.type.removeprefix("task.") for event in events]

    def count(self, table: str) -> int:
        with self.runtime.database.read() as connection:
            return connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0

    def execute(self, statement: str, **values: Any) -> None:
        with self.runtime.database.engine.begin() as connection:
            connection.execute(sa.text(statement), values)


@pytest.fixture(scope="module")
def make_cloud(
    postgres_server: Postgres, moto_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Cloud]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Cloud:
            url = postgres_server.create()
            stack.callback(postgres_server.drop, url)
            prefix, bucket = aws.unique("lambda"), aws.unique("lambda")
            directory = tmp_path_factory.mktemp("lambda")
            environment = {
                **aws.environment(moto_url),
                "TASKFLOW_BACKEND": "aws",
                "TASKFLOW_DATABASE_URL": url,
                "TASKFLOW_QUEUE_PREFIX": prefix,
                "TASKFLOW_S3_BUCKET": bucket,
                "TASKFLOW_HOME": str(directory / "home"),
                "TASKFLOW_TASKS": "tests.integration.lambdas.handlers",
                "TASKFLOW_LAMBDA_MARGIN_SECONDS": "2",
                "TASKFLOW_DEFAULT_TIMEOUT": "20",
                **{f"TASKFLOW_{key.upper()}": str(value) for key, value in settings.items()},
            }
            patched = stack.enter_context(pytest.MonkeyPatch.context())
            for name, value in environment.items():
                patched.setenv(name, value)
            import tests.integration.lambdas.handlers  # noqa: F401 - registers them here, too

            s3, sqs = aws.client("s3", moto_url), aws.client("sqs", moto_url)
            stack.callback(s3.close)
            stack.callback(sqs.close)
            s3.create_bucket(Bucket=bucket)
            loaded = load()
            queues = provision_queues(loaded)
            for queue in queues:
                queue_url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
                sqs.set_queue_attributes(
                    QueueUrl=queue_url, Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)}
                )
            runtime = build(loaded, registry=registry, with_worker=False)
            stack.callback(runtime.close)
            opened = stack.enter_context(ExitStack())
            return Cloud(runtime, sqs, environment, directory, opened)

        yield make


@pytest.fixture(scope="module")
def cloud(make_cloud: Callable[..., Cloud]) -> Cloud:
    return make_cloud()


@pytest.fixture(scope="module")
def worker(cloud: Cloud) -> LambdaFunction:
    return cloud.function("worker")
