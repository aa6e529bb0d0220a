"""The database's address and password from AWS Secrets Manager, read again once they no longer work (rotation)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from taskflow.aws import require_boto3, session
from taskflow.core.errors import ConfigurationError, StoreUnavailableError, TaskFlowError
from taskflow.logs import get_logger

log = get_logger(__name__)

# RDS's form of a secret, in libpq's words. Secrets that RDS manages itself hold the first two only.
_NAMES = {
    "username": "user",
    "password": "password",
    "host": "host",
    "port": "port",
    "dbname": "dbname",
}
_MOST_OFTEN_SECONDS = 5.0  # a database that is down must not make every attempt a request
_TIMEOUT_SECONDS = 5
_OUR_FAULT = {"ResourceNotFoundException", "AccessDeniedException", "InvalidRequestException"}


class Credentials(Protocol):
    """Arguments of a connection that are not known for good. Thread safe."""

    def current(self) -> Mapping[str, Any]: ...

    def renewed(self, than: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Others than those that did not work; None: there are none."""
        ...


class SecretsManagerCredentials:
    """Raises ConfigurationError for a secret that is not there, not allowed or not of RDS's form, and
    StoreUnavailableError while Secrets Manager cannot be reached."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn
        self._lock = threading.Lock()
        self._known: Mapping[str, Any] | None = None
        self._read_at = 0.0

    def current(self) -> Mapping[str, Any]:
        with self._lock:
            if self._known is None:
                self._known = self._read()
            return self._known

    def renewed(self, than: Mapping[str, Any]) -> Mapping[str, Any] | None:
        with self._lock:
            old_enough = time.monotonic() - self._read_at >= _MOST_OFTEN_SECONDS
            if self._known == than and old_enough:
                try:
                    self._known = self._read()
                except TaskFlowError as exc:
                    log.warning("secret.unreadable", error=exc.detail)
            return self._known if self._known != than else None

    def _read(self) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        self._read_at = time.monotonic()
        try:
            text = self._client.get_secret_value(SecretId=self._arn)["SecretString"]
        except ClientError as exc:
            reason = exc.response.get("Error", {})
            said = f"{reason.get('Code')}: {reason.get('Message')}"
            if reason.get("Code") in _OUR_FAULT:
                raise ConfigurationError(
                    f"TASKFLOW_DATABASE_SECRET_ARN {self._arn} cannot be read ({said}); "
                    "needed is secretsmanager:GetSecretValue on it, and the use of its KMS key"
                ) from exc
            raise StoreUnavailableError(f"Secrets Manager did not answer: {said}") from exc
        except BotoCoreError as exc:
            raise StoreUnavailableError(f"Secrets Manager did not answer: {exc}") from exc
        try:
            content = json.loads(text)
            given = {ours: content[theirs] for theirs, ours in _NAMES.items() if theirs in content}
        except (ValueError, TypeError):
            given = {}
        if not {"user", "password"} <= given.keys():
            raise ConfigurationError(  # without its content
                f"TASKFLOW_DATABASE_SECRET_ARN {self._arn} is no JSON object with username and password"
            )
        return given


def secrets_manager_credentials(arn: str) -> SecretsManagerCredentials:
    """With a client for the region in the ARN; AWS_ENDPOINT_URL and credentials are AWS's own variables."""
    require_boto3("TASKFLOW_DATABASE_SECRET_ARN")
    from botocore.config import Config

    parts = arn.split(":")
    if len(parts) < 7 or parts[2] != "secretsmanager":
        raise ConfigurationError(
            f"TASKFLOW_DATABASE_SECRET_ARN: {arn!r} is not the ARN of a secret"
        )
    config = Config(
        connect_timeout=_TIMEOUT_SECONDS,
        read_timeout=_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    client = session(parts[3]).create_client("secretsmanager", config=config)
    return SecretsManagerCredentials(client, arn)
