"""Eager mode: the real engine, driven by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime, timedelta

import pytest

from taskflow.core.context import TaskContext
from taskflow.core.errors import InvalidArgumentsError, NoActiveAppError, TaskFailedError
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.retry import Retry, RetryPolicy
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import TaskStatus
from taskflow.handle import Progress
from taskflow.testing import FakeClock, eager

pytest_plugins = ["pytester"]


def registry_of(*functions: object, **options: object) -> Registry:
    registry = Registry()
    for function in functions:
        registry.add(function, declared=TaskOptions(**options))  # type: ignore[arg-type]
    return registry


def test_a_task_has_run_when_submit_returns() -> None:
    ran_in: list[threading.Thread] = []

    def where() -> str:
        ran_in.append(threading.current_thread())
        return "here"

    registry = registry_of(where)
    threads = threading.active_count()
    with eager(handlers=registry) as app:
        handle = registry.get("where").submit()
        assert ran_in == [threading.current_thread()]
        assert handle.status() is TaskStatus.COMPLETED
        assert app.submit("where").result() == "here"
        assert threading.active_count() <= threads + 1  # the store's group commit

    with pytest.raises(NoActiveAppError):
        registry.get("where").submit()


def test_arguments_and_results_go_through_json() -> None:
    def shift(moment: datetime, pair: tuple[int, int]) -> list[object]:
        assert isinstance(moment, datetime)
        return [moment.isoformat(), pair]

    registry = registry_of(shift)
    with eager(handlers=registry) as app:
        assert app.submit("shift", "2030-01-01T00:00:00Z", [1, 2]).result() == [
            "2030-01-01T00:00:00+00:00",
            [1, 2],
        ]
        with pytest.raises(InvalidArgumentsError, match="moment"):
            app.submit("shift", "yesterday", [1, 2])


def test_retries_are_decided_as_ever_and_cost_no_time() -> None:
    attempts: list[int] = []

    def flaky(ctx: TaskContext) -> int:
        attempts.append(ctx.attempt)
        if len(attempts) < 4:
            raise ConnectionError("refused")
        return len(attempts)

    registry = registry_of(
        flaky, max_retries=3, retry_policy=RetryPolicy(base_seconds=600, jitter=False)
    )
    began = time.monotonic()
    with eager(handlers=registry) as app:
        before = app.clock.now_us()
        task = app.submit("flaky").task()
        waited_seconds = (app.clock.now_us() - before) / 1e6

    assert (task.result, task.attempt, attempts) == (4, 4, [1, 2, 3, 4])
    assert waited_seconds == pytest.approx(600 + 900 + 900, abs=5)  # 900 s is the cap
    assert time.monotonic() - began < 10


def test_a_task_that_fails_for_good_is_a_dead_letter() -> None:
    def wrong() -> None:
        raise ValueError("never")

    with eager(handlers=registry_of(wrong)) as app:
        handle = app.submit("wrong")
        assert handle.status() is TaskStatus.FAILED
        with pytest.raises(TaskFailedError, match="never"):
            handle.result()
        [group] = app.dead_letters.groups()
        assert (group.task, group.count) == ("wrong", 1)


def test_dead_letters_and_final_tasks_run_anew_at_once() -> None:
    healthy: list[bool] = []

    def service() -> str:
        if not healthy:
            raise ValueError("down")
        return "up"

    with eager(handlers=registry_of(service)) as app:
        first, second = app.submit("service"), app.submit("service")
        healthy.append(True)
        assert app.dead_letters.redrive([first.id]) == 1
        assert first.result() == "up"
        assert second.retry().result == "up"


def test_delays_move_the_clock() -> None:
    clock = FakeClock()

    def when(ctx: TaskContext) -> int:
        return clock.now_us()

    with eager(handlers=registry_of(when), clock=clock) as app:
        before = clock.now_us()
        moment = app.options(delay=timedelta(days=60)).submit("when").result()

    assert moment - before == pytest.approx(60 * 86_400e6, abs=1e6)


def test_handlers_may_submit_and_depend() -> None:
    def inner(n: int) -> int:
        return n * 2

    def outer(n: int) -> str:
        handle = registry.get("inner").submit(n)
        assert handle.result() == n * 2
        return handle.id

    registry = registry_of(inner, outer)
    with eager(handlers=registry) as app:
        outer_handle = app.submit("outer", 4)
        assert app.get(outer_handle.result()).result == 8
        assert app.options(depends_on=[outer_handle]).submit("inner", 1).result() == 2


def test_progress_and_history_are_written() -> None:
    def steps(ctx: TaskContext) -> None:
        ctx.progress(30, "a third")
        ctx.log.info("steps.looked")
        assert not ctx.cancelled
        assert ctx.seconds_left > 0

    with eager(handlers=registry_of(steps)) as app:
        handle = app.submit("steps")
        assert handle.progress() == Progress(30, "a third")
        assert "task.progress" in [event.type.value for event in handle.history()]


async def test_coroutines_run_inside_and_outside_of_a_loop() -> None:
    async def greet(name: str) -> str:
        await asyncio.sleep(0)
        return f"Hello {name}"

    registry = registry_of(greet)
    with eager(handlers=registry) as app:
        assert await app.submit("greet", "Ann") == "Hello Ann"
        outside = await asyncio.to_thread(lambda: app.submit("greet", "Bob").result())
    assert outside == "Hello Bob"


@pytest.mark.parametrize("leave", [SystemExit(3), GeneratorExit()])
def test_a_handler_that_tries_to_leave_only_fails(leave: BaseException) -> None:
    def leaver() -> None:
        raise leave

    with eager(handlers=registry_of(leaver)) as app:
        task = app.submit("leaver").task()
        assert task.error is not None
        assert (task.status, task.error.type) == (TaskStatus.FAILED, "HandlerExitedError")


def test_ctrl_c_reaches_the_test() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with eager(handlers=registry_of(interrupted)) as app, pytest.raises(KeyboardInterrupt):
        app.submit("interrupted")


def test_a_task_that_would_wait_for_ever_ends() -> None:
    def waits() -> None:
        raise Retry("not yet", delay=1, counts=False)

    with eager(handlers=registry_of(waits), max_uncounted_attempts=20) as app:
        task = app.submit("waits").task()
        assert (task.status, task.attempt) == (TaskStatus.FAILED, 20)


def test_many_run_by_priority() -> None:
    order: list[str] = []
    registry = Registry()
    registry.add(order.append, name="note", declared=TaskOptions())

    with eager(handlers=registry) as app:
        app.submit_many(
            Submission("note", (priority,), {}, SubmitOptions.of(priority=priority))
            for priority in ("low", "critical", "high")
        )

    assert order == ["critical", "high", "low"]


def test_the_pytest_fixtures_serve_a_users_tests(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["taskflow.testing.plugin"]')
    pytester.makepyfile(
        """
        import threading
        from taskflow import task

        @task
        def thread_name():
            return threading.current_thread().name

        def test_eager(taskflow_eager):
            assert thread_name.submit().result() == threading.current_thread().name

        def test_with_workers(taskflow_app, tmp_path):
            assert thread_name.submit().result(timeout=20) != threading.current_thread().name
            assert taskflow_app.settings.home.is_relative_to(tmp_path)

        def test_every_test_starts_empty(taskflow_app):
            assert taskflow_app.list().items == []
        """
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)
