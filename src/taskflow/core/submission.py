"""What a caller asks for, and what is stored of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

import orjson

from taskflow.core import trace
from taskflow.core.errors import InvalidRequestError
from taskflow.core.task import TaskPriority

if TYPE_CHECKING:
    from taskflow.handle import TaskHandle

MAX_NAME_CHARS = 200
MAX_KEY_CHARS = 255  # the usual length of an Idempotency-Key
MAX_TAGS = 32
MAX_TAG_CHARS = 64
MAX_DEPENDENCIES = 1_000
MAX_RETRIES = 1_000
MAX_TIMEOUT_SECONDS = 7 * 86_400.0
MAX_DELAY_SECONDS = 10 * 366 * 86_400.0
CONTROLS = r"\x00-\x1f\x7f-\x9f"  # Unicode's category Cc, for a class of a regular expression
# Everything else is for people to choose: joined emoji and scripts that need invisible characters, too. Lone
# surrogates are no characters.
_TEXT = re.compile(rf"[^{CONTROLS}\ud800-\udfff]+")


def _number(
    name: str, value: float | None, low: float, high: float, *, whole: bool = False
) -> None:
    if value is None:
        return
    if whole and isinstance(value, float):
        _refuse(name, f"must be a whole number, not {value!r}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(name, f"must be a number, not {value!r}")
    if not low <= value <= high:
        _refuse(name, f"must be from {low:.15g} to {high:.15g}")


def _text(name: str, value: str | None, limit: int) -> None:
    if value is None:
        return
    if not isinstance(value, str) or len(value) > limit or _TEXT.fullmatch(value) is None:
        _refuse(name, f"must be 1 to {limit} characters, no control characters")


def check_moment(name: str, value: object) -> None:
    """None, or a datetime that says which moment it is. Raises InvalidRequestError naming the field."""
    if value is None:
        return
    if not isinstance(value, datetime):
        _refuse(name, f"must be a datetime with its time zone, not {value!r:.60}")
    if value.tzinfo is None:
        _refuse(name, "needs a time zone, e.g. 2030-01-01T09:00:00Z")


def _mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        _refuse(name, "must be an object, names with values")


def _traceparent(value: object) -> None:
    if value is not None and (not isinstance(value, str) or trace.parse(value) != value):
        _refuse("traceparent", "must be one of W3C's trace context, version 00")


def _several(name: str, values: Any) -> tuple[Any, ...]:
    """Tags or ids, a single one too; handles count as their tasks' ids."""
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable):
        _refuse(name, f"must be a list, not {values!r:.60}")
    return tuple(getattr(value, "id", value) for value in values)


