"""Handlers by name."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taskflow.core import registry as module
from taskflow.core.context import TaskContext
from taskflow.core.errors import (
    InvalidRequestError,
    NoActiveAppError,
    RegistrationError,
    UnknownTaskError,
)
from taskflow.core.registry import Registry, TaskOptions, register_task_handler, task
from taskflow.core.retry import RetryPolicy
from taskflow.core.submission import Submission
from taskflow.core.task import TaskPriority


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Where the decorators of this test put handlers."""
    fresh = Registry()
    monkeypatch.setattr(module, "registry", fresh)
    return fresh


class App:
    """Where `submit` goes."""

    def __init__(self) -> None:
        self.got: list[Submission] = []

    def submit_task(self, submission: Submission, connection: Any = None) -> Any:
        assert connection is None
        self.got.append(submission)
        return len(self.got)


def add(a: int, b: int = 1) -> int:
    return a + b


class TestDecorators:
    @pytest.mark.parametrize("decorate", [task, task(), task(priority="low")])
    def test_a_decorated_function_is_registered_under_its_name_and_called_as_before(
        self, registry: Registry, decorate: Any
    ) -> None:
        handler: Any = decorate(add)
        assert registry.get("add") is handler
        assert (handler(1), handler(1, b=2)) == (2, 3)
        assert vars(handler)["__wrapped__"] is add
        assert repr(handler).startswith("<task 'add' (")

    def test_a_name_may_be_given(self, registry: Registry) -> None:
        task("sums.add")(add)
        register_task_handler("another")(add)
        assert [handler.name for handler in registry.handlers()] == ["another", "sums.add"]

    def test_a_handler_may_be_registered_again_under_another_name(self, registry: Registry) -> None:
        app = App()
        registry.bind(app)
        first = task(add)
        second = task("plus")(first)
        assert (first.name, second.name) == ("add", "plus")
        assert second(1, 2) == 3
        second.submit(1)
        assert app.got[0].task == "plus"

    def test_attributes_of_the_function_do_not_get_in_the_way(self, registry: Registry) -> None:
        def work() -> None: ...

        work.name = "other"  # type: ignore[attr-defined]
        work.registry = None  # type: ignore[attr-defined]
        work.colour = "red"  # type: ignore[attr-defined]
        handler: Any = task(work)
        assert (handler.name, handler.registry, handler.colour) == ("work", registry, "red")

    def test_options_are_kept_as_declared(self, registry: Registry) -> None:
        policy = RetryPolicy(base_seconds=2)
        handler = task(
            priority="critical",
            max_retries=0,
            timeout=2,
            retry_policy=policy,
            retry_for=OSError,
            never_retry_for=[KeyError, ValueError],
            executor="process",
            resources={"gpu": 1},
            expires_in=60,
            breaker="smtp",
        )(add)
        assert handler.declared == TaskOptions(
            priority=TaskPriority.CRITICAL,
            max_retries=0,
            timeout_seconds=2,
            retry_policy=policy,
            retry_for=(OSError,),
            never_retry_for=(KeyError, ValueError),
            executor="process",
            resources={"gpu": 1},
            expires_in_seconds=60,
            breaker="smtp",
        )
        assert task(add).declared == TaskOptions()

    @pytest.mark.parametrize(
        "options",
        [
            {"priority": "urgent"},
            {"max_retries": -1},
            {"max_retries": 1.5},
            {"timeout": 0},
            {"timeout": "long"},
            {"expires_in": -1},
            {"executor": "fiber"},
            {"executor": "asyncio"},
            {"retry_for": "OSError"},
            {"retry_for": [int]},
            {"never_retry_for": [OSError()]},
            {"resources": {"gpu": 0}},
            {"resources": {"gpu": True}},
            {"resources": {"gpu": math.nan}},
            {"resources": {"gpu": math.inf}},
            {"resources": {1: 1}},
            {"resources": ["gpu"]},
            {"retry_policy": "often"},
            {"retry_for": 5},
            {"breaker": ""},
            {"breaker": 5},
            {"name": ""},
            {"name": "a b"},
            {"name": "-a"},
            {"name": "a" * 201},
            {"name": "ä"},
            {"name": 5},
        ],
        ids=repr,
    )
    def test_impossible_options_are_refused_and_nothing_is_registered(
        self, registry: Registry, options: dict[str, Any]
    ) -> None:
        with pytest.raises(RegistrationError):
            task(**options)(add)
        assert registry.handlers() == []

    def test_coroutines_run_on_the_event_loop_by_themselves(self, registry: Registry) -> None:
        async def fetch() -> None: ...

        assert task(fetch).declared.executor == "asyncio"
        assert task("own", executor="process")(fetch).declared.executor == "process"

    def test_what_cannot_be_a_task_is_refused(self, registry: Registry) -> None:
        def numbers() -> Iterator[int]:
            yield 1

        class Thing:
            def __call__(self) -> None: ...

        for no_function in (numbers, Thing, Thing(), functools.partial(add, 1)):
            with pytest.raises(RegistrationError):
                task("x")(no_function)

    def test_functions_in_the_wrapping_of_other_decorators_are_fine(
        self, registry: Registry
    ) -> None:
        handler: Any = task(functools.lru_cache(add))
        assert handler(1, 2) == 3
        assert handler.arguments_json((1,), {"b": 2}) == '[[1],{"b":2}]'


