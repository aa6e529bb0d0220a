"""The end of a stage: what was agreed to goes, whoever deleted the stack and when; all else stays, and is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployment import env_file
from deployment.outputs import forgotten
from tests.infra.deploy.cloud import operation, parameters, rewriting
from tests.infra.deploy.conftest import Small
from tests.support import aws
from tests.support.aws_proxy import Answer, Request

pytestmark = pytest.mark.timeout(600)


class Made:
    """A stack that was made by hand: a bucket that holds a payload, and a queue."""

    def __init__(self, stage: Small, client: Any) -> None:
        self.stage = stage
        self._client = client
        bucket = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain"}
        resources = {"PayloadBucket": bucket, "Q": {"Type": "AWS::SQS::Queue"}}
        client.create_stack(
            StackName=stage.stack, TemplateBody=json.dumps({"Resources": resources})
        )
        self._wait("create")
        self.bucket = client.describe_stack_resource(
            StackName=stage.stack, LogicalResourceId="PayloadBucket"
        )["StackResourceDetail"]["PhysicalResourceId"]
        with closing(aws.client("s3", stage.proxy.url)) as s3:
            s3.put_object(Bucket=self.bucket, Key="payload", Body=b"x")
            # As CloudFormation does on AWS; that of MiniStack tags no buckets.
            [stack] = client.describe_stacks(StackName=stage.stack)["Stacks"]
            tag = {"Key": "aws:cloudformation:stack-id", "Value": stack["StackId"]}
            s3.put_bucket_tagging(Bucket=self.bucket, Tagging={"TagSet": [tag]})

    def delete_stack(self) -> None:
        """As somebody does in the console, or a run that was killed then."""
        self._client.delete_stack(StackName=self.stage.stack)
        self._wait("delete")

    def is_kept(self) -> bool:
        with closing(aws.client("s3", self.stage.proxy.url)) as s3:
            return self.bucket in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}

    def write_env(self, **values: str) -> Path:
        file = self.stage.deploy.directory / ".env"
        ours = {
            "TASKFLOW_URL": "https://dead.example.com",
            "TASKFLOW_QUEUE_PREFIX": self.stage.stack,
            "AWS_REGION": aws.REGION,
        }
        file.write_text("".join(f"{name}={value}\n" for name, value in {**ours, **values}.items()))
        return file

    def _wait(self, what: str) -> None:
        self._client.get_waiter(f"stack_{what}_complete").wait(
            StackName=self.stage.stack, WaiterConfig={"Delay": 1}
        )


@pytest.fixture
def kept(stage: Small) -> Iterator[Made]:
    """Its bucket outlives the stack, as in `standard`."""
    with closing(aws.client("cloudformation", stage.proxy.url)) as client:
        yield Made(stage, client)


@pytest.fixture
def stuck(kept: Made) -> Iterator[list[dict[str, str]]]:
    """As if CloudFormation could not delete the bucket. Yields the calls that leave something behind."""
    asked: list[dict[str, str]] = []

    def delete(request: Request) -> Answer | None:
        if operation(request) != "cloudformation:DeleteStack":
            return None
        asked.append(parameters(request))
        body = re.sub(rb"&RetainResources[^&]+", b"", request.body)
        headers = {**request.headers, "Content-Length": str(len(body))}
        return proxy.forward(replace(request, body=body, headers=headers))

    def failed(body: str) -> str:
        return body.replace("CREATE_COMPLETE", "DELETE_FAILED")

    def bucket_failed(body: str) -> str:
        before, found, after = body.partition("AWS::S3::Bucket")
        return before + found + after.replace("CREATE_COMPLETE", "DELETE_FAILED", 1)

    proxy = kept.stage.proxy
    with (
        proxy.intercepting(delete),
        rewriting(proxy, "cloudformation:DescribeStacks", failed),
        rewriting(proxy, "cloudformation:ListStackResources", bucket_failed),
    ):
        yield asked


def test_what_a_deleted_stack_kept_is_found_again(kept: Made) -> None:
    kept.delete_stack()
    file = kept.write_env(MINE="1")
    assert kept.is_kept()
    deploy, common = kept.stage.deploy, kept.stage.common

    left = deploy.good("destroy", *common, "--yes", "--json").json
    assert left["stays"] == [f"bucket {kept.bucket}"]  # nobody gave it up
    assert kept.is_kept()
    assert env_file.read(file) == {"MINE": "1"}

    gone = deploy.good("destroy", *common, "--yes", "--delete-payloads")
    assert f"deleted the bucket {kept.bucket}" in gone.output
    assert not kept.is_kept()
    assert "nothing is left of one" in deploy.good("destroy", *common, "--yes").output


def test_env_files_of_others_are_left_alone(kept: Made) -> None:
    kept.delete_stack()
    file = kept.write_env(TASKFLOW_QUEUE_PREFIX="taskflow-other")
    before = file.read_text()
    kept.stage.deploy.good("destroy", *kept.stage.common, "--yes", "--delete-payloads")
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TASKFLOW_QUEUE_PREFIX", "taskflow-test"),
        ("AWS_REGION", "eu-west-1"),
        ("TASKFLOW_DATABASE_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:2:secret:rds!x"),
    ],
)
def test_a_file_belongs_to_a_stack_of_an_account_in_a_region(name: str, value: str) -> None:
    mine = {
        "TASKFLOW_QUEUE_PREFIX": "taskflow-prod",
        "AWS_REGION": "us-east-1",
        "TASKFLOW_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:1:secret:rds!x",
    }
    who = {"stack": "taskflow-prod", "region": "us-east-1", "account": "1"}
    assert set(forgotten({**mine, "OTHER": "1"}, **who)) == set(mine)
    assert forgotten({**mine, name: value}, **who) == {}


def test_only_what_could_not_be_deleted_can_be_left_behind(kept: Made) -> None:
    kept.stage.proxy.forget()
    refused = kept.stage.deploy.run(
        "destroy", *kept.stage.common, "--yes", "--delete-payloads", "--retain", "Q", "--json"
    )
    assert (refused.code, refused.json["error"]["code"]) == (2, "usage")
    assert "--retain is for a deletion that failed" in refused.errors
    assert kept.is_kept()
    asked = {operation(request) for request in kept.stage.proxy.requests}
    assert not asked & {"s3:POST", "s3:DELETE", "cloudformation:DeleteStack"}


def test_what_could_not_be_deleted_is_left_behind(kept: Made, stuck: list[dict[str, str]]) -> None:
    deploy, common = kept.stage.deploy, (*kept.stage.common, "--yes")
    mistaken = deploy.run("destroy", *common, "--delete-payloads", "--retain", "Q")
    assert mistaken.code == 2
    assert "What could not be deleted: PayloadBucket." in mistaken.errors
    refused = deploy.run("destroy", *common, "--retain", "PayloadBucket", "--json")
    assert refused.json["error"]["code"] == "holds_data"
    assert (stuck, kept.is_kept()) == ([], True)
    deploy.good("destroy", *common, "--delete-payloads", "--retain", "PayloadBucket")
    [call] = stuck
    assert call["RetainResources.member.1"] == "PayloadBucket"
    assert deploy.run("status", *kept.stage.common).code == 1
