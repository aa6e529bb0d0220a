"""Group commit: many callers, few transactions, and every caller gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from taskflow.core.errors import StoreUnavailableError
from taskflow.services.group_commit import GroupCommit


class Ledger:
    """What was committed, batch by batch. While ``gate`` is closed a commit waits; ``entered`` tells that one does."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.busy = False
        self.error: BaseException | None = None

    def commit(self, items: Sequence[int]) -> list[int]:
        assert not self.busy, "two threads commit at once"
        self.busy = True
        try:
            self.entered.set()
            assert self.gate.wait(10)
            if self.error is not None:
                raise self.error
            self.batches.append(list(items))
            return [item * 10 for item in items]
        finally:
            self.busy = False


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def group(ledger: Ledger) -> Iterator[GroupCommit[int, int]]:
    group: GroupCommit[int, int] = GroupCommit(ledger.commit, name="test")
    yield group
    ledger.gate.set()
    group.close()


def start(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to that")


def test_a_lone_caller_commits_at_once(group: GroupCommit[int, int], ledger: Ledger) -> None:
    assert group.run([1, 2]) == [10, 20]
    assert ledger.batches == [[1, 2]]


def test_what_gathers_during_a_commit_is_committed_together(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.gate.clear()
    results: dict[int, list[int]] = {}

    def submit(n: int) -> None:
        results[n] = group.run([n, -n])

    threads = [start(lambda: submit(1))]
    assert ledger.entered.wait(10)
    threads += [start(lambda n=n: submit(n)) for n in range(2, 10)]  # type: ignore[misc]
    until(lambda: len(group._gathered) == 8)
    ledger.gate.set()
    for thread in threads:
        thread.join(10)
    assert [len(batch) for batch in ledger.batches] == [2, 16]
    assert results == {n: [n * 10, -n * 10] for n in range(1, 10)}


async def test_coroutines_of_one_loop_share_a_commit(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.gate.clear()
    first = asyncio.create_task(group.run_async([1]))
    await asyncio.to_thread(ledger.entered.wait, 10)
    others = [asyncio.create_task(group.run_async([n])) for n in range(2, 50)]
    await asyncio.sleep(0)
    ledger.gate.set()
    assert await asyncio.gather(first, *others) == [[n * 10] for n in range(1, 50)]
    assert [len(batch) for batch in ledger.batches] == [1, 48]


def test_threads_and_several_event_loops_lose_nothing(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    barrier = threading.Barrier(8)
    answers: list[tuple[int, list[int]]] = []

    def from_a_thread(base: int) -> None:
        barrier.wait()
        for n in range(base, base + 200):
            answer = group.run([n])
            answers.append((n, answer))

    def from_a_loop(base: int) -> None:
        async def one(n: int) -> None:
            answers.append((n, await group.run_async([n])))

        async def everything() -> None:
            for first in range(base, base + 200, 20):
                await asyncio.gather(*(one(n) for n in range(first, first + 20)))

        barrier.wait()
        asyncio.run(everything())

    threads = [start(lambda b=b: from_a_thread(b * 1_000)) for b in range(4)]  # type: ignore[misc]
    threads += [start(lambda b=b: from_a_loop(b * 1_000)) for b in range(4, 8)]  # type: ignore[misc]
    for thread in threads:
        thread.join(30)
    assert len(answers) == 8 * 200
    assert all(result == [n * 10] for n, result in answers)
    assert sorted(n for batch in ledger.batches for n in batch) == sorted(n for n, _ in answers)
    assert len(ledger.batches) < 8 * 200


def test_large_requests_are_split_over_commits_but_never_themselves(ledger: Ledger) -> None:
    group: GroupCommit[int, int] = GroupCommit(ledger.commit, max_batch=10, name="test")
    ledger.gate.clear()
    threads = [start(lambda: group.run([0]))]
    assert ledger.entered.wait(10)
    for size in (6, 4, 25, 1):
        threads.append(start(lambda size=size: group.run([1] * size)))  # type: ignore[misc]
        until(lambda: len(group._gathered) == len(threads) - 1)
    ledger.gate.set()
    for thread in threads:
        thread.join(10)
    assert [len(batch) for batch in ledger.batches] == [1, 10, 25, 1]
    group.close()


def test_everybody_in_a_failed_batch_hears_of_it_and_the_next_batch_goes_on(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.gate.clear()
    ledger.error = StoreUnavailableError("locked")
    errors: list[Exception] = []

    def submit() -> None:
        try:
            group.run([1])
        except StoreUnavailableError as exc:
            errors.append(exc)

    threads = [start(submit) for _ in range(4)]
    until(lambda: len(group._gathered) == 3)
    ledger.gate.set()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 4
    ledger.error = None
    assert group.run([2]) == [20]


async def test_an_error_reaches_coroutines_and_the_pump_lives_on(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.error = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        await group.run_async([1])
    ledger.error = None
    assert await group.run_async([2]) == [20]


def test_a_leader_that_is_interrupted_does_not_interrupt_the_others(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    """Ctrl-C, or the timeout of a handler that submits, hits the thread that commits for all."""
    ledger.gate.clear()
    ledger.error = KeyboardInterrupt()
    raised: list[BaseException] = []

    def submit() -> None:
        try:
            group.run([1])
        except BaseException as exc:
            raised.append(exc)

    # The first one's batch fails alone; one of the other two then leads a batch of both.
    first = start(submit)
    assert ledger.entered.wait(10)
    others = [start(submit), start(submit)]
    until(lambda: len(group._gathered) == 2)
    ledger.gate.set()
    for thread in [first, *others]:
        thread.join(10)
    kinds = sorted(type(exc).__name__ for exc in raised)
    assert kinds == ["CommitUnknownError", "KeyboardInterrupt", "KeyboardInterrupt"]
    ledger.error = None
    assert group.run([2]) == [20]


async def test_a_cancelled_caller_harms_nobody(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.gate.clear()
    gone, stays = (
        asyncio.create_task(group.run_async([1])),
        asyncio.create_task(group.run_async([2])),
    )
    await asyncio.to_thread(ledger.entered.wait, 10)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    ledger.gate.set()
    assert await stays == [20]
    assert sorted(n for batch in ledger.batches for n in batch) == [1, 2]


def test_a_loop_that_is_closed_before_its_answer_harms_nobody(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.gate.clear()

    async def ask_and_go() -> None:
        asyncio.get_running_loop().create_task(group.run_async([1]))
        await asyncio.to_thread(ledger.entered.wait, 10)

    asyncio.run(ask_and_go())
    ledger.gate.set()
    assert group.run([2]) == [20]


def test_closing_commits_what_has_gathered_and_refuses_what_comes_later(
    group: GroupCommit[int, int], ledger: Ledger
) -> None:
    ledger.gate.clear()
    results: list[list[int]] = []
    threads = [start(lambda: results.append(group.run([1])))]
    assert ledger.entered.wait(10)
    threads.append(start(lambda: results.append(group.run([2]))))
    until(lambda: len(group._gathered) == 1)
    closing = start(group.close)
    until(lambda: group._closed)
    with pytest.raises(StoreUnavailableError, match="stopping"):
        group.run([3])
    ledger.gate.set()
    for thread in [*threads, closing]:
        thread.join(10)
    assert sorted(results) == [[10], [20]]


async def test_after_closing_a_coroutine_is_refused_and_does_not_wait_for_ever(
    group: GroupCommit[int, int],
) -> None:
    group.close()
    with pytest.raises(StoreUnavailableError, match="stopping"):
        await group.run_async([1])


class SlowClock:
    """On which every commit takes a minute."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 60.0
        return self.seconds


def patient(ledger: Ledger, seconds: float) -> GroupCommit[int, int]:
    return GroupCommit(ledger.commit, name="test", patience_seconds=seconds, clock=SlowClock())


def test_those_who_were_answered_last_are_waited_for(ledger: Ledger) -> None:
    group = patient(ledger, 30.0)
    ledger.gate.clear()
    first = start(lambda: (group.run([1]), group.run([3])))
    ledger.entered.wait(10)
    second = start(lambda: group.run([2]))
    until(lambda: len(group._gathered) == 1)
    ledger.gate.set()
    first.join(10)
    second.join(10)
    # Not [1], [2], [3]: whoever submitted 2 was called to commit, and waited for the one who had just been answered.
    assert [sorted(batch) for batch in ledger.batches] == [[1], [2, 3]]
    group.close()


async def test_callers_on_an_event_loop_are_waited_for_as_well(ledger: Ledger) -> None:
    group = patient(ledger, 30.0)

    async def call(*numbers: int) -> None:
        for n in numbers:
            await group.run_async([n])

    ledger.gate.clear()
    first = asyncio.create_task(call(1, 11, 111))
    assert await asyncio.to_thread(ledger.entered.wait, 10)
    others = [asyncio.create_task(call(n, 10 * n)) for n in (2, 3)]
    while len(group._gathered) < 2:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    ledger.gate.set()
    await asyncio.gather(first, *others)
    assert [sorted(batch) for batch in ledger.batches] == [[1], [2, 3, 11], [20, 30, 111]]
    await asyncio.to_thread(group.close)


def test_those_who_stay_away_are_waited_for_once_and_then_not_for_a_while(ledger: Ledger) -> None:
    group = patient(ledger, 0.01)
    ledger.gate.clear()
    threads = [start(lambda n=n: group.run([n])) for n in (1, 2)]  # type: ignore[misc]
    until(lambda: len(group._gathered) == 1)
    ledger.gate.set()
    for thread in threads:
        thread.join(10)
    assert group.run([3]) == [30]
    assert group._impatient > 0, "the wait for a second caller was in vain"
    assert group.run([4]) == [40]
    group.close()
