"""In which order waiting items are handed out: priorities, tenants in turn, nobody passed over for ever.

Pure and not thread safe: the queue that owns an `Ordering` holds its lock around every call. Items are whatever the
queue hands out, as long as they say whose they are; the queue puts them in and gets them back untouched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from taskflow.ports.queue import Selector

_TENANTS_REMEMBERED = 64  # below this many, forgetting costs more than it frees
_MOST_CREDIT = 64  # items handed through in a row, while others wait


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
    """One `Level` per priority, lower numbers first, and a bound on how long a lower priority is passed over: `Turns`.

    `add` and `take` cost O(log n) an item, amortised, whatever the selectors (see `Level`).
    """

    def __init__(self, priorities: Iterable[int], *, starvation_every: int) -> None:
        if starvation_every < 2:
            raise ValueError(f"starvation_every must be 2 or more, not {starvation_every}")
        self._levels: dict[int, Level[T]] = {priority: Level() for priority in sorted(priorities)}
        self._starvation_every = starvation_every
        self._turns: dict[tuple[int, ...], Turns] = {}  # by the priorities that callers take
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
        level.main.add(item, self._added)

    def hand_through(self, item: T, selector: Selector) -> int | None:
        """Its position, if ``item`` may be handed out instead of being added: nothing waits, or its priority's turn has
        come and it is of a tenant whose turn is now (see `FairHeap.hand_through`). None: `add` it."""
        allowed, turns = self._turns_of(selector)
        level = self._levels[item.priority]
        waiting = [p for p in allowed if self._levels[p].has(selector)]
        if waiting:
            contenders = sorted({*waiting, item.priority})
            if turns.next(contenders)[0] != item.priority or not level.hand_through(item):
                return None
            turns.served(contenders, item.priority, 1)
        self._added += 1
        return self._added

    def put_back(self, item: T, position: int) -> None:
        """Return what was handed out from ``position``: to the front of its tenant's, for the tenant's next turn."""
        self._levels[item.priority].put_back(item, position)

    def remove(self, is_gone: Callable[[T], bool]) -> None:
        """Take out what is to be handed out to nobody any more. O(n)."""
        for level in self._levels.values():
            level.remove(is_gone)

    def take(self, max_items: int, selector: Selector) -> list[tuple[int, T]]:
        """Up to ``max_items`` that ``selector`` accepts, in order, each with its position (for `put_back`)."""
        allowed, turns = self._turns_of(selector)
        taken: list[tuple[int, T]] = []
        while (room := max_items - len(taken)) > 0:
            waiting = [p for p in allowed if self._levels[p].has(selector)]
            if not waiting:
                break
            priority, most = turns.next(waiting)
            before = len(taken)
            self._levels[priority].take(min(room, most), selector, taken)
            turns.served(waiting, priority, len(taken) - before)
        return taken

    def _turns_of(self, selector: Selector) -> tuple[tuple[int, ...], Turns]:
        """With the priorities that it accepts, highest first."""
        wanted = selector.priorities
        allowed = tuple(p for p in self._levels if wanted is None or p in wanted)
        turns = self._turns.get(allowed)
        if turns is None:
            turns = self._turns[allowed] = Turns(allowed, self._starvation_every)
        return allowed, turns


class Turns:
    """Whose turn it is among priorities, for the callers that take the same ones.

    The bound: let something of a priority, acceptable to these callers, wait while n consecutive items are handed out
    to them, and let k be the number of priorities, this one included, that waited below the highest waiting one at
    some time meanwhile. If n >= k * ``every``, it got at least one of the n.

    For after ``every`` - 1 items of the highest that passed somebody over, the next goes to whoever has waited longest
    without being served. A rival is preferred at most once, as it has been served then; one that has not waited all
    along, never. That the highest may be chosen, too, matters: it can be one that was passed over just before, when
    there was a higher one. This does not use up the turn of the lower ones.
    """

    __slots__ = ("_every", "_handed_out", "_since", "_streak")

    def __init__(self, priorities: Sequence[int], every: int) -> None:
        self._every = every
        self._streak = 0  # items of the highest in a row that passed a lower one over
        self._handed_out = 0
        # When, in items handed out, each was last served, or did not wait.
        self._since = dict.fromkeys(priorities, 0)

    def next(self, waiting: Sequence[int]) -> tuple[int, int]:
        """One of ``waiting`` (not empty, highest first), and how many of it may be handed out before asking again."""
        if len(waiting) == 1:
            return waiting[0], sys.maxsize
        before_turn = self._every - 1 - self._streak
        if before_turn > 0:
            return waiting[0], before_turn
        return min(waiting, key=self._since.__getitem__), 1

    def served(self, waiting: Sequence[int], priority: int, count: int) -> None:
        """``count`` items of ``priority`` were handed out while ``waiting`` waited."""
        self._handed_out += count
        for other in self._since:
            if other == priority or other not in waiting:
                self._since[other] = self._handed_out
        if len(waiting) == 1 or priority != waiting[0]:
            self._streak = 0
        elif self._streak < self._every - 1:
            self._streak += count


class Level(Generic[T]):
    """One priority: a heap, and beside it one for each task that some caller did not accept.

    An item in a caller's way is moved into its task's heap, once, so a worker that excludes a task does not look at
    the same items again and again. Callers that accept the task merge the heaps, oldest turn first. The heap of a task
    counts its own rounds: when its items drain more slowly than the others (a scarce resource), or not at all for a
    while (an open circuit), a tenant that asks for it late still gets its turn before the backlog of the others.
    """

    __slots__ = ("_parked", "main")

    def __init__(self) -> None:
        self.main: FairHeap[T] = FairHeap()
        self._parked: dict[str, FairHeap[T]] = {}  # by task, none of them empty

    def __len__(self) -> int:
        return len(self.main.entries) + sum(len(heap.entries) for heap in self._parked.values())

    def put_back(self, item: T, position: int) -> None:
        self._parked.get(item.task, self.main).put_back(item, position)

    def remove(self, is_gone: Callable[[T], bool]) -> None:
        self.main.remove(is_gone)
        for task, heap in list(self._parked.items()):
            heap.remove(is_gone)
            if not heap.entries:
                del self._parked[task]

    def hand_through(self, item: T) -> bool:
        """Whether ``item`` may be handed out before what waits here."""
        return item.task not in self._parked and self.main.hand_through(item)

    def has(self, selector: Selector) -> bool:
        """Whether something acceptable waits."""
        if selector.tasks is None and not selector.excluded:
            return bool(self.main.entries or self._parked)
        self._clear_the_way(selector)
        return bool(self.main.entries) or any(map(selector.accepts, self._parked))

    def take(self, count: int, selector: Selector, taken: list[tuple[int, T]]) -> None:
        """Append up to ``count`` acceptable items to ``taken``, each with its position."""
        picky = selector.tasks is not None or bool(selector.excluded)
        if not picky and not self._parked:
            self.main.take(count, taken)
            return
        accepted = {task: heap for task, heap in self._parked.items() if selector.accepts(task)}
        for _ in range(count):
            self._clear_the_way(selector)
            task, heap = min(accepted.items(), key=_next_turn, default=(None, self.main))
            if task is None or (self.main.entries and self.main.entries[0] < heap.entries[0]):
                if not self.main.entries:
                    break
                self.main.take(1, taken)
            else:
                heap.take(1, taken)
                if not heap.entries:
                    del self._parked[task], accepted[task]

    def _clear_the_way(self, selector: Selector) -> None:
        """Move what stands before the first item of the main heap that is acceptable and has no heap of its own."""
        entries, parked = self.main.entries, self._parked
        moved: list[tuple[int, T]] = []
        while entries:
            turn, _, item = entries[0]
            if item.task not in parked:
                if selector.accepts(item.task):
                    break
                parked[item.task] = FairHeap(round=turn - 1)
            self.main.take(1, moved)
            position, item = moved.pop()
            parked[item.task].add(item, position)


def _next_turn(parked: tuple[str, FairHeap[T]]) -> tuple[int, int]:
    turn, position, _ = parked[1].entries[0]
    return turn, position


class FairHeap(Generic[T]):
    """Serves tenants in turn, each tenant's items first-in first-out. With one tenant that is plain first-in first-out.

    The heap is ordered by (round, position). An item's round is the one after its tenant's last, but at the earliest
    the one after that being served. So in every round each tenant has at most one item that was added; one that comes
    late neither pays for its absence nor, however many newcomers there are, holds up those who wait already.
    (Start-time fair queueing with equal weights: P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996; newcomers a round later.)
    """

    __slots__ = ("_credit", "_forget_at", "entries", "last_rounds", "round")

    def __init__(self, round: int = 0) -> None:
        self._credit = 0  # so many were handed out for which none has been handed through
        self.entries: list[tuple[int, int, T]] = []
        self.round = round  # of the item handed out last
        self.last_rounds: dict[str, int] = {}  # by tenant: of the item it added last
        self._forget_at = _TENANTS_REMEMBERED

    def add(self, item: T, position: int) -> None:
        """Behind what the tenant has waiting."""
        tenant_id = item.tenant_id
        last = self.last_rounds.get(tenant_id, 0)
        turn = (last if last > self.round else self.round) + 1
        heappush(self.entries, (turn, position, item))
        self._note(tenant_id, turn)

    def hand_through(self, item: T) -> bool:
        """Whether ``item``, which is not here, may be handed out at once: its tenant had nothing in this round and has
        nothing in later ones. However many newcomers there are, no more are handed through than handed out."""
        if not self.entries:
            return True
        if self._credit <= 0 or self.last_rounds.get(item.tenant_id, -1) >= self.round:
            return False
        self._credit -= 1
        self._note(item.tenant_id, self.round)
        return True

    def put_back(self, item: T, position: int) -> None:
        """Before what the tenant has waiting, but not before others whose turn it is.

        The next round, not this one: an item that is handed out and returned for ever must not keep the others out.
        """
        heappush(self.entries, (self.round + 1, position, item))

    def remove(self, is_gone: Callable[[T], bool]) -> None:
        self.entries = [entry for entry in self.entries if not is_gone(entry[2])]
        heapify(self.entries)

    def take(self, count: int, taken: list[tuple[int, T]]) -> None:
        """Append the next ``count`` items, or all there are, to ``taken``, each with its position."""
        entries = self.entries
        turn = self.round
        count = min(count, len(entries))
        for _ in range(count):
            turn, position, item = heappop(entries)
            taken.append((position, item))
        self.round = max(self.round, turn)
        self._credit = min(self._credit + count, _MOST_CREDIT)

    def _note(self, tenant_id: str, turn: int) -> None:
        self.last_rounds[tenant_id] = turn
        if len(self.last_rounds) > self._forget_at:
            self._forget()

    def _forget(self) -> None:
        """Drop tenants whose last round has come: `add` treats them like newcomers anyway."""
        self.last_rounds = {
            tenant_id: turn for tenant_id, turn in self.last_rounds.items() if turn > self.round
        }
        self._forget_at = max(_TENANTS_REMEMBERED, 2 * len(self.last_rounds))
