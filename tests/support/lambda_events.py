"""The events that AWS makes for a Lambda function, and what it does with the answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.support.aws import REGION
from tests.support.emulator_server import ACCOUNT_ID
from tests.support.lambda_runtime import FunctionCrashedError, FunctionError, LambdaFunction

_LOOK_SECONDS = 1


class EventSource:
    """SQS's event source mapping for one queue, with ReportBatchItemFailures: receives, invokes, deletes."""

    def __init__(self, sqs: Any, queue: str) -> None:
        self._sqs = sqs
        self.url: str = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{queue}"
        self._received: list[str] = []

    def receive(self, most: int = 10, *, wait_seconds: int = _LOOK_SECONDS) -> list[dict[str, Any]]:
        """Records of messages, hidden for the queue's visibility timeout; fewer when there are no more."""
        records: list[dict[str, Any]] = []
        while len(records) < most:
            answer = self._sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(10, most - len(records)),
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
                WaitTimeSeconds=wait_seconds,
            )
            if not (messages := answer.get("Messages", [])):
                break
            records += [self.record(message) for message in messages]
            self._received += [message["ReceiptHandle"] for message in messages]
        return records

    def empty(self) -> None:
        """Delete what is in the queue: what can be received, and what was, but is hidden still."""
        self.receive(1_000, wait_seconds=0)
        for receipt in self._received:
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=receipt)
        self._received.clear()

    def record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "md5OfBody": message["MD5OfBody"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: {
                    "stringValue": value["StringValue"],
                    "stringListValues": [],
                    "binaryListValues": [],
                    "dataType": value["DataType"],
                }
                for name, value in message.get("MessageAttributes", {}).items()
            },
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn,
            "awsRegion": REGION,
        }

    def invoke(
        self, function: LambdaFunction, records: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[str]:
        """The ids of the messages that stay; the others are deleted. All stay when the function fails."""
        answer = function.invoke({"Records": records}, **options)
        return self.settle(records, answer)

    def settle(self, records: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> list[str]:
        kept = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        ids = {record["messageId"] for record in records}
        assert set(kept) <= ids, "an unknown id would bring back the whole batch"
        for record in records:
            if record["messageId"] not in kept:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=record["receiptHandle"])
        return kept

    def drain(self, function: LambdaFunction, *, rounds: int = 20) -> int:
        """Invoke with what there is until there is nothing. How many invocations."""
        for count in range(rounds):
            if not (records := self.receive()):
                return count
            try:
                self.invoke(function, records)
            except (FunctionCrashedError, FunctionError):
                continue
        raise AssertionError(f"the queue is not empty after {rounds} invocations")

    def send(self, body: str) -> None:
        self._sqs.send_message(QueueUrl=self.url, MessageBody=body)


# --- HTTP -----------------------------------------------------------------------------------------


def alb(
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    body: bytes = b"",
    multi: bool = False,
    binary: bool = False,
) -> dict[str, Any]:
    """An Application Load Balancer, which passes on the query as it was sent; ``multi``: with
    lambda.multi_value_headers.enabled."""
    given = {"host": "lb.example.com", "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https",
             "x-forwarded-port": "443", **(headers or {})}  # fmt: skip
    encoded = {k: urlencode({"": v})[1:] for k, v in (query or {}).items()}
    event: dict[str, Any] = {
        "requestContext": {
            "elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/t/1"}
        },
        "httpMethod": method,
        "path": path,
        "body": base64.b64encode(body).decode() if binary else body.decode(),
        "isBase64Encoded": binary,
    }
    if multi:
        event["multiValueHeaders"] = {
            k: [v] if isinstance(v, str) else list(v) for k, v in given.items()
        }
        event["multiValueQueryStringParameters"] = {k: [v] for k, v in encoded.items()}
    else:
        event["headers"] = {k: v if isinstance(v, str) else v[-1] for k, v in given.items()}
        event["queryStringParameters"] = encoded
    return event


def http_api(
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    body: bytes = b"",
    stage: str = "$default",
    binary: bool = True,
) -> dict[str, Any]:
    """API Gateway's payload format 2.0, which function URLs have as well. It joins repeated headers with commas."""
    given = {"host": "x.execute-api.us-east-1.amazonaws.com", "x-forwarded-proto": "https",
             "x-forwarded-port": "443", "x-forwarded-for": "203.0.113.7", **(headers or {})}  # fmt: skip
    raw_path = path if stage == "$default" else f"/{stage}{path}"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path,
        "rawQueryString": urlencode(query or {}),
        "headers": {k: v if isinstance(v, str) else ",".join(v) for k, v in given.items()},
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "domainName": given["host"],
            "http": {
                "method": method,
                "path": raw_path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "test",
            },
            "requestId": "id",
            "stage": stage,
        },
        "body": base64.b64encode(body).decode() if binary else body.decode(),
        "isBase64Encoded": binary,
    }


def function_url(method: str, path: str, **options: Any) -> dict[str, Any]:
    event = http_api(method, path, **options)
    event["requestContext"]["domainName"] = "abc.lambda-url.us-east-1.on.aws"
    return event


def json_of(answer: Mapping[str, Any]) -> Any:
    return json.loads(body_of(answer))


def body_of(answer: Mapping[str, Any]) -> bytes:
    body: str = answer["body"]
    return base64.b64decode(body) if answer["isBase64Encoded"] else body.encode()
