"""One thread per queue that receives: a long poll at a time, when somebody wants what it brings."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskflow.adapters.queue.sqs.client import Clients
from taskflow.adapters.queue.sqs.committer import Committer, Letter, make_visible
from taskflow.adapters.queue.sqs.envelope import decode
from taskflow.adapters.queue.sqs.errors import (
    CALL_ERRORS,
    Complaint,
    UndecodableMessageError,
    complaint,
)
from taskflow.adapters.queue.sqs.intake import Intake
from taskflow.adapters.queue.sqs.names import QueueNames, priority_of
from taskflow.adapters.queue.sqs.pause import Pause
from taskflow.logs import get_logger
from taskflow.ports.queue import Delivery

log = get_logger(__name__)

_SOON = 0.05  # of the wait: an empty answer that comes sooner than that was not waited for
_NOT_A_POLL = Complaint(
    "failed", "nothing came, and nothing was waited for: is this SQS? (AWS_ENDPOINT_URL, a proxy)"
)


class Receiver:
    """Of one queue. Never one loop over several queues: the long poll of an empty one would hold up the others."""

    def __init__(
        self,
        queue: int,
        clients: Clients,
        names: QueueNames,
        intake: Intake,
        committer: Committer,
        *,
        visibility_timeout_seconds: int,
        wait_seconds: int,
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.name = names.name(queue)
        self._queue = queue
        self._priority = priority_of(queue)
        self._clients = clients
        self._names = names
        self._intake = intake
        self._committer = committer
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._wait_seconds = wait_seconds
        self._monotonic = monotonic
        self._pause = Pause(monotonic, rng)
        self._closing = threading.Event()

    def close(self) -> None:
        """Ends a pause. A long poll under way ends by itself; what it brings is made visible again."""
        self._closing.set()

    def work(self) -> None:
        """Until the intake is closed."""
        while (count := self._intake.wanted(self._queue)) > 0:
            began = self._monotonic()
            try:
                received = self._receive(count)
            except CALL_ERRORS as exc:
                self._failed(complaint(exc))
                continue
            if not received and self._monotonic() - began < self._wait_seconds * _SOON:
                self._failed(_NOT_A_POLL)
                continue
            if self._pause.succeeded():
                log.info("queue.receive_recovered", queue=self.name)
            if received:
                self._take_in(received)

    def _failed(self, said: Complaint) -> None:
        if self._closing.is_set():
            return
        seconds = self._pause.failed()
        log.warning(
            "queue.receive_failed",
            queue=self.name,
            reason=said.reason,
            error=said.text,
            retry_in_seconds=round(seconds, 3),
        )
        self._closing.wait(seconds)

    def _receive(self, count: int) -> list[Mapping[str, Any]]:
        # Attributes are not asked for: the body says the same, and parsing them would double the cost of a receive.
        answer = self._clients.polls.receive_message(
            QueueUrl=self._names.url(self._clients.calls, self.name),
            MaxNumberOfMessages=count,
            WaitTimeSeconds=self._wait_seconds,
            VisibilityTimeout=self._visibility_timeout_seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        messages: list[Mapping[str, Any]] = answer.get("Messages", [])
        return messages

    def _take_in(self, received: list[Mapping[str, Any]]) -> None:
        deliveries: list[Delivery] = []
        letters: list[Letter] = []
        for message in received:
            try:
                # Its queue decides what its priority is: who moves a message to another queue means that.
                deliveries.append(decode(message)._replace(priority=self._priority))
            except UndecodableMessageError as exc:
                letters.append(Letter.undecodable(message, exc.detail))
        if letters:
            self._committer.dead_letter(
                self._queue, letters, give_up_in_seconds=self._visibility_timeout_seconds
            )
        if late := self._intake.arrived(deliveries, self._queue):
            receipts = [delivery.receipt for delivery in late]
            make_visible(self._clients.calls, self._names, self.name, receipts)
