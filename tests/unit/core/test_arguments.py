"""A handler's signature as a schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Required, Unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from taskflow.core import jsontext
from taskflow.core.arguments import Signature, did_you_mean
from taskflow.core.context import TaskContext
from taskflow.core.errors import InvalidArgumentsError, RegistrationError

CONTEXT = object()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def signature(function: Callable[..., Any]) -> Signature:
    return Signature(function, context_type=TaskContext)


def through(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What ``function`` returns when its arguments have been stored and read again, as for a task."""
    schema = signature(function)
    stored_args, stored_kwargs = jsontext.loads(schema.to_json(args, kwargs))
    call_args, call_kwargs = schema.call_arguments(stored_args, stored_kwargs)
    if schema.context_parameter is not None:
        schema.give_context(call_args, call_kwargs, CONTEXT)
    return function(*call_args, **call_kwargs)


def refusal(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, str]:
    with pytest.raises(InvalidArgumentsError) as raised:
        signature(function).to_json(args, kwargs)
    return {field["field"]: field["message"] for field in raised.value.fields}


def plain(a: int, b: str = "b", *, c: float = 1.5) -> tuple[Any, ...]:
    return a, b, c


def positional(a: int, b: int = 2, c: int = 3, /, d: int = 4) -> tuple[Any, ...]:
    return a, b, c, d


def rest(a: int = 1, *items: int, **named: Any) -> tuple[Any, ...]:
    return a, items, named


def context_first(ctx: TaskContext, a: int, b: int = 2) -> tuple[Any, ...]:
    return ctx, a, b


def context_and_rest(ctx: TaskContext, a: int = 1, *items: int) -> tuple[Any, ...]:
    return ctx, a, items


def context_between(a: int, ctx: TaskContext, *items: int) -> tuple[Any, ...]:
    return a, ctx, items


def context_only_positional(ctx: TaskContext, a: int = 1, b: int = 2, /) -> tuple[Any, ...]:
    return ctx, a, b


def context_by_name(*items: int, ctx: TaskContext) -> tuple[Any, ...]:
    return items, ctx


