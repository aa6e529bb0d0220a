"""`taskflow provision` on emulators, and nowhere else."""

from __future__ import annotations

import json

import pytest

from taskflow.core.task import TaskPriority
from tests.integration.cli.conftest import Cli
from tests.support import aws


@pytest.fixture(params=["moto", "ministack"])
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address; AWS's variables lead there."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    for name, value in aws.environment(url).items():
        monkeypatch.setenv(name, value)
    return url


def test_it_makes_queues_and_bucket_and_finds_them_the_next_time(
    cli: Cli, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, bucket = aws.unique("provision"), aws.unique("provision")
    monkeypatch.setenv("TASKFLOW_QUEUE_PREFIX", prefix)
    monkeypatch.setenv("TASKFLOW_S3_BUCKET", bucket)
    monkeypatch.setenv("TASKFLOW_LONG_TASK_SECONDS", "840")

    first, second = cli.ok("provision"), cli.json("provision")

    names = [
        f"{prefix}-{kind}{priority.name.lower()}{end}"
        for priority in TaskPriority
        for kind in ("", "long-")
        for end in ("", "-dead")
    ]
    lines = first.splitlines()[1:]
    assert sorted(line.split()[1] for line in lines) == sorted([*names, bucket])
    assert all(line.endswith("made") for line in lines)
    assert second["endpoint"] == emulator
    assert sorted(queue["name"] for queue in second["queues"]) == sorted(names)
    assert second["buckets"] == [{"name": bucket, "is_new": False}]
    assert not any(queue["is_new"] for queue in second["queues"])

    there = aws.client("sqs", emulator).list_queues(QueueNamePrefix=prefix)["QueueUrls"]
    assert {url.rpartition("/")[2] for url in there} == set(names)
    dead = aws.client("sqs", emulator).get_queue_attributes(
        QueueUrl=next(url for url in there if url.endswith("-long-high")),
        AttributeNames=["RedrivePolicy"],
    )
    policy = json.loads(dead["Attributes"]["RedrivePolicy"])
    assert policy["deadLetterTargetArn"].endswith(f"{prefix}-long-high-dead")
    aws.client("s3", emulator).head_bucket(Bucket=bucket)


def test_a_bucket_is_needed_where_payloads_go_to_s3_and_else_left_out(
    cli: Cli, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment(moto_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TASKFLOW_QUEUE_PREFIX", aws.unique("provision"))
    assert cli.json("provision")["buckets"] == []
    monkeypatch.setenv("TASKFLOW_BACKEND", "aws")
    assert "TASKFLOW_S3_BUCKET is not set" in cli.fails("provision", code=2)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "AWS_ENDPOINT_URL is not set"),
        ({"AWS_ENDPOINT_URL": "https://sqs.eu-west-1.amazonaws.com"}, "is AWS itself"),
        (
            {
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_ENDPOINT_URL_S3": "https://s3.amazonaws.com",
            },
            "AWS_ENDPOINT_URL_S3 is AWS itself",
        ),
        (
            {
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            "makes boto3 go to AWS itself",
        ),
        ({"AWS_ENDPOINT_URL": "http://sqs.eu-west-1.amazonaws.com."}, "is AWS itself"),
        ({"AWS_ENDPOINT_URL": "https://sqs.eusc-de-east-1.amazonaws.eu"}, "is AWS itself"),
        ({"AWS_ENDPOINT_URL": "localhost:4566"}, "not an address"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, "not an address"),
        ({"AWS_ENDPOINT_URL": "http://localhost:abc"}, "not an address"),
        ({"AWS_ENDPOINT_URL": "http://localhost:99999"}, "not an address"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_SQS": "http://[::1"},
            "AWS_ENDPOINT_URL_SQS is not an address",
        ),
    ],
)
def test_it_refuses_to_touch_aws(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = cli.fails("provision", code=2)
    assert said in message
    assert "deploy.py" in message or "not an address" in message


def test_it_refuses_to_touch_aws_where_a_profile_makes_boto3_go_there(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    config = cli.directory / "config"
    config.write_text("[profile work]\nignore_configured_endpoint_urls = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    message = cli.fails("provision", code=2)
    assert "makes boto3 go to AWS itself" in message
    assert "deploy.py" in message


def test_an_emulator_that_does_not_answer_is_one_clear_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TASKFLOW_S3_BUCKET", "taskflow-nowhere")
    assert "http://127.0.0.1:9" in cli.fails("provision", code=1)
