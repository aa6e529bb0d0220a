"""Functions as Lambda runs them, on PostgreSQL and on SQS and S3 of moto. A module shares database and queues."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from taskflow.bootstrap import Runtime, build, provision_queues
from taskflow.core.registry import registry
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT, Task
from taskflow.settings import load
from tests.support import aws, guard
from tests.support.lambda_events import EventSource
from tests.support.lambda_runtime import LambdaFunction
from tests.support.postgres import Postgres

VISIBILITY_SECONDS = 600
_ROLES = {
    "api": ("ApiRole", "serverless"),
    "worker": ("WorkerRole", "standard"),
    "maintenance": ("MaintenanceRole", "standard"),
    "dead_letters": ("DeadLettersRole", "standard"),
    "migrate": ("MigrateRole", "standard"),
}


@dataclass
class Cloud:
    """``runtime`` is that of a process which only submits, and looks."""

    runtime: Runtime
    sqs: Any
    environment: dict[str, str]
    directory: Path
    opened: ExitStack
    server: str
    sources: dict[str, EventSource] = field(default_factory=dict)

    def function(
        self, name: str, *, timeout_seconds: float = 60.0, **settings: Any
    ) -> LambdaFunction:
        given = {f"TASKFLOW_{key.upper()}": str(value) for key, value in settings.items()}
        given["AWS_SDK_UA_APP_ID"] = self.identity(name)
        return self.opened.enter_context(
            LambdaFunction(
                f"lambdas.{name}.handler",
                self.environment | given,
                self.directory,
                timeout_seconds=timeout_seconds,
            )
        )

    def identity(self, function: str) -> str:
        """In the role that it has on AWS."""
        role, profile = _ROLES[function]
        settings = self.runtime.settings
        return guard.identity(
            role, prefix=settings.queue_prefix, bucket=settings.s3_bucket, profile=profile
        )

    def refused(self) -> list[str]:
        """What no role of the template allows; a queue that a test calls -orphan is not the template's either."""
        url = self.environment["AWS_ENDPOINT_URL"]
        identities = [self.identity(function) for function in _ROLES]
        reasons = [reason for identity in identities for reason in guard.refused(url, identity)]
        return [reason for reason in reasons if "-orphan" not in reason]

    def source(self, priority: str = "normal", *, dead: bool = False) -> EventSource:
        queue = f"{self.runtime.settings.queue_prefix}-{priority}{'-dead' if dead else ''}"
        if queue not in self.sources:
            self.sources[queue] = EventSource(self.sqs, queue)
        return self.sources[queue]

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

    def waiting(self, priority: str = "normal") -> tuple[int, int]:
        """Messages of the queue: visible, and hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(
            QueueUrl=self.source(priority).url, AttributeNames=names
        )["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    @contextmanager
    def store_away(self) -> Iterator[None]:
        """PostgreSQL refuses every connection to this database, and has ended those there were."""
        self._let_in(False)
        self.end_connections()
        try:
            yield
        finally:
            self._let_in(True)

    def end_connections(self) -> None:
        self._elsewhere(
            f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{self._name}'"
        )

    def connections(self, like: str) -> int:
        [[count]] = self._elsewhere(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE datname = '{self._name}' AND application_name LIKE '{like}'"
        )
        return int(count)

    @property
    def _name(self) -> str:
        return str(self.runtime.database.url.database)

    def _let_in(self, allowed: bool) -> None:
        self._elsewhere(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS {allowed}')

    def _elsewhere(self, statement: str) -> list[Any]:
        connection = psycopg2.connect(self.server)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

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

        def make(*, endpoint: str = moto_url, **settings: Any) -> Cloud:
            url = postgres_server.create()
            stack.callback(postgres_server.drop, url)
            prefix, bucket = aws.unique("lambda"), aws.unique("lambda")
            directory = tmp_path_factory.mktemp("lambda")
            environment = {
                **aws.environment(endpoint),
                "TASKFLOW_BACKEND": "aws",
                "TASKFLOW_DATABASE_URL": url,
                "TASKFLOW_QUEUE_PREFIX": prefix,
                "TASKFLOW_S3_BUCKET": bucket,
                "TASKFLOW_HOME": str(directory / "home"),
                "TASKFLOW_TASKS": "tests.integration.lambdas.handlers",
                "TASKFLOW_LAMBDA_MARGIN_SECONDS": "2",
                "TASKFLOW_DEFAULT_TIMEOUT": "20",
                "TASKFLOW_LEASE_SECONDS": "3",
                "TASKFLOW_RETRY_BASE_SECONDS": "0",
                "TASKFLOW_QUEUE_SEND_SECONDS": "60",  # a busy machine takes its time
                **{f"TASKFLOW_{key.upper()}": str(value) for key, value in settings.items()},
            }
            patched = stack.enter_context(pytest.MonkeyPatch.context())
            for name, value in environment.items():
                patched.setenv(name, value)
            import tests.integration.lambdas.handlers  # noqa: F401 - registers them here, too

            s3, sqs = aws.client("s3", endpoint), aws.client("sqs", endpoint)
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
            cloud = Cloud(
                runtime, sqs, environment, directory, opened, postgres_server.of("postgres")
            )
            clouds.append(cloud)
            return cloud

        clouds: list[Cloud] = []
        yield make
        refused = [reason for cloud in clouds for reason in cloud.refused()]
    assert refused == []


@pytest.fixture(scope="module")
def cloud(make_cloud: Callable[..., Cloud]) -> Cloud:
    return make_cloud()


@pytest.fixture(autouse=True)
def empty_queues(request: pytest.FixtureRequest) -> None:
    """One test's messages are nothing to the next."""
    if "cloud" in request.fixturenames:
        cloud: Cloud = request.getfixturevalue("cloud")
        for priority in ("critical", "normal"):
            cloud.source(priority).empty()


@pytest.fixture(scope="module")
def worker(cloud: Cloud) -> LambdaFunction:
    return cloud.function("worker")


def eventually(true: Callable[[], Any], *, seconds: float = 60.0) -> None:
    """Returns as soon as it holds. Raises AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        select.select([], [], [], 0.02)
