"""A registered function: called it is the plain function, submitted it becomes a task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from taskflow.core.arguments import Signature
from taskflow.core.context import TaskContext
from taskflow.core.retry import RetryPolicy
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import TaskPriority

if TYPE_CHECKING:
    from taskflow.core.registry import Registry
    from taskflow.handle import TaskHandle

P = ParamSpec("P")
R = TypeVar("R")
ExecutorKind = Literal["thread", "asyncio", "process"]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a handler declares. None means: the default of the settings."""

    priority: TaskPriority = TaskPriority.NORMAL
    max_retries: int | None = None
    timeout_seconds: float | None = None
    retry_policy: RetryPolicy | None = None
    retry_for: tuple[type[BaseException], ...] = ()
    never_retry_for: tuple[type[BaseException], ...] = ()
    executor: ExecutorKind = "thread"
    resources: Mapping[str, float] = field(default_factory=dict)
    expires_in_seconds: float | None = None
    breaker: str | None = None


class Handler(Generic[P, R]):
    """A registered function. Calling it is the plain call; `submit` makes a task of it."""

    def __init__(
        self, name: str, function: Callable[P, R], declared: TaskOptions, registry: Registry
    ) -> None:
        functools.update_wrapper(
            self, function
        )  # first: it takes over the function's attributes, too
        self.name = name
        self.function = function
        self.declared = declared
        self.signature = Signature(function, context_type=TaskContext)
        # A lone parameter called `payload` takes the whole payload of a submission, whatever is in it.
        self.takes_payload = self.signature.names == ("payload",)
        self.registry = registry

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name!r} ({self.function.__module__}.{self.function.__qualname__})>"

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle:
        """Accept one task; it is durable once this returns.

        Raises InvalidArgumentsError, QueueFullError, StoreUnavailableError, NoActiveAppError.
        """
        return self.registry.submitter.submit_task(Submission(self.name, args, kwargs))

    delay = submit

    def options(self, *, connection: Any = None, **options: Any) -> Bound[P, R]:
        """`send.options(priority="high", delay=60).submit(...)`. Names and limits as in `SubmitOptions`.

        ``connection``: your own, of SQLAlchemy, psycopg2 or sqlite3, to the database that the store is in. The task
        exists exactly if your transaction commits.
        """
        return Bound(self, SubmitOptions.of(**options), connection)

    def arguments_json(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The arguments as they are stored: `Signature.to_json`. Raises InvalidArgumentsError."""
        if self.takes_payload and not args and kwargs.keys() != {"payload"}:
            kwargs = {"payload": dict(kwargs)}
        return self.signature.to_json(args, kwargs)


class Bound(Generic[P, R]):
    """A handler with options for the tasks about to be submitted."""

    def __init__(self, handler: Handler[P, R], options: SubmitOptions, connection: Any) -> None:
        self._handler = handler
        self._options = options
        self._connection = connection

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle:
        handler = self._handler
        return handler.registry.submitter.submit_task(
            Submission(handler.name, args, kwargs, self._options), self._connection
        )

    delay = submit


if TYPE_CHECKING:

    class ContextHandler(Handler[P, R]):
        """What a type checker sees of a handler whose first parameter is the context.

        It is submitted without the context, and called like any function with it.
        """

        def __call__(self, ctx: TaskContext, *args: P.args, **kwargs: P.kwargs) -> R: ...  # type: ignore[override]


class Decorator(Protocol):
    """Turns a function into its `Handler`, for type checkers with the arguments that `submit` takes."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], R], /
    ) -> ContextHandler[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Handler[P, R]: ...