def _refuse(name: str, message: str) -> NoReturn:
    raise InvalidRequestError(f"{name}: {message}", fields=[{"field": name, "message": message}])


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How one task is to be run. None everywhere means: what the handler declares, else the settings' default.

    ``delay`` in seconds (or a timedelta) and ``run_at`` (aware datetime) exclude each other, likewise ``expires_in``
    and ``expires_at``. ``depends_on`` are task ids. ``traceparent``: by default that of the task whose handler submits.
    Raises InvalidRequestError naming the field.
    """

    priority: TaskPriority | None = None
    delay: float | None = None
    run_at: datetime | None = None
    expires_in: float | None = None
    expires_at: datetime | None = None
    max_retries: int | None = None
    timeout: float | None = None
    idempotency_key: str | None = None
    depends_on: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    traceparent: str | None = None

    @classmethod
    def of(cls, **options: Any) -> SubmitOptions:
        """From what people write: ``priority="high"``, ``delay=timedelta(minutes=5)``, lists for tuples."""
        for name in options:
            if name not in cls.__slots__:
                raise InvalidRequestError(
                    f"unknown option {name!r}; there are {', '.join(cls.__slots__)}"
                )
        if (priority := options.get("priority")) is not None:
            options["priority"] = TaskPriority.parse(priority)
        for name in ("delay", "expires_in", "timeout"):
            if isinstance(options.get(name), timedelta):
                options[name] = options[name].total_seconds()
        for name in ("depends_on", "tags"):
            if name in options:
                options[name] = _several(name, options[name] or ())
        return cls(**options)

    def __post_init__(self) -> None:
        if self.delay is not None and self.run_at is not None:
            _refuse("delay", "give either delay or run_at")
        if self.expires_in is not None and self.expires_at is not None:
            _refuse("expires_in", "give either expires_in or expires_at")
        _number("delay", self.delay, 0, MAX_DELAY_SECONDS)
        _number("expires_in", self.expires_in, 0, MAX_DELAY_SECONDS)
        _number("timeout", self.timeout, 0.001, MAX_TIMEOUT_SECONDS)
        _number("max_retries", self.max_retries, 0, MAX_RETRIES, whole=True)
        check_moment("run_at", self.run_at)
        check_moment("expires_at", self.expires_at)
        _traceparent(self.traceparent)
        _text("name", self.name, MAX_NAME_CHARS)
        _text("idempotency_key", self.idempotency_key, MAX_KEY_CHARS)
        _mapping("metadata", self.metadata)
        if len(self.tags) > MAX_TAGS:
            _refuse("tags", f"at most {MAX_TAGS}")
        for tag in self.tags:
            _text("tags", tag, MAX_TAG_CHARS)
        if len(self.depends_on) > MAX_DEPENDENCIES:
            _refuse("depends_on", f"at most {MAX_DEPENDENCIES}")
        for task_id in self.depends_on:
            _text("depends_on", task_id, MAX_NAME_CHARS)


NO_OPTIONS = SubmitOptions()


@dataclass(frozen=True, slots=True)
class Submission:
    """One task as a caller asks for it."""

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: SubmitOptions = NO_OPTIONS


class NewTask(NamedTuple):
    """A validated submission, ready to be stored. Moments are Unix microseconds; JSON is text.

    ``run_at`` None: due ``delay_seconds`` after the store's own now. ``input_key`` is set, and ``arguments`` None, when
    the arguments were put into the payload store.
    """

    id: str
    tenant_id: str
    task: str
    name: str | None
    priority: int
    max_retries: int
    timeout_seconds: float
    run_at: int | None
    delay_seconds: float
    expires_at: int | None
    expires_in_seconds: float | None
    arguments: str | None
    input_key: str | None
    metadata: str | None
    tags: tuple[str, ...]
    depends_on: tuple[str, ...]
    idempotency_key: str | None
    request_hash: str | None
    request_id: str | None
    traceparent: str | None = None


class Accepted(NamedTuple):
    """The answer to one submission. ``replayed``: an earlier submission with the same idempotency key made the task."""

    task_id: str
    status: str
    created_at: int
    run_at: int
    replayed: bool = False


class Submitter(Protocol):
    """Whatever tasks can be submitted to from Python: an embedded `TaskFlow`."""

    def submit_task(self, submission: Submission, connection: Any = None) -> TaskHandle:
        """``connection``: the caller's own, with whose open transaction the task is to come into being."""
        ...


def request_hash(submission: Submission, arguments: str) -> str:
    """Equal for equal requests, whatever the order of what has none: what an idempotency key is bound to.

    ``arguments`` are valid JSON, as is the metadata. Options that are not given do not count, so that a request is
    still the same after an upgrade that brought new ones.
    """
    given = submission.options
    options = {
        "delay": _float(given.delay),
        "run_at": given.run_at and given.run_at.timestamp(),
        "expires_in": _float(given.expires_in),
        "expires_at": given.expires_at and given.expires_at.timestamp(),
        "priority": given.priority,
        "max_retries": given.max_retries,
        "timeout": _float(given.timeout),
        "depends_on": sorted(set(given.depends_on)),
        "tags": sorted(set(given.tags)),
        "metadata": dict(given.metadata),
        "name": given.name,
    }
    chosen = {name: value for name, value in options.items() if value not in (None, [], {})}
    request = [submission.task, orjson.loads(arguments), chosen]
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
