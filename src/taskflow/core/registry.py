"""Handlers by name, and the decorators that put them there. The only module-level state of TaskFlow."""

from __future__ import annotations

import inspect
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, cast, overload

from taskflow.core.arguments import did_you_mean
from taskflow.core.context import TaskContext
from taskflow.core.errors import (
    InvalidRequestError,
    NoActiveAppError,
    RegistrationError,
    UnknownTaskError,
)
from taskflow.core.handler import Decorator, ExecutorKind, Handler, P, R, TaskOptions
from taskflow.core.retry import RetryPolicy
from taskflow.core.submission import SubmitOptions, Submitter
from taskflow.core.task import TaskPriority

if TYPE_CHECKING:
    from taskflow.core.handler import ContextHandler

__all__ = [
    "ExecutorKind",
    "Handler",
    "Registry",
    "TaskOptions",
    "register_task_handler",
    "registry",
    "task",
]
TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}")


class Registry:
    """Handlers by name. Thread safe. ``submitter`` is the app that `handler.submit()` goes to.

    With a ``parent`` it adds to what the parent knows, now or later, and the parent's handler wins where both have a
    name. Every app puts the built-in handlers into such a registry of its own: they differ between two apps of one
    process (another home, another mail server), and a user's own `email` replaces the built-in one.
    """

    def __init__(self, parent: Registry | None = None) -> None:
        self._parent = parent
        self._handlers: dict[str, Handler[..., Any]] = {}
        self._lock = threading.Lock()
        self._submitters: list[Submitter] = []

    def add(
        self, function: Callable[P, R], *, name: str | None = None, declared: TaskOptions
    ) -> Handler[P, R]:
        """Raises RegistrationError when the name is taken by another function or the options contradict it."""
        if isinstance(function, Handler):
            function = cast("Callable[P, R]", function.function)  # known by several names
        if isinstance(function, type) or not hasattr(function, "__qualname__"):
            raise RegistrationError(f"{function!r} is not a function; wrap it in one")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise RegistrationError(f"{function.__qualname__} is a generator; a task returns once")
        task_name = name if name is not None else function.__name__
        if not isinstance(task_name, str) or TASK_NAME.fullmatch(task_name) is None:
            raise RegistrationError(
                f"task name {task_name!r}: use letters, digits and _ . : / -, at most 200"
            )
        is_coroutine = inspect.iscoroutinefunction(function)
        if is_coroutine and declared.executor == "thread":
            declared = replace(declared, executor="asyncio")
        elif declared.executor == "asyncio" and not is_coroutine:
            raise RegistrationError(
                f"{task_name}: executor='asyncio' needs an `async def` function"
            )
        handler = Handler(task_name, function, declared, self)
        with self._lock:
            known = self._handlers.get(task_name)
            if known is not None and not _same_function(known.function, function):
                raise RegistrationError(f"task name {task_name!r} is taken by {known!r}")
            self._handlers[task_name] = handler
        return handler

    def get(self, name: str) -> Handler[..., Any]:
        """Raises UnknownTaskError with the names that come close."""
        handler = self.find(name)
        if handler is None:
            hint = did_you_mean(name, [known.name for known in self.handlers()])
            raise UnknownTaskError(
                f"no task is registered as {name!r}{hint}",
                fields=[{"field": "task", "message": f"is not known{hint}"}],
            )
        return handler

    def find(self, name: str) -> Handler[..., Any] | None:
        if self._parent is not None and (handler := self._parent.find(name)) is not None:
            return handler
        return self._handlers.get(name)

    def handlers(self) -> list[Handler[..., Any]]:
        """All of them, the parent's too, by name."""
        with self._lock:
            known = dict(self._handlers)
        if self._parent is not None:
            known.update((handler.name, handler) for handler in self._parent.handlers())
        return [known[name] for name in sorted(known)]

    @property
    def submitter(self) -> Submitter:
        if not self._submitters:
            raise NoActiveAppError(
                "start an app first: `with TaskFlow() as app:` (or submit through a `Client`)"
            )
        return self._submitters[-1]

    @property
    def submitters(self) -> Sequence[Submitter]:
        """All that are bound, the one started last at the end."""
        return tuple(self._submitters)

    def bind(self, submitter: Submitter) -> None:
        """`handler.submit()` goes to ``submitter`` from now on, until it is unbound; the parent's handlers' too."""
        with self._lock:
            self._submitters = [*self._submitters, submitter]
        if self._parent is not None:
            self._parent.bind(submitter)

    def unbind(self, submitter: Submitter) -> None:
        with self._lock:
            self._submitters = [bound for bound in self._submitters if bound is not submitter]
        if self._parent is not None:
            self._parent.unbind(submitter)