class TestNames:
    def test_a_taken_name_is_refused_for_another_function(self, registry: Registry) -> None:
        task(add)
        with pytest.raises(RegistrationError, match=r"'add' is taken by <task 'add'"):
            task("add")(print_)

    def test_the_same_function_may_come_again_as_when_its_module_is_reloaded(
        self, registry: Registry
    ) -> None:
        task(add)
        again = task(timeout=5)(add)
        assert registry.get("add") is again

    def test_an_unknown_name_gets_the_close_ones(self, registry: Registry) -> None:
        task("send_email")(add)
        with pytest.raises(UnknownTaskError, match="did you mean 'send_email'") as raised:
            registry.get("send_emial")
        assert raised.value.fields[0]["field"] == "task"
        assert registry.find("send_emial") is None

    def test_threads_may_register_at_once(self, registry: Registry) -> None:
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            for n in range(50):
                registry.add(add, name=f"t{number}-{n}", declared=TaskOptions())

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(registry.handlers()) == 400


def print_() -> None: ...


class TestParents:
    def test_a_child_knows_what_its_parent_knows_and_the_parent_wins(self) -> None:
        parent = Registry()
        child = Registry(parent)
        own = child.add(add, name="email", declared=TaskOptions())
        assert child.get("email") is own
        users = parent.add(print_, name="email", declared=TaskOptions())
        parent.add(add, declared=TaskOptions())
        assert child.get("email") is users
        assert [handler.name for handler in child.handlers()] == ["add", "email"]
        assert child.handlers()[1] is users

    def test_handlers_of_the_parent_submit_to_the_app_of_the_child(self) -> None:
        parent, app = Registry(), App()
        child = Registry(parent)
        handler = parent.add(add, declared=TaskOptions())
        child.bind(app)
        handler.submit(1)
        child.unbind(app)
        with pytest.raises(NoActiveAppError):
            handler.submit(1)
        assert len(app.got) == 1


class TestSubmitting:
    def test_without_an_app_there_is_nowhere_to_submit_to(self, registry: Registry) -> None:
        with pytest.raises(NoActiveAppError, match="start an app first"):
            task(add).submit(1)

    def test_the_app_started_last_gets_the_task(self, registry: Registry) -> None:
        handler = task(add)
        first, second = App(), App()
        registry.bind(first)
        registry.bind(second)
        handler.submit(1, b=2)
        registry.unbind(second)
        handler.delay(3)
        registry.unbind(App())
        assert [(s.task, tuple(s.args), dict(s.kwargs)) for s in second.got] == [
            ("add", (1,), {"b": 2})
        ]
        assert [tuple(s.args) for s in first.got] == [(3,)]

    def test_options_go_with_the_tasks_submitted_by_them(self, registry: Registry) -> None:
        handler, app = task(add), App()
        registry.bind(app)
        urgent = handler.options(priority="high", tags=["a"])
        urgent.submit(1)
        urgent.delay(2)
        handler.submit(3)
        assert [s.options.priority for s in app.got] == [TaskPriority.HIGH, TaskPriority.HIGH, None]
        with pytest.raises(InvalidRequestError, match="unknown option 'colour'"):
            handler.options(colour="red")


class TestPayloads:
    """A lone parameter called `payload` takes whatever is submitted."""

    @pytest.mark.parametrize(
        ("args", "kwargs", "stored"),
        [
            ((), {"a": 1, "b": 2}, '[[],{"payload":{"a":1,"b":2}}]'),
            ((), {"payload": {"a": 1}}, '[[],{"payload":{"a":1}}]'),
            ((), {}, '[[],{"payload":{}}]'),
            (({"a": 1},), {}, '[[{"a":1}],{}]'),
            ((), {"payload": 1, "a": 2}, '[[],{"payload":{"payload":1,"a":2}}]'),
        ],
    )
    def test_the_payload_is_all_of_it(
        self, registry: Registry, args: Any, kwargs: Any, stored: str
    ) -> None:
        def work(payload: Any) -> None: ...

        assert register_task_handler("w")(work).arguments_json(args, kwargs) == stored

    def test_the_context_does_not_count(self, registry: Registry) -> None:
        def work(ctx: TaskContext, payload: dict[str, Any]) -> None: ...

        assert task(work).takes_payload

    def test_other_parameters_are_taken_by_name(self, registry: Registry) -> None:
        handler = task(add)
        assert not handler.takes_payload
        assert handler.arguments_json((), {"a": 1}) == '[[],{"a":1}]'
