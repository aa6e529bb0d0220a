"""Circuit breakers around dependencies: tasks wait without losing attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from taskflow.core.retry import Retry
from taskflow.core.task import TaskStatus
from tests.integration.worker.engine import Engine, Gate, is_pending, wait_for


class Dependency:
    def __init__(self) -> None:
        self.is_up = False
        self.calls = 0

    def use(self, how: str = "") -> str:
        self.calls += 1
        if how == "wrong":
            raise ValueError("wrong argument")
        if not self.is_up:
            raise ConnectionError("refused")
        return "sent"


@pytest.fixture
def smtp() -> Dependency:
    return Dependency()


def state(engine: Engine) -> str:
    return str(engine.worker.snapshot()["breakers"]["smtp"])


def test_tasks_wait_while_the_circuit_is_open_and_lose_no_attempts(
    make_engine: Callable[..., Engine], smtp: Dependency
) -> None:
    engine = make_engine(num_workers=1, breaker_failures=2, breaker_open_seconds=0.5)
    engine.handler(smtp.use, name="send", breaker="smtp")
    engine.handler(smtp.use, name="send_other", breaker="smtp")
    clock = engine.hold_time()
    engine.worker.start()
    for _ in range(2):
        assert engine.run("send").status is TaskStatus.FAILED
    assert state(engine) == "open"
    ids = [engine.submit("send"), engine.submit("send_other")]
    assert engine.works()
    assert all(is_pending(engine, task_id) for task_id in ids)
    assert smtp.calls == 2
    smtp.is_up = True
    clock.go_on()
    # Nothing is submitted or cancelled now: the worker wakes up by itself when the circuit lets a probe pass.
    assert [engine.final(task_id).attempt for task_id in ids] == [1, 1]
    assert state(engine) == "closed"


def test_a_probe_that_fails_opens_the_circuit_again(
    make_engine: Callable[..., Engine], smtp: Dependency
) -> None:
    engine = make_engine(num_workers=4, breaker_failures=1, breaker_open_seconds=0.2)
    clock = engine.hold_time()

    @engine.handler(breaker="smtp")
    def send() -> str:
        clock.hold()  # open for 0.2 s from the moment at which this one fails
        return smtp.use()

    engine.worker.start()
    engine.run("send")
    ids = engine.submit_many("send", [()] * 5)
    clock.go_on()
    wait_for(lambda: smtp.calls == 2, "a probe")
    wait_for(lambda: state(engine) == "open", "it has failed")
    assert sum(is_pending(engine, task_id) for task_id in ids) == 4
    smtp.is_up = True
    clock.go_on()
    assert sorted(engine.final(task_id).status for task_id in ids) == ["completed"] * 4 + ["failed"]


def test_errors_that_say_nothing_about_the_dependency_do_not_count(
    make_engine: Callable[..., Engine], smtp: Dependency
) -> None:
    engine = make_engine(num_workers=1, breaker_failures=1)
    engine.handler(smtp.use, name="send", breaker="smtp")
    engine.worker.start()
    for _ in range(3):
        assert engine.run("send", "wrong").status is TaskStatus.FAILED
    assert state(engine) == "closed"


def test_a_timeout_counts(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=1, breaker_failures=1)

    def hang() -> None:
        while True:
            pass

    engine.handler(hang, breaker="smtp")
    engine.worker.start()
    engine.run("hang", timeout=0.05)
    assert state(engine) == "open"


def test_what_was_claimed_ahead_is_given_back_when_the_circuit_opens(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=1, breaker_failures=1, breaker_open_seconds=60.0)
    claimed = threading.Event()
    ran: list[int] = []

    @engine.handler(breaker="smtp")
    def send(n: int) -> None:
        ran.append(n)
        if n == 1:
            assert claimed.wait(10)
            raise ConnectionError("refused")

    engine.worker.start()
    engine.make_known_as_short("send", 0)
    known = len(ran)
    ids = engine.submit_many("send", [(n,) for n in range(1, 11)])
    # How many depends on how long the first three took.
    wait_for(lambda: engine.worker.snapshot()["claimed_ahead"] > 0, "some are claimed ahead")
    claimed.set()
    assert engine.final(ids[0]).status is TaskStatus.FAILED
    wait_for(lambda: all(is_pending(engine, task_id) for task_id in ids[1:]), "they are given back")
    assert {engine.get(task_id).attempt for task_id in ids[1:]} == {0}
    assert ran == [0] * known + [1]


@pytest.mark.parametrize("name", ["status_code", "response", "counts"])
def test_an_error_that_cannot_be_looked_at_gives_back_what_its_attempt_held(
    make_engine: Callable[..., Engine], name: str
) -> None:
    engine = make_engine(
        num_workers=1, breaker_failures=1, breaker_open_seconds=0.05, worker_resources="gpu=1"
    )

    def unreadable(_: Exception) -> None:
        raise RuntimeError("hands off")

    base = Retry if name == "counts" else Exception
    prickly = type("Prickly", (base,), {name: property(unreadable, lambda *_: None)})
    errors = [ConnectionError("opens the circuit"), prickly("ours is the probe")]

    @engine.handler(breaker="smtp", resources={"gpu": 1.0})
    def send() -> str:
        if errors:
            raise errors.pop(0)
        return "sent"

    engine.worker.start()
    assert engine.run("send").status is TaskStatus.FAILED
    failed = engine.run("send")
    assert (failed.status, failed.crash_count) == (TaskStatus.FAILED, 0)
    assert engine.worker.snapshot()["resources"]["gpu"]["used"] == 0
    assert engine.run("send").result == "sent"
