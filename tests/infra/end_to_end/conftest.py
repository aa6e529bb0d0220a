"""TaskFlow deployed: the template's queues and functions with the packaged code on MiniStack, which runs them without
Docker; an API process and PostgreSQL beside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from taskflow import Client
from tests.infra.end_to_end.reduced import reduced
from tests.support import aws, packages
from tests.support.postgres import Postgres
from tests.support.server import serving
from tests.support.waiting import wait_for

_API = (Path(sys.executable).with_name("taskflow"), "api")
_SECONDS = 90.0  # a function that starts on a busy machine takes its time
_SERVICES = ("cloudformation", "lambda", "s3", "secretsmanager", "sqs")


@dataclass
class Deployed:
    url: str
    outputs: dict[str, str]
    functions: Any
    sqs: Any
    migrated: Any = None  # what the migrate function answered
    client: Client | None = None

    @property
    def api(self) -> Client:
        assert self.client is not None
        return self.client

    def invoke(self, name: str) -> Any:
        """What the function returned. Raises AssertionError for what it raised."""
        answer = self.functions.invoke(FunctionName=self.outputs[name])
        content = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, content
        return content

    def environment(self, name: str) -> dict[str, str]:
        there = self.functions.get_function_configuration(FunctionName=self.outputs[name])
        return dict(there["Environment"]["Variables"])

    def configure(self, name: str, **variables: str) -> None:
        """Set variables in the function's environment."""
        function = self.outputs[name]
        self.functions.update_function_configuration(
            FunctionName=function,
            Environment={"Variables": self.environment(name) | variables},
        )
        self.functions.get_waiter("function_updated_v2").wait(
            FunctionName=function, WaiterConfig={"Delay": 1}
        )

    def show_again_after(self, queue: str, seconds: int) -> None:
        """What nobody has acknowledged; in this queue, from now on."""
        self.sqs.set_queue_attributes(
            QueueUrl=self.outputs[queue], Attributes={"VisibilityTimeout": str(seconds)}
        )

    def waiting(self, queue: str) -> int:
        """Messages, those included that somebody has received."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.outputs[queue], AttributeNames=names)[
            "Attributes"
        ]
        return sum(int(found[name]) for name in names)

    def eventually(self, true: Callable[[], object], what: str) -> None:
        wait_for(true, what, seconds=_SECONDS)


@pytest.fixture(scope="module")
def deployed(
    ministack_url: str, postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    stage, worker = aws.unique("taskflow"), packages.package("worker")
    directory = tmp_path_factory.mktemp("deployed")
    with ExitStack() as closing:
        clients = {name: aws.client(name, ministack_url) for name in _SERVICES}
        for client in clients.values():
            closing.callback(client.close)
        database = postgres_server.create()
        closing.callback(postgres_server.drop, database)
        address = sa.make_url(database)
        secret = clients["secretsmanager"].create_secret(
            Name=stage,
            SecretString=json.dumps({"username": address.username, "password": "not asked for"}),
        )
        code = f"{stage}-code"
        clients["s3"].create_bucket(Bucket=code)
        clients["s3"].upload_file(str(worker.path), code, worker.key)
        settings = {
            "AWS_ENDPOINT_URL": ministack_url,
            "TASKFLOW_DATABASE_URL": address.set(username=None).render_as_string(),
            "TASKFLOW_DATABASE_SECRET_ARN": secret["ARN"],
            "TASKFLOW_DATABASE_TLS": "disable",
            "TASKFLOW_RETRY_BASE_SECONDS": "0",
            "TASKFLOW_LEASE_SECONDS": "2",
            "TASKFLOW_MAX_CRASHES": "2",
        }
        template = reduced(
            "taskflow-infrastructure.yaml",
            settings=settings,
            queue_properties={"VisibilityTimeout": 60},
            max_receives=2,
        )
        clients["s3"].put_object(
            Bucket=code, Key="template", Body=yaml.safe_dump(template, sort_keys=False)
        )
        cloudformation = clients["cloudformation"]
        parameters = {
            "CodeBucket": code,
            "WorkerCodeKey": worker.key,
            "LambdaRuntime": f"python{packages.PYTHON}",
            "TaskModules": ",".join(packages.TASKS),
            "ImageUri": "none",
        }
        cloudformation.create_stack(
            StackName=stage,
            TemplateURL=f"{ministack_url}/{code}/template",
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        closing.callback(cloudformation.delete_stack, StackName=stage)

        def stack() -> dict[str, Any]:
            found: dict[str, Any] = cloudformation.describe_stacks(StackName=stage)["Stacks"][0]
            return found

        wait_for(lambda: not stack()["StackStatus"].endswith("IN_PROGRESS"), "the stack ends")
        assert stack()["StackStatus"] == "CREATE_COMPLETE", _events(cloudformation, stage)
        outputs = {o["OutputKey"]: o["OutputValue"] for o in stack()["Outputs"]}
        found = Deployed(ministack_url, outputs, clients["lambda"], clients["sqs"])
        found.migrated = found.invoke("MigrateFunction")  # before anything else runs
        environment = {
            **aws.environment(ministack_url),
            **found.environment("WorkerFunction"),  # what an API process gets, too
            "PYTHONPATH": str(packages.PROJECT),
        }
        server = closing.enter_context(
            serving(directory, command=_API, tasks="shop.tasks", environment=environment)
        )
        found.client = closing.enter_context(Client(server.url))
        yield found


def _events(cloudformation: Any, stack: str) -> list[str]:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in events]
