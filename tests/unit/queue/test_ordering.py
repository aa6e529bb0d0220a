"""The order in which the local queue (and whoever buffers messages) hands them out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskflow.adapters.queue.ordering import FairHeap, Ordering
from taskflow.ports.queue import ANYTHING, Selector

EVERY = 4


class Item(NamedTuple):
    name: str
    tenant_id: str = "a"
    task: str = "echo"
    priority: int = 0


def ordering(every: int = EVERY) -> Ordering[Item]:
    return Ordering(range(4), starvation_every=every)


def take(order: Ordering[Item], count: int = 1, selector: Selector = ANYTHING) -> list[Item]:
    return [item for _, item in order.take(count, selector)]


def names(order: Ordering[Item], count: int = 1_000, selector: Selector = ANYTHING) -> list[str]:
    return [item.name for item in take(order, count, selector)]


def endless(order: Ordering[Item], priorities: list[int], batch: int = 1) -> Iterator[int]:
    """Priorities in the order served, while each of ``priorities`` always has something waiting."""
    for priority in priorities * batch:
        order.add(Item("", priority=priority))
    while True:
        for item in take(order, batch):
            order.add(item)
            yield item.priority


class TestPriorities:
    @pytest.mark.parametrize("batch", [1, 3, 7])
    def test_one_in_so_many_goes_to_the_lower_priority_that_waits(self, batch: int) -> None:
        served = endless(ordering(), [0, 2], batch)
        assert [next(served) for _ in range(12)] == [0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]

    def test_lower_priorities_get_their_share_in_turn(self) -> None:
        served = endless(ordering(), [0, 1, 2, 3])
        lower = [priority for priority in (next(served) for _ in range(48)) if priority != 0]
        assert lower == [1, 2, 3] * 4

    @pytest.mark.parametrize("lower", [[1], [3], [1, 2], [2, 3], [1, 2, 3]])
    @pytest.mark.parametrize("batch", [1, 5, 50])
    def test_each_lower_priority_gets_one_of_any_k_times_every_items_in_a_row(
        self, lower: list[int], batch: int
    ) -> None:
        served = endless(ordering(), [0, *lower], batch)
        window = deque((next(served) for _ in range(len(lower) * EVERY)), maxlen=len(lower) * EVERY)
        for _ in range(500):
            assert set(lower) <= set(window)
            window.append(next(served))

    def test_without_lower_priorities_waiting_nothing_is_counted(self) -> None:
        order = ordering()
        for n in range(20):
            order.add(Item(f"h{n}"))
        assert len(take(order, 15)) == 15
        order.add(Item("low", priority=3))
        assert names(order, 4) == ["h15", "h16", "h17", "low"]

    def test_callers_that_do_not_accept_the_lower_priority_do_not_pass_it_over(self) -> None:
        order = ordering()
        for n in range(20):
            order.add(Item(f"h{n}"))
        order.add(Item("low", priority=3))
        assert len(take(order, 10, Selector(priorities=frozenset({0})))) == 10
        assert names(order, 4) == ["h10", "h11", "h12", "low"]

    def test_who_was_passed_over_is_not_passed_over_again_for_having_become_the_highest(
        self,
    ) -> None:
        """Whenever the turn of a lower priority comes, 0 has just run dry and 1 is the highest; 2 must not get it."""
        order = ordering(every=3)
        for _ in range(20):
            order.add(Item("", priority=1))
            order.add(Item("", priority=2))
        served: Counter[int] = Counter()
        for _ in range(8):
            for _ in range(2):
                order.add(Item("", priority=0))
            served.update(item.priority for item in take(order, 3))
        assert served == {0: 16, 1: 4, 2: 4}

    def test_one_callers_turns_do_not_eat_up_anothers(self) -> None:
        """Alternating callers: the turn of a lower priority must not always fall to the one that takes fewer."""
        order = ordering(every=2)
        everybody, few = ANYTHING, Selector(priorities=frozenset({0, 3}))
        for priority in (0, 2, 3) * 50:
            order.add(Item("", priority=priority))
        served = Counter(
            item.priority for n in range(40) for item in take(order, 1, (everybody, few)[n % 2])
        )
        assert served[2] >= 5

    def test_an_unknown_priority_is_an_error_and_changes_nothing(self) -> None:
        order = ordering()
        with pytest.raises(KeyError):
            order.add(Item("x", priority=9))
        assert len(order) == 0

    def test_a_bound_of_one_makes_no_sense(self) -> None:
        with pytest.raises(ValueError, match="2 or more"):
            ordering(every=1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(
            st.just("take"),
            st.sampled_from([None, {0, 1}, {0, 3}, {1, 2, 3}, {2}]),
            st.integers(1, 9),
        ),
    ),
    max_size=120,
)


@settings(max_examples=300)
@given(steps=STEPS, every=st.integers(2, 5))
@example(steps=[("add", 0, 6), ("add", 1, 2), ("add", 2, 2), ("take", None, 9)], every=3)
def test_the_bound_on_starvation_holds_whatever_comes_and_goes(
    steps: list[tuple[str, object, int]], every: int
) -> None:
    """The docstring of `Ordering`, checked item by item by somebody who only counts."""
    order = ordering(every)
    waiting: Counter[int] = Counter()
    # By callers and priority: how many items in a row it was passed over, and who waited below the highest meanwhile.
    passed: dict[tuple[frozenset[int], int], int] = {}
    rivals: dict[tuple[frozenset[int], int], set[int]] = {}
    for what, argument, count in steps:
        if what == "add":
            assert isinstance(argument, int)
            for _ in range(count):
                order.add(Item("", priority=argument))
            waiting[argument] += count
            continue
        assert argument is None or isinstance(argument, set)
        accepted = frozenset(range(4)) if argument is None else frozenset(argument)
        selector = Selector(priorities=None if argument is None else accepted)
        taken = take(order, count, selector)
        assert len(taken) == min(count, sum(waiting[priority] for priority in accepted))
        for item in taken:
            present = {priority for priority in accepted if waiting[priority]}
            below = present - {min(present)}
            waiting[item.priority] -= 1
            for priority in accepted:
                key = (accepted, priority)
                if priority == item.priority or priority not in present:
                    passed.pop(key, None)
                    rivals.pop(key, None)
                else:
                    passed[key] = passed.get(key, 0) + 1
                    rivals.setdefault(key, set()).update(below)
                    assert passed[key] < len(rivals[key] | {priority}) * every


class TestTenants:
    def test_tenants_take_turns_and_each_is_first_in_first_out(self) -> None:
        order = ordering()
        for n in range(4):
            order.add(Item(f"a{n}", "a"))
        for n in range(2):
            order.add(Item(f"b{n}", "b"))
            order.add(Item(f"c{n}", "c"))
        assert names(order) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "a3"]

    def test_a_tenant_that_comes_late_gets_its_turn_before_the_backlog_of_the_others(self) -> None:
        order = ordering()
        for n in range(100):
            order.add(Item(f"a{n}", "a"))
        take(order, 40)
        order.add(Item("b0", "b"))
        assert "b0" in names(order, 2)

    def test_newcomers_however_many_do_not_hold_up_who_waits_already(self) -> None:
        order = ordering()
        for n in range(5):
            order.add(Item(f"a{n}", "a"))
        served = []
        for n in range(20):
            order.add(Item(f"new{n}", f"tenant{n}"))
            served += names(order, 1)
        assert {f"a{n}" for n in range(5)} <= set(served)

    def test_a_tenant_that_sends_one_at_a_time_gets_no_more_than_its_turn(self) -> None:
        order = ordering()
        for n in range(50):
            order.add(Item(f"b{n}", "b"))
        order.add(Item("a", "a"))
        served: Counter[str] = Counter()
        for _ in range(40):
            [item] = take(order)
            served[item.tenant_id] += 1
            if item.tenant_id == "a":
                order.add(item)
        assert abs(served["a"] - served["b"]) <= 1

    def test_what_a_tenant_returns_comes_next_among_its_own_but_after_the_others_turns(
        self,
    ) -> None:
        order = ordering()
        for n in range(3):
            order.add(Item(f"a{n}", "a"))
            order.add(Item(f"b{n}", "b"))
        [(position, first)] = order.take(1, ANYTHING)
        order.put_back(first, position)
        assert names(order) == ["b0", "a0", "a1", "b1", "a2", "b2"]

    def test_a_whole_batch_that_is_returned_comes_back_in_its_order(self) -> None:
        order = ordering()
        for n in range(6):
            order.add(Item(f"a{n}"))
        for position, item in reversed(order.take(4, ANYTHING)):
            order.put_back(item, position)
        assert names(order) == ["a0", "a1", "a2", "a3", "a4", "a5"]

    def test_an_item_returned_for_ever_does_not_keep_others_out(self) -> None:
        order = ordering()
        order.add(Item("poison", "a"))
        for n in range(20):
            order.add(Item(f"b{n}", "b"))
        served = []
        for _ in range(40):
            [(position, item)] = order.take(1, ANYTHING)
            served.append(item.name)
            if item.name == "poison":
                order.put_back(item, position)
        assert [name for name in served if name != "poison"] == [f"b{n}" for n in range(20)]

    def test_tenants_without_anything_waiting_are_forgotten(self) -> None:
        heap: FairHeap[Item] = FairHeap()
        for n in range(10_000):
            heap.add(Item("", f"tenant{n}"), n)
            if n >= 10:
                heap.take(1, [])
        assert len(heap.last_rounds) <= 128

    @given(
        script=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=60),
        backlog=st.integers(60, 80),
    )
    def test_tenants_that_wait_all_the_time_are_served_equally_often(
        self, script: list[tuple[str, int]], backlog: int
    ) -> None:
        """In any stretch in which two tenants always wait, they differ by at most two: one at either end of it."""
        order = ordering()
        for tenant_id in "xy":
            for n in range(backlog * 5):
                order.add(Item(str(n), tenant_id))
        lead = [0]
        for tenant_id, count in script:
            order.add(Item("", tenant_id))
            for item in take(order, count):
                lead.append(lead[-1] + {"x": 1, "y": -1}.get(item.tenant_id, 0))
        assert max(lead) - min(lead) <= 2


class Membership(frozenset[str]):
    """Counts how often somebody asks it."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        Membership.asked += 1
        return super().__contains__(name)


