"""The instances: which of them may get requests, and why the others may not."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from taskflow.balancer.address import Address, parse_address
from taskflow.balancer.metrics import InstanceCounts
from taskflow.balancer.options import HealthCheck
from taskflow.logs import get_logger

if TYPE_CHECKING:
    from taskflow.balancer.familiar_answer import FamiliarAnswer
    from taskflow.balancer.instance_connection import InstanceConnection

log = get_logger(__name__)

State = Literal["unchecked", "up", "down", "draining", "removed"]
_LEAST_WEIGHT = 0.1  # at the beginning of a slow start
_SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)


def is_shortage(exc: Exception) -> bool:
    """Whether a connection failed because this machine has no more files, memory or ports: that says nothing about an
    instance."""
    return isinstance(exc, OSError) and exc.errno in _SHORTAGES


class Instance:
    """One API process. ``active`` exchanges and ``idle`` connections are kept by those who open and close them.

    Unchecked instances get requests: before the first check nothing speaks against them, and a first failure takes
    them out at once.
    """

    __slots__ = (
        "_on_change",
        "active",
        "address",
        "authority",
        "connections",
        "counts",
        "drain_asked",
        "failures",
        "familiar",
        "idle",
        "name",
        "reason",
        "recovered_at",
        "seen_head_bytes",
        "state",
        "streak",
    )  # fmt: skip

    def __init__(
        self, address: Address, on_change: Callable[[], None], counts: InstanceCounts | None = None
    ) -> None:
        self.address = address
        self.name = address.url
        self.authority = address.authority.encode()
        self.state: State = "unchecked"
        self.reason = ""  # why it is down
        self.streak = 0  # checks in a row that spoke against the present state
        self.failures = 0  # connection errors since its last whole answer
        self.recovered_at: float | None = None  # while it starts slowly
        self.drain_asked = False  # by an operator: whatever checks say
        self.active = 0
        self.connections = 0
        self.idle: list[InstanceConnection] = []  # the last one used is the next to be used
        self.counts = counts if counts is not None else InstanceCounts()
        self.familiar: FamiliarAnswer | None = None  # the last one worth remembering
        self.seen_head_bytes = 0
        self._on_change = on_change

    @property
    def available(self) -> bool:
        return self.state in {"unchecked", "up"} and not self.drain_asked

    def become(self, state: State, reason: str = "") -> None:
        if state == self.state:
            return
        former, self.state = self.state, state
        self.reason, self.streak, self.failures = reason, 0, 0
        if state != "up":
            self.recovered_at = None
        write = log.warning if state == "down" else log.info
        write("instance.state", instance=self.name, state=state, former=former, reason=reason)
        self._on_change()

    def ask_to_drain(self, asked: bool) -> None:
        self.drain_asked = asked
        log.info("instance.drain", instance=self.name, asked=asked)
        if asked:
            self.close_idle()
        self._on_change()

    def close_idle(self) -> None:
        for connection in list(self.idle):
            connection.close()


class Instances:
    """All instances. One event loop's: nothing here is thread safe."""

    def __init__(
        self,
        rules: HealthCheck,
        monotonic: Callable[[], float],
        counts_of: Callable[[str], InstanceCounts] = lambda _: InstanceCounts(),
    ) -> None:
        """``counts_of``: by an instance's name; they outlive it."""
        self._rules = rules
        self._counts_of = counts_of
        self._monotonic = monotonic
        self._by_name: dict[str, Instance] = {}
        self._configured: list[str] = []  # names, as `configure` was told the last time
        self.available: list[Instance] = []
        self.any_slow = False  # whether weights differ
        self.alike: list[Instance] = []  # the available ones, when all weigh the same
        self.on_added: Callable[[Instance], None] = lambda _: None
        self.on_removed: Callable[[Instance], None] = lambda _: None

    def __iter__(self) -> Iterator[Instance]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Instance | None:
        return self._by_name.get(name)

    def add(self, url: str) -> Instance:
        """The instance at ``url``, new or not. Raises ConfigurationError."""
        address = parse_address(url)
        known = self._by_name.get(address.url)
        if known is not None:
            return known
        instance = Instance(address, self._changed, self._counts_of(address.url))
        self._by_name[instance.name] = instance
        self._changed()
        self.on_added(instance)
        return instance

    def remove(self, instance: Instance) -> None:
        """It gets no new requests; those it has may finish."""
        self._by_name.pop(instance.name, None)
        instance.familiar = None
        instance.become("removed")
        instance.close_idle()
        self.on_removed(instance)

    def configure(self, urls: Iterable[str]) -> None:
        """Add those that were not among the last call's ``urls``, remove those that are no longer. All others stay as
        they are: also what was added or removed in between. Raises ConfigurationError, changing nothing."""
        wanted = [parse_address(url).url for url in urls]
        before, self._configured = self._configured, wanted
        for name in before:
            instance = self._by_name.get(name)
            if name not in wanted and instance is not None:
                self.remove(instance)
        for name in wanted:
            if name not in before:
                self.add(name)

    def weight(self, instance: Instance) -> float:
        """1, or less while it starts slowly."""
        if instance.recovered_at is None:
            return 1.0
        passed = self._monotonic() - instance.recovered_at
        if passed >= self._rules.slow_start:
            instance.recovered_at = None
            self._changed()
            return 1.0
        return max(_LEAST_WEIGHT, passed / self._rules.slow_start)

    # --- what is found out about them

    def connection_failed(self, instance: Instance, why: str) -> None:
        """A request could not reach it, or lost it. Enough of these in a row eject it until checks succeed again.

        Only a whole answer ends a row: what accepts connections may still have nobody behind it.
        """
        instance.failures += 1
        if instance.failures >= self._rules.max_failures and instance.state in {"unchecked", "up"}:
            instance.become("down", f"ejected: {why}")
            instance.close_idle()

    def check_succeeded(self, instance: Instance) -> None:
        if instance.state == "unchecked":
            instance.become("up")
        elif instance.state == "up":
            instance.streak = 0
        elif instance.state in {"down", "draining"}:
            instance.streak += 1
            if instance.streak >= self._rules.rise:
                if self._rules.slow_start > 0:
                    instance.recovered_at = self._monotonic()
                instance.become("up")

    def check_failed(self, instance: Instance, why: str) -> None:
        if instance.state in {"down", "draining"}:
            instance.streak = 0
            if instance.state == "draining":
                instance.become("down", why)  # what drains, stops in the end
        elif instance.state in {"unchecked", "up"}:
            instance.streak += 1
            if instance.state == "unchecked" or instance.streak >= self._rules.fall:
                instance.become("down", why)
                instance.close_idle()

    def says_draining(self, instance: Instance) -> None:
        if instance.state != "removed":
            instance.streak = 0
            instance.become("draining", "it says so")
            instance.close_idle()

    def _changed(self) -> None:
        self.available = [one for one in self._by_name.values() if one.available]
        self.any_slow = any(one.recovered_at is not None for one in self.available)
        self.alike = [] if self.any_slow else self.available
