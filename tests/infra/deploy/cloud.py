"""AWS before deploy.py: an emulator behind a proxy that counts calls, refuses some, kills the caller at others, and
runs the functions that the emulator cannot run."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support import aws
from tests.support.aws_proxy import Answer, AwsProxy, Request
from tests.support.lambda_runtime import FunctionError, LambdaFunction

_INVOCATION = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
_FUNCTION = re.compile(r"/2015-03-31/functions/([^/]+)/(code|configuration)")
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d+/[^/]+/([a-z0-9-]+)/aws4_request")
_READS = re.compile(r"^(Describe|List|Get|Head|Filter|GET|HEAD)")


def operation(request: Request) -> str:
    """``service:Operation``, e.g. ``cloudformation:CreateChangeSet``, ``s3:PUT``."""
    found = _CREDENTIAL.search(request.headers.get("Authorization", ""))
    service = found[1] if found else "unsigned"
    if request.operation not in {"POST", "GET", "PUT", "HEAD", "DELETE"}:
        return f"{service}:{request.operation}"
    action = (
        parse_qs(request.body.decode("latin-1")).get("Action") if request.method == "POST" else None
    )
    if action:
        return f"{service}:{action[0]}"
    if _INVOCATION.match(request.path):
        return "lambda:Invoke"
    return f"{service}:{request.method}"


def changes_something(name: str) -> bool:
    return not _READS.match(name.partition(":")[2])


def parameters(request: Request) -> dict[str, str]:
    """Of a request in the query protocol."""
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def refusal(code: str, message: str, *, status: int = 400) -> Answer:
    """As services with the query protocol say it."""
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>1</RequestId></ErrorResponse>"
    )
    return Answer(status, {"Content-Type": "text/xml"}, body.encode())


class Functions:
    """Runs invoked functions with the code they have in the emulator, on the real database at ``database_url``."""

    def __init__(
        self, proxy: AwsProxy, directory: Path, database_url: str, unpack: Callable[[str], Path]
    ) -> None:
        self._lambda = aws.client("lambda", proxy.url)
        self._directory = directory
        self._database_url = database_url
        self._unpack = unpack
        self.invoked: list[str] = []  # the code, as hex of its hash
        self.at_once = 1_000  # that the account lets run

    def close(self) -> None:
        self._lambda.close()

    def __call__(self, request: Request) -> Answer | None:
        if request.path.rstrip("/").endswith("/account-settings"):
            return Answer.of({"AccountLimit": {"ConcurrentExecutions": self.at_once}})
        found = _INVOCATION.match(urlsplit(request.path).path)
        if found is None:
            return None
        configuration = self._lambda.get_function_configuration(FunctionName=found[1])
        digest = base64.b64decode(configuration["CodeSha256"]).hex()
        self.invoked.append(digest)
        environment = {
            **configuration["Environment"]["Variables"],
            # What differs here from a VPC: where PostgreSQL is, and that it is asked without TLS.
            "TASKFLOW_DATABASE_URL": self._database_url,
            "TASKFLOW_DATABASE_SECRET_ARN": "",
            "TASKFLOW_DATABASE_TLS": "prefer",
            "TASKFLOW_DATABASE_TLS_ROOT_CERT": "",
        }
        function = LambdaFunction(
            configuration["Handler"], environment, self._directory, root=self._unpack(digest)
        )
        with function:
            try:
                answer = function.invoke({})
            except FunctionError as exc:
                headers = {"X-Amz-Function-Error": "Unhandled", "Content-Type": "application/json"}
                return Answer(200, headers, json.dumps(exc.report).encode())
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())


class Killer:
    """Kills the process at a call: ``before`` AWS sees it, or after AWS has done it, when the answer is on its way."""

    def __init__(self, proxy: AwsProxy, kill: Callable[[], None]) -> None:
        self._proxy = proxy
        self._kill = kill
        self._lock = threading.Lock()
        self._survived: set[tuple[str, int]] = set()
        self.before = True
        self.is_armed = False
        self.killed_at: list[str] = []
        self._counts: dict[str, int] = {}

    def arm(self, *, before: bool) -> None:
        """The next run dies at the first call that no run has died at yet."""
        self.before, self.is_armed, self._counts = before, True, {}

    def __call__(self, request: Request) -> Answer | None:
        name = operation(request)
        with self._lock:
            if not self.is_armed or not changes_something(name):
                return None
            self._counts[name] = self._counts.get(name, 0) + 1
            place = (name, self._counts[name])
            if place in self._survived:
                return None
            self._survived.add(place)
            self.is_armed = False
            self.killed_at.append(f"{'before' if self.before else 'after'} {name}")
        if not self.before:
            self._proxy.forward(request)
        self._kill()
        return refusal("Dead", "nobody reads this")


@contextmanager
def refusing(
    proxy: AwsProxy, name: str, answer: Answer, *, times: int = 10_000
) -> Iterator[list[str]]:
    """The first ``times`` calls of this operation get this answer; yields those that did."""
    refused: list[str] = []

    def refuse(request: Request) -> Answer | None:
        if operation(request) != name or len(refused) >= times:
            return None
        refused.append(name)
        return answer

    with proxy.intercepting(refuse):
        yield refused


@contextmanager
def rewriting(proxy: AwsProxy, name: str, rewrite: Callable[[str], str]) -> Iterator[None]:
    """Answers of this operation are altered: states that the emulator cannot get into."""

    def alter(request: Request) -> Answer | None:
        if operation(request) != name:
            return None
        answer = proxy.forward(request)
        return Answer(answer.status, answer.headers, rewrite(answer.body.decode()).encode())

    with proxy.intercepting(alter):
        yield