class TestSelectors:
    def test_excluded_items_are_looked_at_once_not_at_every_call(self) -> None:
        order = ordering()
        for n in range(5_000):
            order.add(Item(f"s{n}", task="slow"))
        for n in range(500):
            order.add(Item(f"f{n}", task="fast"))
        Membership.asked = 0
        selector = Selector(excluded=Membership({"slow"}))
        for n in range(500):
            assert names(order, 1, selector) == [f"f{n}"]
        assert Membership.asked <= 5_500 + 500 * 6

    def test_a_tenant_that_needs_a_scarce_resource_late_does_not_wait_for_the_others_backlog(
        self,
    ) -> None:
        order = ordering()
        without_gpu = Selector(excluded=frozenset({"gpu"}))
        for n in range(100):
            order.add(Item(f"g{n}", "a", "gpu"))
            order.add(Item(f"c{n}", "a", "cpu"))
        for _ in range(10):
            assert take(order, 1)[0].tenant_id == "a"
            assert [item.task for item in take(order, 9, without_gpu)] == ["cpu"] * 9
        order.add(Item("late", "b", "gpu"))
        served = []
        for _ in range(3):
            served += names(order, 1)
            take(order, 9, without_gpu)
        assert "late" in served

    def test_a_worker_for_one_task_serves_its_tenants_in_turn_whatever_the_others_do(self) -> None:
        order = ordering()
        for n in range(100):
            order.add(Item(f"g{n}", "a", "gpu"))
            order.add(Item(f"c{n}", "a", "cpu"))
        take(order, 80, Selector(tasks=frozenset({"cpu"})))
        order.add(Item("late", "b", "gpu"))
        assert "late" in names(order, 2, Selector(tasks=frozenset({"gpu"})))

    def test_items_returned_to_a_task_that_was_moved_aside_come_first_there(self) -> None:
        order = ordering()
        only_slow = Selector(tasks=frozenset({"slow"}))
        for n in range(4):
            order.add(Item(f"s{n}", task="slow"))
        order.add(Item("fast", task="fast"))
        [(position, first)] = order.take(1, only_slow)
        assert names(order, 5, Selector(tasks=frozenset({"fast"}))) == ["fast"]
        order.put_back(first, position)
        assert names(order, 5) == ["s0", "s1", "s2", "s3"]

    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(
                    st.just("add"), st.sampled_from("xy"), st.sampled_from("pqr"), st.integers(0, 1)
                ),
                st.tuples(
                    st.just("take"),
                    st.sets(st.sampled_from("pqr")),
                    st.booleans(),
                    st.integers(1, 4),
                ),
            ),
            max_size=80,
        )
    )
    def test_nothing_is_lost_doubled_misdirected_or_overtaken_by_its_own_kind(
        self, steps: list[tuple[str, object, object, object]]
    ) -> None:
        order = ordering()
        waiting: dict[tuple[str, str, int], deque[str]] = {}
        for number, (what, *arguments) in enumerate(steps):
            if what == "add":
                tenant_id, task, priority = arguments
                item = Item(str(number), str(tenant_id), str(task), int(str(priority)))
                order.add(item)
                waiting.setdefault(item[1:], deque()).append(item.name)
            else:
                tasks, exclude, count = arguments
                assert isinstance(tasks, set)
                assert isinstance(count, int)
                chosen = frozenset(tasks)
                selector = Selector(excluded=chosen) if exclude else Selector(tasks=chosen)
                acceptable = sum(len(q) for key, q in waiting.items() if selector.accepts(key[1]))
                taken = take(order, count, selector)
                assert len(taken) == min(count, acceptable)
                for item in taken:
                    assert selector.accepts(item.task)
                    assert waiting[item[1:]].popleft() == item.name
            assert len(order) == sum(map(len, waiting.values()))
        rest = take(order, 1_000)
        for item in rest:
            assert waiting[item[1:]].popleft() == item.name
        assert not any(waiting.values())