registry = Registry()


@overload
def task(function: Callable[Concatenate[TaskContext, P], R], /) -> ContextHandler[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Handler[P, R]: ...
@overload
def task(
    name: str | None = None,
    *,
    priority: TaskPriority | int | str = ...,
    max_retries: int | None = ...,
    timeout: float | None = ...,
    retry_policy: RetryPolicy | None = ...,
    retry_for: type[BaseException] | Sequence[type[BaseException]] = ...,
    never_retry_for: type[BaseException] | Sequence[type[BaseException]] = ...,
    executor: ExecutorKind = ...,
    resources: Mapping[str, float] | None = ...,
    expires_in: float | None = ...,
    breaker: str | None = ...,
) -> Decorator: ...
def task(
    name: str | Callable[..., Any] | None = None,
    *,
    priority: TaskPriority | int | str = TaskPriority.NORMAL,
    max_retries: int | None = None,
    timeout: float | None = None,
    retry_policy: RetryPolicy | None = None,
    retry_for: type[BaseException] | Sequence[type[BaseException]] = (),
    never_retry_for: type[BaseException] | Sequence[type[BaseException]] = (),
    executor: ExecutorKind = "thread",
    resources: Mapping[str, float] | None = None,
    expires_in: float | None = None,
    breaker: str | None = None,
) -> Any:
    """Register a function as a handler: `@task`, `@task()` or `@task("name", timeout=30)`.

    ``timeout`` and ``expires_in`` in seconds. ``retry_for`` and ``never_retry_for`` win over the built-in
    classification. ``executor="process"`` runs it in a child process that can be killed; coroutines run on an event
    loop by themselves. ``resources`` (e.g. ``{"gpu": 1, "memory_mb": 2048}``) are taken from the worker's while it
    runs. ``breaker`` names a dependency: while its circuit is open the task waits without losing attempts. A parameter
    annotated `TaskContext` receives the context; put it first, then type checkers know how the task is submitted.
    Raises RegistrationError.
    """
    if executor not in ("thread", "asyncio", "process"):
        raise RegistrationError(
            f"executor must be 'thread', 'asyncio' or 'process', not {executor!r}"
        )
    try:
        limits = SubmitOptions.of(
            priority=priority, max_retries=max_retries, timeout=timeout, expires_in=expires_in
        )
    except InvalidRequestError as exc:
        raise RegistrationError(exc.detail) from None
    if retry_policy is not None and not isinstance(retry_policy, RetryPolicy):
        raise RegistrationError(f"retry_policy must be a RetryPolicy, not {retry_policy!r}")
    if breaker is not None and not (isinstance(breaker, str) and breaker):
        raise RegistrationError(f"breaker must be the name of a dependency, not {breaker!r}")
    declared = TaskOptions(
        priority=TaskPriority.NORMAL if limits.priority is None else limits.priority,
        max_retries=max_retries,
        timeout_seconds=limits.timeout,
        retry_policy=retry_policy,
        retry_for=_exceptions(retry_for),
        never_retry_for=_exceptions(never_retry_for),
        executor=executor,
        resources=_resources(resources or {}),
        expires_in_seconds=limits.expires_in,
        breaker=breaker,
    )

    def register(function: Callable[P, R]) -> Handler[P, R]:
        return registry.add(function, name=None if callable(name) else name, declared=declared)

    return register(name) if callable(name) else register


def register_task_handler(name: str, **options: Any) -> Decorator:
    """`task` under a given name; options as there. A lone parameter ``payload`` receives the whole payload."""
    return task(name, **options)


def _exceptions(
    given: type[BaseException] | Sequence[type[BaseException]],
) -> tuple[type[BaseException], ...]:
    types = tuple(given) if isinstance(given, Iterable) else (given,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise RegistrationError(f"{kind!r} is not an exception class")
    return types


def _resources(given: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise RegistrationError(f"resources must be names with amounts, not {given!r}")
    for name, amount in given.items():
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not is_number or not 0 < amount < math.inf:
            raise RegistrationError(f"resource {name!r} needs a number above 0, not {amount!r}")
    return dict(given)


def _same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both are the same source, as when a module is imported again or reloaded."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
