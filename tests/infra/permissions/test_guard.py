"""The guard before the emulators refuses, over the wire and as AWS does, what a role of the template does not allow."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from taskflow import TaskFlow
from taskflow.core.registry import Registry, TaskOptions
from tests.support import aws, guard, iam
from tests.support.aws_proxy import Answer, aws_proxy
from tests.support.aws_proxy import Request as ProxyRequest
from tests.support.backends import Emulated
from tests.support.guard import Guard, Request, identity, wanted
from tests.support.sqs import until

Clients = Callable[[str, str], Any]


@pytest.fixture(params=["moto", "ministack"])
def clients(request: pytest.FixtureRequest) -> Clients:
    """``clients("s3", role)``, for a bucket and a queue of this test, called `guard-…` alike."""
    url = aws.endpoint(request.param)
    unique = uuid.uuid4().hex[:12]
    name = f"guard-{unique}"
    aws.client("s3", url).create_bucket(Bucket=name)
    aws.client("sqs", url).create_queue(QueueName=f"{name}-high")
    aws.client("sqs", url).create_queue(QueueName=f"{name}-high-dead")

    def make(service: str, role: str) -> Any:
        config = Config(
            user_agent_appid=identity(role, prefix=name, bucket=name),
            s3={"addressing_style": "path"},
        )
        made = boto3.client(
            service, region_name=aws.REGION, endpoint_url=url, config=config, **aws.CREDENTIALS
        )
        made.name = name
        return made

    return make


def refused(call: Callable[..., Any], **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as exc:
        if (
            "AccessDenied" in exc.response["Error"]["Code"]
            or exc.response["Error"]["Code"] == "403"
        ):
            return True
        raise
    return False


def test_an_api_sends_but_neither_receives_nor_deletes(clients: Clients) -> None:
    sqs = clients("sqs", "ApiRole")
    url = sqs.get_queue_url(QueueName=f"{sqs.name}-high")["QueueUrl"]
    entries = [{"Id": "1", "MessageBody": "x"}]
    assert not refused(sqs.send_message_batch, QueueUrl=url, Entries=entries)
    assert not refused(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn"])
    assert refused(sqs.receive_message, QueueUrl=url)
    gone = [{"Id": "1", "ReceiptHandle": "x"}]
    assert refused(sqs.delete_message_batch, QueueUrl=url, Entries=gone)
    assert refused(sqs.delete_queue, QueueUrl=url)
    assert refused(sqs.send_message, QueueUrl=f"{url}-dead", MessageBody="x")
    assert refused(sqs.get_queue_url, QueueName="somebody-elses-high")


def test_a_worker_receives_deletes_and_puts_away(clients: Clients) -> None:
    sqs = clients("sqs", "WorkerRole")
    url = sqs.get_queue_url(QueueName=f"{sqs.name}-high")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    receipt = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    assert not refused(sqs.change_message_visibility, **receipt, VisibilityTimeout=60)
    assert not refused(sqs.delete_message, **receipt)
    assert not refused(sqs.send_message, QueueUrl=f"{url}-dead", MessageBody="x")
    assert refused(sqs.receive_message, QueueUrl=f"{url}-dead")
    assert refused(sqs.purge_queue, QueueUrl=url)


def test_payloads_are_read_and_written_in_their_own_bucket_alone(clients: Clients) -> None:
    s3 = clients("s3", "ApiRole")
    there = {"Bucket": s3.name, "Key": "default/a ü"}
    assert not refused(s3.put_object, **there, Body=b"x" * 100)
    assert s3.get_object(**there)["Body"].read() == b"x" * 100
    assert not refused(s3.head_object, **there)
    assert not refused(s3.list_objects_v2, Bucket=s3.name)
    keys = {"Objects": [{"Key": there["Key"]}]}
    assert not refused(s3.delete_objects, Bucket=s3.name, Delete=keys)
    assert refused(s3.get_object, Bucket="somebody-elses", Key="a")
    assert refused(s3.list_objects_v2, Bucket="somebody-elses")
    maintenance = clients("s3", "MaintenanceRole")
    assert refused(maintenance.put_object, **there, Body=b"x")
    assert refused(maintenance.head_object, **there)
    assert not refused(maintenance.delete_objects, Bucket=s3.name, Delete=keys)
    assert refused(clients("s3", "MigrateRole").delete_objects, Bucket=s3.name, Delete=keys)


def test_only_the_databases_login_is_read(clients: Clients) -> None:
    secrets = clients("secretsmanager", "MigrateRole")
    assert refused(secrets.get_secret_value, SecretId="somebody-elses")
    with pytest.raises(ClientError) as raised:
        secrets.get_secret_value(SecretId=guard.SECRET_ARN)  # allowed, but there is none
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_what_was_refused_is_remembered_for_whom(emulated_aws: Emulated) -> None:
    mine, other = (emulated_aws.identity(r, "behaviour-abc") for r in ("ApiRole", "WorkerRole"))
    client = boto3.client(
        "sqs",
        region_name=aws.REGION,
        endpoint_url=emulated_aws.url,
        config=Config(user_agent_appid=mine),
        **aws.CREDENTIALS,
    )
    assert refused(client.get_queue_url, QueueName="behaviour-x")
    [reason] = emulated_aws.refused(mine)
    assert "no statement allows sqs:GetQueueUrl on arn:aws:sqs:" in reason
    assert emulated_aws.refused(other) == []


def test_a_request_that_nobody_thought_of_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not know"):
        wanted(Request("POST", "/bucket", "website", {}, b""))
    with pytest.raises(ValueError, match="does not know"):
        wanted(Request("POST", "/", "", {"x-amz-target": "DynamoDB_20120810.GetItem"}, b"{}"))


def without(role: str, action: str) -> guard.Policies:
    """As the template says, but for one action."""
    body = copy.deepcopy(iam.load(guard.TEMPLATES / "taskflow-infrastructure.yaml"))
    for policy in body["Resources"][role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if action in statement["Action"]:
                statement["Action"] = [a for a in statement["Action"] if a != action]
    return lambda _, *names: guard.of_template(body, *names).role(role)


@pytest.mark.parametrize("missing", [None, "sqs:DeleteMessage", "sqs:ReceiveMessage"])
def test_the_behaviour_suite_would_fail_if_the_worker_were_allowed_less(
    missing: str | None,
    emulated_aws: Emulated,
    postgres_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = emulated_aws.everything(postgres_store)
    watching = Guard(without("WorkerRole", missing) if missing else guard.policy_of)

    def intercept(asked: ProxyRequest) -> Answer | None:
        path, _, query = asked.path.partition("?")
        headers = {name.lower(): value for name, value in asked.headers.items()}
        refusal = watching.look(Request(asked.method, path, query, headers, asked.body))
        if refusal is None:
            return None
        return Answer(refusal.status, refusal.headers, refusal.body)

    def text(number: int) -> str:
        return str(number)

    registry = Registry()
    registry.add(text, declared=TaskOptions())
    who = emulated_aws.identity("WorkerRole", settings["queue_prefix"])
    with aws_proxy(emulated_aws.url) as proxy, proxy.intercepting(intercept):
        for name, value in aws.environment(proxy.url, who).items():
            monkeypatch.setenv(name, value)
        with TaskFlow(home=tmp_path, handlers=registry, **settings) as app:
            handle = app.submit("text", 1)
            if missing != "sqs:ReceiveMessage":
                assert handle.result(timeout=60) == "1"
            operation = (missing or "sqs:DeleteMessage").partition(":")[2]
            until(lambda: proxy.counts[operation] or proxy.counts[operation + "Batch"])
            until(lambda: bool(watching.refused(who)) or not missing)
    said = {reason.split()[3] for reason in watching.refused(who)}
    assert said == ({missing} if missing else set())
    assert emulated_aws.refused(who) == []  # the real template allows all of it
