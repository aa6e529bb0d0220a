"""Brings the database to the new code's schema before traffic reaches that code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, WaiterError

from deployment.account import Account
from deployment.aws_errors import error_code
from deployment.errors import DeployError
from deployment.reporter import Reporter

_LOOKS = {"Delay": 2, "MaxAttempts": 300}  # the first start in a VPC may take minutes


@dataclass(frozen=True)
class Code:
    """What the migrate function is to run."""

    bucket: str
    key: str
    runtime: str


@dataclass(frozen=True)
class Migrated:
    before: str | None  # None: there was no schema
    revision: str


class Migration:
    def __init__(self, account: Account, function: str) -> None:
        self._account = account
        self._function = function

    def run(self, reporter: Reporter, *, code: Code | None = None) -> Migrated:
        """``code``: the function's code is replaced first; None: it has the right one.

        Safe to repeat at any time: the migrations take turns and skip what was done. Raises DeployError when the
        schema is not what the code needs; nothing else of the stack has been changed then.
        """
        if code is not None:
            self._replace(code)
        self._ready()
        reporter.say(f"migrating the database ({self._function})")
        try:
            answer = self._account.client("lambda", invoking=True).invoke(
                FunctionName=self._function, InvocationType="RequestResponse", Payload=b"{}"
            )
        except (ReadTimeoutError, ConnectionClosedError) as exc:
            raise DeployError(
                "The connection broke while the database was migrated.",
                "Run the same command again: what was migrated is not migrated twice.",
                code="migration_unknown",
            ) from exc
        payload = answer["Payload"].read()
        if "FunctionError" in answer:
            raise _failed(payload)
        result: dict[str, Any] = json.loads(payload)
        return Migrated(result.get("before"), result["revision"])

    def _replace(self, code: Code) -> None:
        client = self._account.client("lambda")
        self._ready()
        try:
            if (
                client.get_function_configuration(FunctionName=self._function)["Runtime"]
                != code.runtime
            ):
                client.update_function_configuration(
                    FunctionName=self._function, Runtime=code.runtime
                )
                self._ready()
            client.update_function_code(
                FunctionName=self._function, S3Bucket=code.bucket, S3Key=code.key
            )
        except ClientError as exc:
            if error_code(exc) == "ResourceConflictException":
                raise DeployError(
                    f"The function {self._function} is being changed by somebody else.",
                    "Wait a minute, then run the same command again.",
                    code="busy",
                ) from exc
            raise

    def _ready(self) -> None:
        client = self._account.client("lambda")
        try:
            for waiter in ("function_active_v2", "function_updated_v2"):
                client.get_waiter(waiter).wait(FunctionName=self._function, WaiterConfig=_LOOKS)
        except WaiterError as exc:
            reason = (
                exc.last_response.get("Configuration", exc.last_response).get("StateReason") or exc
            )
            raise DeployError(
                f"The migrate function {self._function} does not become ready: {reason}",
                "Mend what the reason says, then run the same command again.",
                code="migration_failed",
            ) from exc


def _failed(payload: bytes) -> DeployError:
    try:
        report = json.loads(payload)
        said = f"{report.get('errorType', 'error')}: {report.get('errorMessage', '')}".strip()
    except (ValueError, AttributeError):
        said = payload.decode(errors="replace")[:500]
    return DeployError(
        f"The database could not be migrated, so no traffic was moved to the new code: {said}",
        "`deploy.py logs migrate` has the details. Mend the reason, then run the same command again.",
        code="migration_failed",
    )