class TestRemoving:
    def test_what_is_removed_is_handed_out_to_nobody_and_the_others_keep_their_places(self) -> None:
        order = ordering()
        for n in range(6):
            order.add(Item(f"a{n}"))
            order.add(Item(f"b{n}", tenant_id="b", task="report"))
        # Some of them have been moved aside for a task that a caller excluded.
        assert names(order, 2, Selector(excluded=frozenset({"echo"}))) == ["b0", "b1"]
        gone = {"a0", "a3", "b2", "b5"}
        order.remove(lambda item: item.name in gone)
        assert len(order) == 6
        assert names(order) == ["a1", "a2", "b3", "a4", "b4", "a5"]

    def test_an_excluded_task_of_which_nothing_is_left_is_in_nobodys_way(self) -> None:
        order = ordering()
        order.add(Item("a0"))
        selector = Selector(excluded=frozenset({"echo"}))
        assert names(order, 1, selector) == []
        order.remove(lambda item: True)
        assert len(order) == 0
        assert names(order) == []
        order.add(Item("a1"))
        assert names(order) == ["a1"]


class TestHandingThrough:
    def test_where_nothing_waits_it_goes_through_and_leaves_nothing_behind(self) -> None:
        order = ordering()
        positions = [order.hand_through(Item("x", f"t{n}"), ANYTHING) for n in range(1_000)]
        assert positions == sorted(set(positions), key=positions.index)
        assert None not in positions
        assert len(order) == 0
        assert not order._levels[0].main.last_rounds

    def test_a_newcomer_goes_through_beside_the_backlog_of_another_tenant(self) -> None:
        order = ordering()
        for n in range(10):
            order.add(Item(f"a{n}"))
        assert order.hand_through(Item("b", "b"), ANYTHING) is None  # nobody was served before it
        assert names(order, 2) == ["a0", "a1"]
        assert order.hand_through(Item("b", "b"), ANYTHING) is not None
        # It has had its turn of this round.
        assert order.hand_through(Item("b", "b"), ANYTHING) is None
        assert names(order, 1) == ["a2"]
        assert order.hand_through(Item("b", "b"), ANYTHING) is not None

    def test_nobody_overtakes_what_waits_of_its_own_tenant(self) -> None:
        order = ordering()
        for n in range(10):
            order.add(Item(f"a{n}"))
        order.add(Item("b0", "b"))
        assert names(order, 1) == ["a0"]
        assert order.hand_through(Item("a", "a"), ANYTHING) is None
        assert order.hand_through(Item("b", "b"), ANYTHING) is None

    def test_nothing_overtakes_a_task_that_some_worker_did_not_take(self) -> None:
        order = ordering()
        order.add(Item("slow", task="slow"))
        for n in range(4):
            order.add(Item(f"a{n}"))
        assert names(order, 2, Selector(excluded=frozenset({"slow"}))) == ["a0", "a1"]
        assert order.hand_through(Item("late", "b", task="slow"), ANYTHING) is None
        assert order.hand_through(Item("other", "b"), ANYTHING) is not None

    def test_nothing_overtakes_a_higher_priority(self) -> None:
        order = ordering()
        order.add(Item("high", priority=1))
        assert order.hand_through(Item("low", "b", priority=2), ANYTHING) is None
        only_low = Selector(priorities=frozenset({2}))
        assert order.hand_through(Item("low", "b", priority=2), only_low) is not None

    def test_higher_priorities_that_go_through_leave_the_lower_ones_their_share(self) -> None:
        order = ordering()
        for n in range(100):
            order.add(Item(f"low{n}", priority=3))
        served = []
        for _ in range(40):
            through = order.hand_through(Item("high", priority=0), ANYTHING)
            served.append("high" if through is not None else names(order, 1)[0][:3])
        assert served == ["high", "high", "high", "low"] * 10

    def test_however_many_newcomers_there_are_the_others_get_half(self) -> None:
        order = ordering()
        for n in range(1_000):
            order.add(Item(f"a{n}"))
        served: Counter[str] = Counter()
        for n in range(1_000):
            through = order.hand_through(Item("new", f"t{n}"), ANYTHING)
            served["new" if through is not None else names(order, 1)[0][0]] += 1
        assert served["a"] >= served["new"]
        assert served["new"] >= 400
