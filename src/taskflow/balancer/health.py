"""Asks every instance `GET /health`, again and again, and tells what it finds."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from taskflow.balancer.chunked import ChunkedBody
from taskflow.balancer.framing import FramingError
from taskflow.balancer.instances import Instance, Instances, is_shortage
from taskflow.balancer.options import HealthCheck
from taskflow.balancer.response_head import UNTIL_CLOSE, InvalidAnswerError, read_response_head

_MAX_BODY_BYTES = 65_536
_DRAINING = "draining"


class HealthChecks:
    """One task per instance, on a connection of its own each time: what listens no more must not look well."""

    def __init__(self, instances: Instances, rules: HealthCheck) -> None:
        self._instances = instances
        self._rules = rules
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Returns when every instance has been asked once."""
        self._instances.on_added = self._watch
        self._instances.on_removed = self._forget
        instances = list(self._instances)
        await asyncio.gather(*(self.check(instance) for instance in instances))
        for instance in instances:
            self._watch(instance)

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, instance: Instance) -> None:
        first_now = instance.state == "unchecked"
        self._tasks[instance.name] = asyncio.get_running_loop().create_task(
            self._ask_on_and_on(instance, first_now), name=f"health {instance.name}"
        )

    def _forget(self, instance: Instance) -> None:
        task = self._tasks.pop(instance.name, None)
        if task is not None:
            task.cancel()

    async def _ask_on_and_on(self, instance: Instance, first_now: bool) -> None:
        if not first_now:
            await asyncio.sleep(self._rules.interval)
        while True:
            await self.check(instance)
            await asyncio.sleep(self._rules.interval)

    async def check(self, instance: Instance) -> None:
        """Ask once."""
        try:
            async with asyncio.timeout(self._rules.timeout):
                status, body = await self._ask(instance)
        except TimeoutError:
            self._instances.check_failed(instance, f"no answer to {self._rules.path} in time")
        except (OSError, EOFError, InvalidAnswerError, FramingError) as exc:
            if not is_shortage(exc):
                self._instances.check_failed(
                    instance, f"{self._rules.path}: {str(exc) or type(exc).__name__}"
                )
        else:
            if _says_draining(body):
                self._instances.says_draining(instance)
            elif 200 <= status < 300:
                self._instances.check_succeeded(instance)
            else:
                self._instances.check_failed(instance, f"{self._rules.path} answers {status}")

    async def _ask(self, instance: Instance) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(
            instance.address.host, instance.address.port, limit=_MAX_BODY_BYTES
        )
        try:
            writer.write(
                b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\nUser-Agent: taskflow-balancer\r\n\r\n"
                % (self._rules.path.encode(), instance.authority)
            )
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                raise InvalidAnswerError("its head is too large") from None
            answer = read_response_head(head, is_head=False)
            return answer.status, await _read_body(reader, answer.body)
        finally:
            writer.transport.abort()


async def _read_body(reader: asyncio.StreamReader, length: int) -> bytes:
    if length >= 0:
        return await reader.readexactly(min(length, _MAX_BODY_BYTES))
    if length == UNTIL_CLOSE:
        return await reader.read(_MAX_BODY_BYTES)
    chunks, payload = ChunkedBody(), list[bytes]()
    while not chunks.done and sum(map(len, payload)) < _MAX_BODY_BYTES:
        data = await reader.read(_MAX_BODY_BYTES)
        if not data:
            raise EOFError("the answer is cut off")
        chunks.feed(data, 0, payload)
    return b"".join(payload)


def _says_draining(body: bytes) -> bool:
    """As workers do (``"status": "draining"``), or the API in its problem (``"detail": "draining: …"``)."""
    try:
        found: Any = orjson.loads(body)
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    detail = found.get("detail")
    return found.get("status") == _DRAINING or (
        isinstance(detail, str) and detail.startswith(_DRAINING)
    )
