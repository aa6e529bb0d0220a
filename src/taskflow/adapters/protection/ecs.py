"""Protection by Amazon ECS: a protected task (container) of a service is not chosen when the service shrinks.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import orjson

from taskflow.ports.protection import ProtectionUnavailableError

_PATH = "/task-protection/v1/state"
_TIMEOUT_SECONDS = 5.0
_SHOWN_CHARACTERS = 300


class ECSProtection:
    """Through the agent at ``agent_uri`` (ECS_AGENT_URI), which signs with the task's own role: that needs
    ``ecs:UpdateTaskProtection``. No proxy, whatever the environment says: the address is link-local."""

    def __init__(self, agent_uri: str) -> None:
        parts = urlsplit(agent_uri)
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._path = parts.path.rstrip("/") + _PATH

    def switch(self, *, on: bool, minutes: int) -> None:
        asked: dict[str, object] = {"ProtectionEnabled": on}
        if on:
            asked["ExpiresInMinutes"] = minutes
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(
                "PUT", self._path, orjson.dumps(asked), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            raise ProtectionUnavailableError(
                f"the ECS agent at {self._host} does not answer: {str(exc) or type(exc).__name__}"
            ) from exc
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST or not _is_done(body):
            said = body[:_SHOWN_CHARACTERS].decode(errors="replace")
            raise ProtectionUnavailableError(f"the ECS agent answered {answer.status}: {said}")


def _is_done(body: bytes) -> bool:
    """What could not be done is said in the body alone: ``{"failure": …}`` or ``{"error": …}``."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and "protection" in said
