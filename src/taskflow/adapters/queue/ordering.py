"""In which order waiting items are handed out: priorities, tenants in turn, nobody passed over for ever.

Pure and not thread safe: the queue that owns an `Ordering` holds its lock around every call. Items are whatever the
queue hands out, as long as they say whose they are; the queue puts them in and gets them back untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, Protocol, TypeVar

from taskflow.ports.queue import Selector

_TENANTS_REMEMBERED = 64  # below this many, forgetting costs more than it frees


class Orderable(Protocol):
    """What the order looks at. `Message` and `Delivery` have it."""

    @property
    def tenant_id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def priority(self) -> int: ...


T = TypeVar("T", bound=Orderable)


class Ordering(Generic[T]):
    """One `Level` per priority, lower numbers first, and a bound on how long a lower priority is passed over.

    The bound: let something of a priority, acceptable to the callers, wait during n consecutive items handed out to
    callers with equal ``selector.priorities``, and let k be the number of priorities that waited below the highest
    waiting one at some time meanwhile, this one included. If n >= k * ``starvation_every``, it got at least one of the
    n. For after ``starvation_every`` - 1 items that passed somebody over, the next goes to that lower priority which
    was served longest ago; every other item goes to the highest priority that waits.

    `add` and `take` cost O(log n) an item, amortised, whatever the selectors.
    """

    def __init__(self, priorities: Iterable[int], *, starvation_every: int) -> None:
        if starvation_every < 2:
            raise ValueError(f"starvation_every must be 2 or more, not {starvation_every}")
        self._levels: dict[int, Level[T]] = {priority: Level() for priority in sorted(priorities)}
        self._every = starvation_every
        # Consecutive items that passed a lower priority over, by the priorities that their callers take.
        self._streaks: dict[tuple[int, ...], int] = {}
        self._served_at = dict.fromkeys(self._levels, 0)  # counted in items handed out
        self._handed_out = 0
        self._added = 0

    def __len__(self) -> int:
        return sum(map(len, self._levels.values()))

    def count(self, priority: int) -> int:
        """How many items of this priority wait."""
        return len(self._levels[priority])

    def add(self, item: T) -> None:
        """Put ``item`` behind what its tenant has waiting. Raises KeyError for a priority that there is not."""
        level = self._levels[item.priority]
        self._added += 1
        level.heap_of(item.task).add(item, self._added)

    def put_back(self, item: T, position: int) -> None:
        """Return what was handed out from ``position``: to the front of its tenant's, for the tenant's next turn."""
        self._levels[item.priority].heap_of(item.task).put_back(item, position)

    def take(self, max_items: int, selector: Selector) -> list[tuple[int, T]]:
        """Up to ``max_items`` that ``selector`` accepts, in order, each with its position (for `put_back`)."""
        wanted = selector.priorities
        allowed = tuple(p for p in self._levels if wanted is None or p in wanted)
        taken: list[tuple[int, T]] = []
        while (room := max_items - len(taken)) > 0:
            waiting = [p for p in allowed if self._levels[p].has(selector)]
            if not waiting:
                break
            if len(waiting) == 1:
                self._streaks[allowed] = 0
                self._serve(waiting[0], room, selector, taken)
                continue
            before_turn = self._every - 1 - self._streaks.get(allowed, 0)
            if before_turn > 0:
                got = self._serve(waiting[0], min(room, before_turn), selector, taken)
                self._streaks[allowed] = self._every - 1 - before_turn + got
            else:
                self._streaks[allowed] = 0
                longest_ago = min(waiting[1:], key=self._served_at.__getitem__)
                self._serve(longest_ago, 1, selector, taken)
        return taken

    def _serve(
        self, priority: int, count: int, selector: Selector, taken: list[tuple[int, T]]
    ) -> int:
        before = len(taken)
        self._levels[priority].take(count, selector, taken)
        got = len(taken) - before
        self._handed_out += got
        self._served_at[priority] = self._handed_out
        return got


class Level(Generic[T]):
    """One priority: a heap, and beside it one for each task that some caller did not accept.

    An item in a caller's way is moved into its task's heap, once, and keeps its place in the order; so a worker that
    excludes a task does not look at the same items again and again. Callers that accept the task merge both heaps.
    """

    __slots__ = ("_main", "_parked")

    def __init__(self) -> None:
        self._main: FairHeap[T] = FairHeap()
        self._parked: dict[str, FairHeap[T]] = {}  # by task, none of them empty

    def __len__(self) -> int:
        return len(self._main.entries) + sum(len(heap.entries) for heap in self._parked.values())

    def heap_of(self, task: str) -> FairHeap[T]:
        """Where items of this task go: beside those of it that wait."""
        return self._parked.get(task, self._main) if self._parked else self._main

    def has(self, selector: Selector) -> bool:
        """Whether something acceptable waits."""
        if selector.tasks is None and not selector.excluded:
            return bool(self._main.entries or self._parked)
        self._clear_the_way(selector)
        return bool(self._main.entries) or any(map(selector.accepts, self._parked))

    def take(self, count: int, selector: Selector, taken: list[tuple[int, T]]) -> None:
        """Append up to ``count`` acceptable items to ``taken``, each with its position."""
        picky = selector.tasks is not None or bool(selector.excluded)
        if not picky and not self._parked:
            self._main.take(count, taken)
            return
        # What comes next in each parked heap. There are at most as many as there are task names.
        heads = [
            (heap.entries[0][:2], task)
            for task, heap in self._parked.items()
            if selector.accepts(task)
        ]
        heapify(heads)
        main = self._main
        for _ in range(count):
            if picky:
                self._clear_the_way(selector)
            if heads and not (main.entries and main.entries[0][:2] < heads[0][0]):
                task = heads[0][1]
                parked = self._parked[task]
                parked.take(1, taken)
                if parked.entries:
                    heapreplace(heads, (parked.entries[0][:2], task))
                else:
                    heappop(heads)
                    del self._parked[task]
            elif main.entries:
                main.take(1, taken)
            else:
                break

    def _clear_the_way(self, selector: Selector) -> None:
        """Park what stands before the first acceptable item of the main heap."""
        entries = self._main.entries
        while entries and not selector.accepts(task := entries[0][2].task):
            parked = self._parked.get(task)
            if parked is None:
                parked = self._parked[task] = FairHeap(self._main.round)
            parked.adopt(heappop(entries))


class FairHeap(Generic[T]):
    """Serves tenants in turn, each tenant's items first-in first-out: start-time fair queueing with equal weights.

    The heap is ordered by (round, position). A new item's round is the one after its tenant's last, but not before
    the round being served, so a tenant that returns neither saves up turns nor pays for its absence. With one tenant
    this is plain first-in first-out. (P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.)
    """

    __slots__ = ("_forget_at", "_last_rounds", "entries", "round")

    def __init__(self, round: int = 0) -> None:
        self.entries: list[tuple[int, int, T]] = []
        self.round = round  # of the item handed out last
        self._last_rounds: dict[str, int] = {}  # by tenant: the round of the item it added last
        self._forget_at = _TENANTS_REMEMBERED

    def add(self, item: T, position: int) -> None:
        """Behind what the tenant has waiting. ``position`` is higher than all before."""
        tenant_id = item.tenant_id
        last = self._last_rounds.get(tenant_id, -1)
        turn = last + 1 if last >= self.round else self.round
        self._last_rounds[tenant_id] = turn
        heappush(self.entries, (turn, position, item))
        if len(self._last_rounds) > self._forget_at:
            self._forget()

    def put_back(self, item: T, position: int) -> None:
        """Before what the tenant has waiting, but not before others whose turn it is.

        The next round, not this one: an item that is handed out and returned for ever must not keep the others out.
        """
        heappush(self.entries, (self.round + 1, position, item))

    def adopt(self, entry: tuple[int, int, T]) -> None:
        """Take an entry over from another heap, with its place in the order."""
        tenant_id = entry[2].tenant_id
        self._last_rounds[tenant_id] = max(entry[0], self._last_rounds.get(tenant_id, -1))
        heappush(self.entries, entry)

    def take(self, count: int, taken: list[tuple[int, T]]) -> None:
        """Append the next ``count`` items, or all there are, to ``taken``, each with its position."""
        entries = self.entries
        turn = self.round
        for _ in range(min(count, len(entries))):
            turn, position, item = heappop(entries)
            taken.append((position, item))
        self.round = max(self.round, turn)

    def _forget(self) -> None:
        """Drop tenants whose last round is over: `add` would treat them like new ones anyway."""
        self._last_rounds = {
            tenant_id: turn for tenant_id, turn in self._last_rounds.items() if turn >= self.round
        }
        self._forget_at = max(_TENANTS_REMEMBERED, 2 * len(self._last_rounds))
