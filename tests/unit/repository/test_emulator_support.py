"""The emulators of AWS that other tests rely on answer, with SQS and S3."""

from __future__ import annotations

import pytest

from tests.support import aws


@pytest.mark.parametrize("emulator", ["moto", "ministack"])
def test_an_emulator_has_queues_and_buckets(emulator: aws.Emulator) -> None:
    url = aws.endpoint(emulator)
    assert aws.endpoint(emulator) == url, "one server per run"
    sqs, s3, name = aws.client("sqs", url), aws.client("s3", url), aws.unique("support")
    queue_url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=queue_url, MessageBody="hello")
    [message] = sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == "hello"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="a/b", Body=b"bytes")
    assert s3.get_object(Bucket=name, Key="a/b")["Body"].read() == b"bytes"
