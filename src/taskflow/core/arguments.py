"""A handler's signature as a schema: validates arguments at submission and again at execution."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, NotRequired, Required, Unpack, cast, get_args, get_origin, get_type_hints

from pydantic import (
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from taskflow.core import jsontext
from taskflow.core.errors import InvalidArgumentsError, InvalidJSONError, RegistrationError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Signature:
    """What a handler accepts. Parameters annotated `TaskContext` are filled in by the worker, not by callers."""

    def __init__(self, function: Callable[..., Any], *, context_type: type) -> None:
        try:
            hints = get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as exc:
            raise RegistrationError(
                f"{function.__qualname__}: annotations cannot be resolved: {exc}"
            ) from exc
        self.context_parameter: str | None = None
        self._context_index: int | None = None  # among the positional ones, if it is one
        self._defaults: dict[str, Any] = {}
        self._positional: list[str] = []
        self._positional_only: set[str] = set()
        self._var_positional: str | None = None
        self._var_keyword: str | None = None
        fields: dict[str, Any] = {}
        rest: Any = None  # what `**kwargs` may be
        for name, parameter in inspect.signature(function).parameters.items():
            hint = hints.get(name, Any)
            if hint is context_type:
                self.context_parameter = name
                if parameter.kind in _POSITIONAL:
                    self._context_index = len(self._positional)
                if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                    self._positional_only.add(name)
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self._var_positional = name
                fields[name] = NotRequired[GenericAlias(list, hint)]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                if get_origin(hint) is Unpack:  # the names it takes, each with a type of its own
                    fields |= _fields_of(*get_args(hint))
                else:
                    self._var_keyword, rest = name, hint
            else:
                if parameter.kind in _POSITIONAL:
                    self._positional.append(name)
                if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                    self._positional_only.add(name)
                required = parameter.default is inspect.Parameter.empty
                if not required:
                    self._defaults[name] = parameter.default
                fields[name] = Required[hint] if required else NotRequired[hint]
        self.names = tuple(fields)
        # The functional form, with fields that only the running program knows.
        takes_more = {"extra_items": rest} if self._var_keyword else {"closed": True}
        arguments: Any = cast("Any", TypedDict)("Arguments", fields, **takes_more)
        arguments.__module__ = function.__module__
        try:
            self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(arguments)
            self.json_schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as exc:
            raise RegistrationError(
                f"{function.__qualname__}: an argument's type cannot be sent as JSON: {exc}"
            ) from exc

    def validate(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, converted to the annotated types. Raises InvalidArgumentsError naming every bad field."""
        named = self._bind(args, kwargs)
        try:
            return self._adapter.validate_python(named)
        except ValidationError as exc:
            raise InvalidArgumentsError(
                _summary(fields := self._fields(exc)), fields=fields
            ) from None

    def to_json(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The validated arguments as they are stored: ``[[positional], {by name}]``, split as they were given."""
        validated = self.validate(args, kwargs)
        try:
            named = self._adapter.dump_python(validated, mode="json", warnings=False)
        except (
            ValueError
        ) as exc:  # PydanticSerializationError, of a package that core does not import
            raise InvalidArgumentsError(
                f"arguments: {exc}", fields=[{"field": "", "message": str(exc)}]
            ) from None
        positional: list[Any] = []
        if args:
            positional = [named.pop(name) for name in self._positional[: len(args)]]
            if self._var_positional is not None:
                positional += named.pop(self._var_positional, ())
        try:
            text = jsontext.checked_dumps([positional, named])
        except InvalidJSONError as exc:
            raise InvalidArgumentsError(f"arguments: {exc.detail}", fields=exc.fields) from None
        if "null" in text:
            # Where the annotation is `Any`, Pydantic writes NaN and infinity as null, whatever its configuration says.
            _refuse_non_finite(validated, "")
        return text

    def call_arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Stored arguments, validated and converted again, as ``(args, kwargs)`` for the call itself.

        The context is still missing there: see `give_context`.
        """
        named = self.validate(args, kwargs)
        rest = named.pop(self._var_positional, ()) if self._var_positional else ()
        call_args = [
            named.pop(name) if name in named else self._defaults[name]
            for name in self._positional[: self._by_position(named, with_rest=bool(rest))]
        ]
        call_args.extend(rest)
        return call_args, named

    def give_context(self, args: list[Any], kwargs: dict[str, Any], context: Any) -> None:
        """Put ``context`` where a handler that asks for it expects it: into what `call_arguments` returned."""
        assert self.context_parameter is not None
        index = self._context_index
        if index is not None and (
            index < len(args) or self.context_parameter in self._positional_only
        ):
            args.insert(index, context)
        else:
            kwargs[self.context_parameter] = context

    def _by_position(self, named: Mapping[str, Any], *, with_rest: bool) -> int:
        """How many arguments, gaps filled with defaults, have to go by position: those before ``*args`` or ``/``."""
        if with_rest:
            return len(self._positional)
        if not self._positional_only:
            return 0
        needed = 0
        if self._context_index is not None and self.context_parameter in self._positional_only:
            needed = self._context_index
        for index, name in enumerate(self._positional):
            if name in self._positional_only and name in named:
                needed = max(needed, index + 1)
        return needed

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        named = dict(kwargs)
        if not args:
            return named
        if len(args) > len(self._positional) and self._var_positional is None:
            extra = len(args) - len(self._positional)
            raise InvalidArgumentsError(
                f"takes at most {len(self._positional)} positional arguments, {len(args)} given",
                fields=[
                    {"field": f"args[{len(self._positional)}]", "message": f"{extra} too many"}
                ],
            )
        for name, value in zip(self._positional, args, strict=False):
            if name in named:
                raise InvalidArgumentsError(
                    f"{name} is given twice, by position and by name",
                    fields=[{"field": name, "message": "given twice"}],
                )
            named[name] = value
        if self._var_positional is not None and len(args) > len(self._positional):
            named[self._var_positional] = list(args[len(self._positional) :])
        return named

    def _fields(self, exc: ValidationError) -> list[dict[str, Any]]:
        fields = []
        for error in exc.errors(include_url=False, include_context=False, include_input=False):
            field = ".".join(str(part) for part in error["loc"])
            match error["type"]:
                case "missing":
                    message = "is missing"
                case "extra_forbidden":
                    message = "is not an argument of this task" + did_you_mean(field, self.names)
                case _:
                    message = error["msg"]
            fields.append({"field": field, "message": message})
        return fields


def _fields_of(typed_dict: Any) -> dict[str, Any]:
    """``name: type``, each type said to be required or not."""
    hints = get_type_hints(typed_dict, include_extras=True)
    said = (Required, NotRequired)
    usual: Any = Required if typed_dict.__total__ else NotRequired
    return {name: hint if get_origin(hint) in said else usual[hint] for name, hint in hints.items()}


def _refuse_non_finite(value: Any, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        what = "NaN or infinity, which JSON does not have"
        raise InvalidArgumentsError(
            f"arguments: {path} is or contains {what}", fields=[{"field": path, "message": what}]
        )
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{path}[{index}]")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``", did you mean 'send_email'?"`` or nothing. Names are listed closest first."""
    close = difflib.get_close_matches(name, known, n=3)
    return f", did you mean {' or '.join(repr(match) for match in close)}?" if close else ""


def _summary(fields: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{field['field']}: {field['message']}" for field in fields)
