"""Port: a task queue whose messages are brought by events, as Lambda brings those of SQS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from taskflow.ports.queue import TaskQueue


class EventQueue(TaskQueue, Protocol):
    """Between `begin` and `end` it hands out the messages of one event, and nothing else; `enqueue` sends at any time.

    Who brought the event deletes what `end` does not return. Contract: tests/integration/lambdas/test_event_queue.py.
    """

    def begin(self, records: Sequence[Mapping[str, Any]]) -> None:
        """The messages of an event. Those that cannot be decoded are nobody's; `end` puts them away."""
        ...

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        """Until each message is acked, or given back, or is one that nobody here takes; False when time is up."""
        ...

    def give_up(self) -> None:
        """Hand out no more of this event: its messages are to come back later."""
        ...

    def end(self, timeout_seconds: float) -> list[str]:
        """Ids of the messages that are to stay in the queue, visible again when they should be: at once if there
        was no time for them, later and later if nobody here could run them. Never raises.

        What cannot be worked on is put away with the reason, and logged. Where all this takes longer than
        ``timeout_seconds``, what is not done stays, too, and comes back after its visibility timeout.
        """
        ...
