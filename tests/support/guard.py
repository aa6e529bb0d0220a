"""Requests to SQS, S3 and Secrets Manager, and whether the role of who asks allows them.

The role is in the User-Agent, where the SDK puts AWS_SDK_UA_APP_ID: so it travels with every client of a process,
whichever made it, and the emulator, like AWS, refuses over the wire. See `identity`; who has none may do everything.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode
from xml.etree import ElementTree

from tests.support import iam

TEMPLATES = Path(__file__).parents[2] / "cloudformation"
_APP = re.compile(r"\bapp/g-(\w+)-(\w+)-([0-9a-f]+)-([0-9a-f]+)")
_LONGEST_APP_ID = 50
REFUSED_PATH = "/_guard/refused"

SECRET_ARN = f"arn:{iam.PARTITION}:secretsmanager:{iam.REGION}:{iam.ACCOUNT}:secret:login"
_TEMPLATES = {
    "standard": "taskflow-infrastructure.yaml",
    "serverless": "taskflow-serverless.yaml",
}
_ONE_OF_A_BATCH = {
    "SendMessageBatch": "SendMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
}
_MULTIPART = ("uploads", "uploadId", "partNumber")


def identity(role: str, *, prefix: str, bucket: str, profile: str = "standard") -> str:
    """For AWS_SDK_UA_APP_ID. Names end with what makes them unique (`aws.unique`)."""
    stem = prefix.rpartition("-")[0]
    assert stem == bucket.rpartition("-")[0], "queues and bucket are named alike"
    short = {"standard": "", "serverless": "S"}[profile] + role.removesuffix("Role")
    text = f"g-{short}-{stem}-{prefix.rpartition('-')[2]}-{bucket.rpartition('-')[2]}"
    assert len(text) <= _LONGEST_APP_ID, text
    return text


def refused(url: str, identity: str) -> list[str]:
    """What the guard before the emulator at ``url`` has refused to it."""
    query = urlencode({"identity": identity})
    with urllib.request.urlopen(f"{url}{REFUSED_PATH}?{query}") as answer:
        said: list[str] = json.load(answer)
    return said


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # as it was sent, without the query
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Refusal:
    """As AWS answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Policies = Callable[[str, str, str, str], iam.Policy]


@lru_cache
def policy_of(short: str, stem: str, prefix: str, bucket: str) -> iam.Policy:
    """By the parts of an identity."""
    profile = "serverless" if short.startswith("S") else "standard"
    template = of_template(iam.load(TEMPLATES / _TEMPLATES[profile]), stem, prefix, bucket)
    return template.role(f"{short.removeprefix('S')}Role")


def of_template(body: Mapping[str, Any], stem: str, prefix: str, bucket: str) -> iam.Template:
    names = {
        "PayloadBucket": f"{stem}-{bucket}",
        "Database.MasterUserSecret.SecretArn": SECRET_ARN,
    }
    return iam.Template(body, stack=f"{stem}-{prefix}", names=names)


class Guard:
    """Thread safe. Remembers what was refused, for tests that ask afterwards."""

    def __init__(self, policies: Policies = policy_of) -> None:
        self._policies = policies
        self._refused: list[tuple[str, str]] = []

    def refused(self, who: str) -> list[str]:
        """To this identity, each with its reason."""
        return [reason for known, reason in list(self._refused) if known == who]

    def look(self, request: Request) -> Refusal | None:
        """None: go on."""
        if request.path == REFUSED_PATH:
            [who] = parse_qs(request.query)["identity"]
            said = json.dumps(self.refused(who)).encode()
            return Refusal(200, {"content-type": "application/json"}, said)
        if (found := _APP.search(request.headers.get("user-agent", ""))) is None:
            return None
        policy = self._policies(*found.groups())
        for action, resource in wanted(request):
            decision = policy.decide(action, resource)
            if not decision.allowed:
                self._refused.append((found[0].removeprefix("app/"), decision.reason))
                return _refusal(request, decision.reason)
        return None


def wanted(request: Request) -> list[tuple[str, str]]:
    """Actions and resources of a request. Raises ValueError for one that nobody has thought of."""
    if target := request.headers.get("x-amz-target", ""):
        service, _, operation = target.partition(".")
        asked = json.loads(request.body or b"{}")
        if service == "AmazonSQS":
            return [_of_sqs(operation, asked)]
        if service == "secretsmanager":
            name = str(asked["SecretId"])
            arn = name if name.startswith("arn:") else f"{SECRET_ARN.rpartition(':')[0]}:{name}"
            return [(f"secretsmanager:{operation}", arn)]
        raise ValueError(f"a request that the guard does not know: {target}")
    return _of_s3(request)


def _of_sqs(operation: str, asked: Mapping[str, str]) -> tuple[str, str]:
    name = asked.get("QueueName") or asked["QueueUrl"].rpartition("/")[2]
    action = _ONE_OF_A_BATCH.get(operation, operation)
    return f"sqs:{action}", f"arn:{iam.PARTITION}:sqs:{iam.REGION}:{iam.ACCOUNT}:{name}"


def _of_s3(request: Request) -> list[tuple[str, str]]:
    """With the bucket in the path, as clients of an emulator put it."""
    bucket, _, key = unquote(request.path.lstrip("/")).partition("/")
    arn = f"arn:{iam.PARTITION}:s3:::{bucket}"
    query = parse_qs(request.query, keep_blank_values=True)
    if not key:
        if request.method in ("GET", "HEAD") and query.keys().isdisjoint({"policy", "acl"}):
            return [("s3:ListBucket", arn)]
        if request.method == "POST" and "delete" in query:
            return [("s3:DeleteObject", f"{arn}/{name}") for name in _keys(request.body)]
    elif request.method == "PUT" or (request.method == "POST" and query.keys() & set(_MULTIPART)):
        return [("s3:PutObject", f"{arn}/{key}")]
    elif request.method in ("GET", "HEAD"):
        return [("s3:GetObject", f"{arn}/{key}")]
    elif request.method == "DELETE":
        action = "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
        return [(f"s3:{action}", f"{arn}/{key}")]
    raise ValueError(
        f"a request that the guard does not know: {request.method} {request.path}?{request.query}"
    )


def _keys(body: bytes) -> list[str]:
    """Of a DeleteObjects request."""
    root = ElementTree.fromstring(body)
    return [element.text or "" for element in root.iter() if element.tag.endswith("Key")]


def _refusal(request: Request, reason: str) -> Refusal:
    if request.headers.get("x-amz-target", "").startswith("AmazonSQS."):
        said = {"__type": "com.amazonaws.sqs#AccessDeniedException", "message": reason}
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amzn-query-error": "AccessDenied;Sender",
        }
        return Refusal(403, headers, json.dumps(said).encode())
    if "x-amz-target" in request.headers:
        said = {"__type": "AccessDeniedException", "Message": reason}
        headers = {"content-type": "application/x-amz-json-1.1"}
        return Refusal(400, headers, json.dumps(said).encode())
    text = f"<Error><Code>AccessDenied</Code><Message>{reason}</Message></Error>"
    body = b"" if request.method == "HEAD" else text.encode()
    return Refusal(403, {"content-type": "application/xml"}, body)
