"""Asks the endpoint what a client would ask: whether it answers, knows its tasks, and runs one."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from deployment.errors import DeployError

HEALTHY_WITHIN_SECONDS = 300.0  # a new load balancer's name takes minutes to be known everywhere
_RUN_WITHIN_SECONDS = 120.0  # a function's first start in a VPC
_REQUEST_SECONDS = 35.0  # of a request that is held (`?wait=`)
_WAIT_SECONDS = 20
_PAUSE_SECONDS = 2.0
_PROBE = "echo"  # built in, so there wherever built-in handlers are


@dataclass(frozen=True)
class Endpoint:
    """``trusted``: PEM that is trusted beside the machine's authorities; ``server_name``: whose certificate it has to
    show, where that is not the name in the address."""

    url: str
    trusted: str = ""
    server_name: str | None = None


@dataclass(frozen=True)
class Check:
    name: str
    found: str


class _Named(ssl.SSLContext):
    """Asks for the certificate of ``server_name`` whatever the address: httpx can do that, but not through a proxy."""

    server_name: str | None = None

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        if self.server_name is not None:
            options["server_hostname"] = self.server_name
        return super().wrap_socket(*args, **options)


class SmokeTest:
    def __init__(
        self,
        endpoint: Endpoint,
        *,
        healthy_within_seconds: float = HEALTHY_WITHIN_SECONDS,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._healthy_within_seconds = healthy_within_seconds
        self._pause = pause

    def run(self) -> list[Check]:
        """What was checked and found. Raises DeployError at the first thing that is not as it should be."""
        headers = {"Host": self._endpoint.server_name} if self._endpoint.server_name else {}
        with httpx.Client(
            base_url=self._endpoint.url,
            headers=headers,
            verify=self._tls(),
            timeout=_REQUEST_SECONDS,
            limits=httpx.Limits(max_connections=None),  # those that failed are not waited for
        ) as http:
            checks = [self._healthy(http)]
            names = self._handlers(http)
            checks.append(
                Check("handlers", f"{len(names)} registered: {', '.join(sorted(names)[:8])}")
            )
            if _PROBE in names:
                checks.append(self._task(http))
            else:
                checks.append(Check("task", f"not tried: the handler {_PROBE!r} is not registered"))
        return checks

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._endpoint.url.startswith("https:"):
            return False
        context = _Named(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        context.server_name = self._endpoint.server_name
        if self._endpoint.trusted:
            context.load_verify_locations(cadata=self._endpoint.trusted)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _healthy(self, http: httpx.Client) -> Check:
        deadline = time.monotonic() + self._healthy_within_seconds
        while True:
            found = self._health(http)
            if isinstance(found, Check):
                return found
            if time.monotonic() > deadline:
                raise self._failed("/health", found)
            self._pause(_PAUSE_SECONDS)

    def _health(self, http: httpx.Client) -> Check | str:
        try:
            answer = http.get("/health")
        except httpx.HTTPError as exc:
            return f"{type(exc).__name__}: {exc}"
        if answer.status_code != httpx.codes.OK:
            return f"HTTP {answer.status_code}"
        tls = "HTTPS" if self._endpoint.url.startswith("https:") else "HTTP"
        return Check("health", f"{tls} 200 from {self._endpoint.url}/health")

    def _handlers(self, http: httpx.Client) -> set[str]:
        answer = self._json(http, "GET", "/api/v1/handlers")
        try:
            return {item["task"] for item in answer["items"]}
        except (KeyError, TypeError) as exc:
            raise self._failed("/api/v1/handlers", "not TaskFlow's answer") from exc

    def _task(self, http: httpx.Client) -> Check:
        task = self._json(
            http,
            "POST",
            "/api/v1/tasks",
            json={
                "task": _PROBE,
                "kwargs": {"deployed": True},
                "priority": "high",
                "tags": ["deploy"],
            },
        )
        task_id, deadline = task["task_id"], time.monotonic() + _RUN_WITHIN_SECONDS
        while task["status"] not in {"completed", "failed", "cancelled", "expired"}:
            if time.monotonic() > deadline:
                raise self._failed(
                    "a task",
                    f"task {task_id} is still {task['status']} after {_RUN_WITHIN_SECONDS:.0f} s",
                    logs="worker",
                )
            task = self._json(
                http, "GET", f"/api/v1/tasks/{task_id}", params={"wait": _WAIT_SECONDS}
            )
        if task["status"] != "completed":
            said = (task.get("error") or {}).get("message", "")
            raise self._failed(
                "a task", f"task {task_id} is {task['status']}: {said}", logs="worker"
            )
        return Check("task", f"{_PROBE} {task_id} completed in {task.get('duration_ms')} ms")

    def _json(self, http: httpx.Client, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = http.request(method, path, **arguments)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise self._failed(f"{method} {path}", f"{type(exc).__name__}: {exc}") from exc

    def _failed(self, what: str, found: str, *, logs: str = "api") -> DeployError:
        return DeployError(
            f"The stack is there, but its endpoint failed the smoke test: {what} of {self._endpoint.url}: {found}",
            f"`deploy.py logs {logs}` and `deploy.py status` say more; `deploy.py up` tests again.",
            code="smoke_test_failed",
        )
