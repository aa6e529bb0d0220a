"""The queue that misbehaves, with the one fault that the contract allows: what is not ordered comes in any order."""

from __future__ import annotations

from taskflow.adapters.queue.chaos import ChaosQueue, ChaosRates
from tests.contract.queue.local import LocalHarness

_RATES = ChaosRates(fail_send=0, lose_answer=0, delay=0, duplicate=0, reorder=0.5, drop_ack=0)


class ChaosHarness(LocalHarness):
    """The other faults, and that nothing is lost by them, are in tests/unit/queue."""

    is_ordered = False

    def __init__(self, *, visibility_timeout_seconds: float) -> None:
        super().__init__(visibility_timeout_seconds=visibility_timeout_seconds)
        self.queue = ChaosQueue(self.queue, seed=1, rates=_RATES)
