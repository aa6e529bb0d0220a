"""Who gets the next request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

from taskflow.balancer.instances import Instance
from taskflow.balancer.options import StrategyName

Weight = Callable[[Instance], float]


class Strategy(Protocol):
    def pick(self, candidates: Sequence[Instance], weight: Weight | None) -> Instance:
        """One of ``candidates``, of which there is at least one. ``weight`` None: all count alike."""
        ...


class RoundRobin:
    """One after the other; with weights the smooth kind (Nginx's): no instance gets its share in one burst."""

    def __init__(self) -> None:
        self._next = 0
        self._credit: dict[str, float] = {}

    def pick(self, candidates: Sequence[Instance], weight: Weight | None) -> Instance:
        if weight is None:
            index = self._next
            if index >= len(candidates):
                index = 0
            self._next = index + 1
            return candidates[index]
        total = 0.0
        credit = {}
        for instance in candidates:
            share = weight(instance)
            total += share
            credit[instance.name] = self._credit.get(instance.name, 0.0) + share
        best = max(candidates, key=lambda instance: credit[instance.name])
        credit[best.name] -= total
        self._credit = credit
        return best


class LeastConnections:
    """The one with the fewest exchanges for its weight; among equals one after the other."""

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, candidates: Sequence[Instance], weight: Weight | None) -> Instance:
        count = len(candidates)
        start = self._turn = (self._turn + 1) % count
        best, least = candidates[start], float("inf")
        for step in range(count):
            instance = candidates[(start + step) % count]
            load = (instance.active + 1) / (weight(instance) if weight is not None else 1.0)
            if load < least:
                best, least = instance, load
        return best


def build_strategy(name: StrategyName) -> Strategy:
    match name:
        case "round_robin":
            return RoundRobin()
        case "least_connections":
            return LeastConnections()
        case never:
            assert_never(never)
