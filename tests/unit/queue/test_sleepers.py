"""Who is woken for what. Without threads: what happens between being roused and getting up is all in one stack."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from threading import Condition
from typing import NamedTuple

from taskflow.adapters.queue.hidden import Waiting
from taskflow.adapters.queue.sleepers import Sleeper, Sleepers
from taskflow.ports.queue import ANYTHING, Selector

EMAIL = Selector(tasks=frozenset({"email"}))
REPORT = Selector(tasks=frozenset({"report"}))


def ready(*tasks: str, priority: int = 2) -> list[Waiting]:
    return [Waiting(str(n), "default", task, priority, 0) for n, task in enumerate(tasks)]


class Bed(Condition):
    """Instead of waiting, does what happens while somebody waits."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile
        self.seconds: float | None = None
        self.notified = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds = timeout
        self.meanwhile()
        return bool(self.notified)

    def notify(self, n: int = 1) -> None:
        self.notified += 1


class Asleep(NamedTuple):
    selector: Selector = ANYTHING
    max_messages: int = 1
    alarm_at: float = inf


def while_asleep(
    sleepers: Sleepers, who: list[Asleep], then: Callable[[], object]
) -> tuple[list[Bed], list[float]]:
    """Lay them down one after the other (now is 0, each for 100 s), and run ``then`` while all of them sleep."""
    beds: list[Bed] = []
    slept: dict[int, float] = {}

    def lie_down(index: int) -> None:
        if index == len(who):
            then()
            return
        bed = Bed(lambda: lie_down(index + 1))
        beds.append(bed)
        sleeper = Sleeper(bed, who[index].selector, who[index].max_messages)
        slept[index] = sleepers.sleep(sleeper, 100, now=0, alarm_at=who[index].alarm_at)

    lie_down(0)
    assert len(sleepers) == 0
    return beds, [slept[index] for index in range(len(who))]


def roused(who: list[Asleep], *announcements: list[Waiting]) -> list[int]:
    """How often each was roused by these announcements, one after the other."""
    sleepers = Sleepers()

    def announce() -> None:
        for announcement in announcements:
            sleepers.announce(announcement)

    beds, _ = while_asleep(sleepers, who, announce)
    return [bed.notified for bed in beds]


def test_one_message_rouses_one_sleeper() -> None:
    assert roused([Asleep()] * 4, ready("email")) == [1, 0, 0, 0]


def test_as_many_are_roused_as_it_takes_to_fetch_the_messages() -> None:
    assert roused([Asleep(max_messages=4)] * 4, ready(*["email"] * 10)) == [1, 1, 1, 0]


def test_somebody_on_the_way_to_other_messages_is_not_counted_on() -> None:
    assert roused([Asleep()] * 3, ready("email"), ready("email")) == [1, 1, 0]


def test_only_those_are_roused_whom_the_message_concerns() -> None:
    others = Asleep(Selector(priorities=frozenset({0})))
    assert roused([Asleep(REPORT), others, Asleep(EMAIL)], ready("email")) == [0, 0, 1]


def test_different_selectors_do_not_rely_on_each_other() -> None:
    """The one that takes anything may be left with the other message, and then only the picky one is left for its."""
    assert roused([Asleep(ANYTHING), Asleep(EMAIL), Asleep(EMAIL)], ready("email")) == [1, 1, 0]


def test_who_keeps_the_alarm_is_roused_last() -> None:
    assert roused([Asleep(alarm_at=5), Asleep()], ready("email")) == [0, 1]
    assert roused([Asleep(alarm_at=5), Asleep()], ready("email", "email")) == [1, 1]


def test_one_of_the_sleepers_keeps_the_alarm_and_the_others_sleep_on() -> None:
    beds, _ = while_asleep(Sleepers(), [Asleep(alarm_at=5)] * 3, lambda: None)
    assert [bed.seconds for bed in beds] == [5, 100, 100]


def test_an_earlier_alarm_makes_somebody_set_it() -> None:
    sleepers = Sleepers()
    who = [Asleep(alarm_at=5), Asleep(alarm_at=5)]
    beds, _ = while_asleep(sleepers, who, lambda: sleepers.watch(3))
    assert sum(bed.notified for bed in beds) == 1


def test_a_later_alarm_or_none_rouses_nobody() -> None:
    sleepers = Sleepers()
    beds, _ = while_asleep(sleepers, [Asleep(alarm_at=5)] * 2, lambda: sleepers.watch(7))
    assert [bed.notified for bed in beds] == [0, 0]
    beds, _ = while_asleep(sleepers, [Asleep()] * 2, lambda: sleepers.watch(inf))
    assert [bed.notified for bed in beds] == [0, 0]


def test_when_nobody_keeps_the_alarm_one_who_sleeps_is_made_to() -> None:
    sleepers = Sleepers()
    beds, _ = while_asleep(sleepers, [Asleep(), Asleep()], lambda: sleepers.watch(7))
    assert sum(bed.notified for bed in beds) == 1


def test_when_the_keeper_is_up_the_alarm_is_nobodys() -> None:
    sleepers = Sleepers()
    while_asleep(sleepers, [Asleep(alarm_at=5)], lambda: None)
    beds, _ = while_asleep(sleepers, [Asleep()], lambda: sleepers.watch(7))
    assert [bed.notified for bed in beds] == [1]


def test_sleeping_tells_how_long_it_was_in_vain() -> None:
    sleepers = Sleepers()
    who = [Asleep(EMAIL), Asleep(REPORT), Asleep(REPORT, alarm_at=5)]
    _, slept = while_asleep(sleepers, who, partial(sleepers.announce, ready("email")))
    assert slept == [0.0, 100, 5]


def test_everybody_can_be_roused() -> None:
    sleepers = Sleepers()
    beds, slept = while_asleep(sleepers, [Asleep(EMAIL), Asleep(REPORT)], sleepers.rouse_all)
    assert [bed.notified for bed in beds] == [1, 1]
    assert slept == [0.0, 0.0]