class TestCalls:
    @pytest.mark.parametrize(
        ("function", "args", "kwargs"),
        [
            (plain, (1,), {}),
            (plain, (1, "x"), {"c": 2.5}),
            (plain, (), {"a": 1, "c": 2.0}),
            (positional, (1,), {}),
            (positional, (1, 7), {"d": 9}),
            (positional, (1, 7, 8, 9), {}),
            (rest, (), {}),
            (rest, (5, 6, 7), {}),
            (rest, (5,), {"x": 1, "y": [None]}),
            (rest, (), {"a": 5, "x": 1}),
        ],
    )
    def test_a_task_is_called_as_the_function_would_have_been(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        assert through(function, *args, **kwargs) == function(*args, **kwargs)

    def test_arguments_that_only_go_by_position_may_be_named_and_gaps_are_filled(self) -> None:
        assert through(positional, a=1) == (1, 2, 3, 4)
        assert through(positional, a=1, c=9) == (1, 2, 9, 4)
        assert through(rest, items=[7, 8]) == (1, (7, 8), {})
        assert through(rest, items=[]) == (1, (), {})

    def test_the_context_comes_to_its_parameter_wherever_that_is(self) -> None:
        assert through(context_first, 5) == (CONTEXT, 5, 2)
        assert through(context_first, a=5, b=6) == (CONTEXT, 5, 6)
        assert through(context_and_rest) == (CONTEXT, 1, ())
        assert through(context_and_rest, 5, 6, 7) == (CONTEXT, 5, (6, 7))
        assert through(context_between, 5) == (5, CONTEXT, ())
        assert through(context_between, 5, 6, 7) == (5, CONTEXT, (6, 7))
        assert through(context_only_positional) == (CONTEXT, 1, 2)
        assert through(context_only_positional, b=9) == (CONTEXT, 1, 9)
        assert through(context_by_name, 1, 2) == ((1, 2), CONTEXT)

    def test_callers_cannot_give_the_context(self) -> None:
        assert "ctx" in refusal(context_first, a=1, ctx="mine")
        assert "ctx" not in signature(context_first).json_schema["properties"]

    @given(
        args=st.lists(st.integers(-9, 9), max_size=6),
        kwargs=st.dictionaries(st.sampled_from(["x", "y"]), st.integers()),
    )
    def test_stored_arguments_keep_the_split_in_which_they_were_given(
        self, args: list[int], kwargs: dict[str, int]
    ) -> None:
        if any(abs(value) >= 2**63 for value in kwargs.values()):
            kwargs = {}
        text = signature(rest).to_json(args, kwargs)
        assert jsontext.loads(text) == [args, kwargs]


def scores(**scores: int) -> dict[str, int]:
    return scores


def moments(*at: datetime, **named: datetime) -> tuple[Any, ...]:
    return at, named


class Wishes(TypedDict, total=False):
    size: Required[int]
    at: datetime


def wishes(**wishes: Unpack[Wishes]) -> Wishes:
    return wishes


class TestTheRest:
    """What `*args` and `**kwargs` take."""

    def test_each_is_checked_by_its_name_or_place(self) -> None:
        assert list(refusal(scores, a=1, b="not a number")) == ["b"]
        assert list(refusal(moments, NOON, "soon", late="later")) == ["at.1", "late"]
        assert list(refusal(wishes, at="soon", colour="red")) == ["size", "at", "colour"]

    def test_each_is_converted_at_submission_and_at_execution(self) -> None:
        assert through(scores, a="3") == {"a": 3}
        assert through(moments, NOON, late=NOON) == ((NOON,), {"late": NOON})
        assert through(wishes, size="4", at=NOON) == {"size": 4, "at": NOON}

    def test_the_schema_says_so(self) -> None:
        assert signature(scores).json_schema["additionalProperties"] == {"type": "integer"}
        assert signature(rest).json_schema["additionalProperties"] is True
        assert signature(plain).json_schema["additionalProperties"] is False
        found = signature(wishes).json_schema
        assert (list(found["properties"]), found["required"]) == (["size", "at"], ["size"])


class Point(BaseModel):
    x: int
    y: int = 0


def typed(
    p: Point, at: datetime, tags: set[str], n: Annotated[int, Field(ge=1)]
) -> tuple[Any, ...]:
    return p, at, tags, n


def choice(colour: Literal["red", "blue"], size: int | None = None) -> tuple[Any, ...]:
    return colour, size


def anything(x) -> Any:  # type: ignore[no-untyped-def]
    return x


LOOP: list[Any] = []
LOOP.append(LOOP)


class TestConversion:
    def test_arguments_arrive_with_the_types_they_are_annotated_with(self) -> None:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        expected = (Point(x=1), moment, {"a"}, 3)
        assert through(typed, Point(x=1), moment, tags={"a"}, n=3) == expected
        as_json = {"p": {"x": 1}, "at": "2026-01-01T00:00:00Z", "tags": ["a"], "n": "3"}
        assert through(typed, **as_json) == expected

    def test_arguments_without_annotation_take_any_json(self) -> None:
        value = {"a": [1, None, "x", {"b": 1.5}]}
        assert through(anything, value) == value

    @pytest.mark.parametrize(
        "value", [object(), b"\xff", LOOP, math.nan, {"a": [math.inf]}, "\ud800", "\x00", 2**63, print],
        ids=lambda value: repr(value)[:12],
    )  # fmt: skip
    def test_what_is_not_json_is_refused_at_submission(self, value: Any) -> None:
        assert refusal(anything, value)
        assert refusal(rest, extra=value)

    def test_nesting_is_limited(self) -> None:
        deep: list[Any] = []
        for _ in range(70):
            deep = [deep]
        with pytest.raises(InvalidArgumentsError, match="nested deeper than 64"):
            signature(anything).to_json([deep], {})


class TestRefusals:
    def test_every_wrong_argument_is_named(self) -> None:
        found = refusal(typed, p={"x": "much"}, at="soon", n=0, colour="red")
        assert set(found) == {"p.x", "at", "tags", "n", "colour"}
        assert found["tags"] == "is missing"
        assert "greater than or equal to 1" in found["n"]

    def test_a_misspelt_argument_gets_the_close_names(self) -> None:
        found = refusal(choice, color="red")
        assert found["color"] == "is not an argument of this task, did you mean 'colour'?"
        assert found["colour"] == "is missing"

    def test_too_many_positional_arguments(self) -> None:
        assert refusal(plain, 1, "b", 2.0) == {"args[2]": "1 too many"}
        assert refusal(context_first, 1, 2, 3) == {"args[2]": "1 too many"}

    def test_an_argument_given_twice(self) -> None:
        assert refusal(plain, 1, a=2) == {"a": "given twice"}

    def test_a_value_that_is_not_one_of_the_choices(self) -> None:
        assert "'red' or 'blue'" in refusal(choice, "green")["colour"]

    def test_the_message_says_it_all_in_one_line(self) -> None:
        with pytest.raises(InvalidArgumentsError, match=r"^a: is missing$"):
            signature(plain).to_json([], {})

    def test_stored_arguments_are_checked_again(self) -> None:
        """The handler may have changed since the task was submitted."""
        with pytest.raises(InvalidArgumentsError, match="is not an argument"):
            signature(plain).call_arguments([1], {"gone": 1})


class TestRegistration:
    def test_the_json_schema_lists_what_callers_give(self) -> None:
        schema = signature(plain).json_schema
        assert schema["required"] == ["a"]
        assert schema["properties"]["c"]["type"] == "number"
        assert schema["additionalProperties"] is False

    def test_a_type_that_json_cannot_carry_is_refused(self) -> None:
        class Socket: ...

        def work(s: Any) -> None: ...

        work.__annotations__["s"] = Socket
        with pytest.raises(RegistrationError, match="cannot be sent as JSON"):
            signature(work)

    def test_an_annotation_that_cannot_be_resolved_is_refused(self) -> None:
        def work(s: Any) -> None: ...

        work.__annotations__["s"] = "NoSuchName"
        with pytest.raises(RegistrationError, match="NoSuchName"):
            signature(work)

    def test_parameters_may_have_odd_names(self) -> None:
        def work(_private: int, self: int, model_config: int, **kwargs: int) -> Any:
            return _private, self, model_config, kwargs

        given = {"_private": 1, "self": 2, "model_config": 3, "class": 4}
        assert through(work, **given) == (1, 2, 3, {"class": 4})


def test_close_names_are_offered_closest_first() -> None:
    known = ["send_email", "send_mail", "resize"]
    assert did_you_mean("send_emial", known) == ", did you mean 'send_email' or 'send_mail'?"
    assert did_you_mean("zzz", known) == ""
