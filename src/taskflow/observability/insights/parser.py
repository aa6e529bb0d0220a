"""From the text of a query to its plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from taskflow.core.errors import InvalidRequestError
from taskflow.observability.insights import expressions as ex
from taskflow.observability.insights.aggregates import AGGREGATES
from taskflow.observability.insights.expressions import Expression
from taskflow.observability.insights.plan import (
    AggregateColumn,
    Column,
    Command,
    Display,
    Fields,
    Filter,
    Limit,
    Plan,
    Sort,
    Stats,
)
from taskflow.observability.insights.tokens import Token, tokens_of

MOST_ROWS = 10_000  # as there
_COMMANDS = ("fields", "filter", "stats", "sort", "limit", "display")


def parse(query: str) -> Plan:
    """Raises InvalidRequestError, naming what is not understood."""
    return _Parser(tokens_of(query), query).plan()


class _Parser:
    """One method per rule; `_take` and `_accept` step on."""

    def __init__(self, tokens: Sequence[Token], text: str) -> None:
        self._tokens = tokens
        self._text = text
        self._at = 0
        self._plan = Plan()
        self._made: set[str] = set()

    def plan(self) -> Plan:
        commands = self._plan.commands
        while True:
            commands.append(self._command())
            if not self._accept("|"):
                break
        if self._now.kind != "end":
            raise self._unexpected("the end or |")
        if sum(isinstance(command, Stats) for command in commands) > 1:
            raise InvalidRequestError("query: only one `stats` can be evaluated here")
        return self._plan

    def _command(self) -> Command:
        name = self._take("name").value.lower()
        match name:
            case "fields":
                return Fields(self._list(self._column))
            case "filter":
                return Filter(self._or())
            case "stats":
                aggregates = self._list(self._aggregate)
                groups = self._list(self._column) if self._accept("by") else []
                return Stats(aggregates, groups)
            case "sort":
                return Sort(self._list(self._sort_key))
            case "limit":
                return Limit(self._count())
            case "display":
                return Display(self._list(lambda: self._named(self._take("name").value)))
        raise InvalidRequestError(
            f"query: {name!r} cannot be evaluated here, only {', '.join(_COMMANDS)}"
        )

    # --- parts of commands ------------------------------------------------------------------------

    def _column(self) -> Column:
        value, text = self._with_text(self._additive)
        return Column(self._alias(text), value)

    def _aggregate(self) -> AggregateColumn:
        begin = self._now.position
        function = self._take("name").value.lower()
        if function not in AGGREGATES:
            raise InvalidRequestError(
                f"query: {function!r} is no function of stats here, only {', '.join(sorted(AGGREGATES))}"
            )
        self._expect("(")
        percent = 0.0
        if function == "count" and (self._accept("*") or self._now.value == ")"):
            of: Expression = ex.constant(1)
        else:
            of = self._additive()
        if function == "pct":
            self._expect(",")
            percent = float(self._take("number").value)
        self._expect(")")
        text = self._text[begin : self._now.position].rstrip()
        return AggregateColumn(self._alias(text), function, of, percent)

    def _sort_key(self) -> tuple[Expression, bool]:
        value = self._additive()
        if self._accept("desc"):
            return value, True
        self._accept("asc")
        return value, False

    def _count(self) -> int:
        text = self._take("number").value
        if not text.isdigit() or not 1 <= int(text) <= MOST_ROWS:
            raise InvalidRequestError(f"query: limit is 1 to {MOST_ROWS}, not {text}")
        return int(text)

    def _alias(self, text: str) -> str:
        name = self._take("name").value if self._accept("as") else text
        self._made.add(name)
        return name

    # --- expressions ------------------------------------------------------------------------------

    def _or(self) -> Expression:
        left = self._and()
        while self._accept("or"):
            left = ex.disjunction(left, self._and())
        return left

    def _and(self) -> Expression:
        left = self._not()
        while self._accept("and"):
            left = ex.conjunction(left, self._not())
        return left

    def _not(self) -> Expression:
        return ex.negation(self._not()) if self._accept("not") else self._comparison()

    def _comparison(self) -> Expression:
        left = self._additive()
        for sign in ("!=", "<=", ">=", "=", "<", ">"):
            if self._accept(sign):
                return ex.comparison(sign, left, self._additive())
        denied = self._accept("not")
        if self._accept("in"):
            found = self._in(left)
        elif self._accept("like") or self._accept("=~"):
            found = self._like(left)
        elif denied:
            raise self._unexpected("in or like")
        else:
            return left
        return ex.negation(found) if denied else found

    def _in(self, left: Expression) -> Expression:
        self._expect("[")
        choices = self._list(self._additive)
        self._expect("]")
        return ex.is_in(left, choices)

    def _like(self, left: Expression) -> Expression:
        if self._now.kind == "text":
            return ex.like(left, text=self._take("text").value)
        pattern = self._take("regex").value
        try:
            return ex.like(left, regex=pattern)
        except re.error as exc:
            raise InvalidRequestError(
                f"query: /{pattern}/ is no regular expression: {exc}"
            ) from None

    def _additive(self) -> Expression:
        left = self._multiplicative()
        while (sign := self._now.value) in ("+", "-") and self._now.kind == "sign":
            self._step()
            left = ex.arithmetic(sign, left, self._multiplicative())
        return left

    def _multiplicative(self) -> Expression:
        left = self._primary()
        while (sign := self._now.value) in ("*", "/", "%") and self._now.kind == "sign":
            self._step()
            left = ex.arithmetic(sign, left, self._primary())
        return left

    def _primary(self) -> Expression:
        token = self._now
        if self._accept("("):
            inner = self._or()
            self._expect(")")
            return inner
        if self._accept("-"):
            return ex.arithmetic("-", ex.constant(0), self._primary())
        match token.kind:
            case "text":
                return ex.constant(self._step().value)
            case "number" if token.value.replace(".", "", 1).isdigit():
                return ex.constant(float(self._step().value))
            case "name":
                self._step()
                if self._accept("("):
                    return self._call(token.value.lower())
                return ex.field(self._named(token.value))
        raise self._unexpected("a field, a value or (")

    def _call(self, name: str) -> Expression:
        if name == "bin":
            period = self._take("number").value
            self._expect(")")
            try:
                return ex.bin_function(period)
            except ValueError:
                raise InvalidRequestError(
                    f"query: bin takes a period like 5m, not {period}"
                ) from None
        if name not in ex.FUNCTIONS:
            known = ", ".join(sorted({*ex.FUNCTIONS, "bin"}))
            raise InvalidRequestError(f"query: {name!r} is no function here, only {known}")
        arguments = self._list(self._additive)
        self._expect(")")
        count = ex.FUNCTIONS[name][0]
        if len(arguments) != count:
            raise InvalidRequestError(f"query: {name} takes {count} arguments")
        return ex.call(name, arguments)

    # --- tokens -----------------------------------------------------------------------------------

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _step(self) -> Token:
        token = self._now
        self._at += 1
        return token

    def _accept(self, word: str) -> bool:
        token = self._now
        if token.kind in ("name", "sign") and token.value.lower() == word:
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._unexpected(word)

    def _take(self, kind: str) -> Token:
        if self._now.kind != kind:
            raise self._unexpected(f"a {kind}")
        return self._step()

    def _list(self, item: Callable[[], Any]) -> list[Any]:
        items = [item()]
        while self._accept(","):
            items.append(item())
        return items

    def _with_text(self, rule: Callable[[], Expression]) -> tuple[Expression, str]:
        begin = self._now.position
        value = rule()
        return value, self._text[begin : self._now.position].rstrip().strip("`")

    def _named(self, name: str) -> str:
        if name not in self._made and not name.startswith("@"):
            self._plan.fields_read.add(name)
        return name

    def _unexpected(self, wanted: str) -> InvalidRequestError:
        found = repr(self._now.value) if self._now.value else "the end"
        return InvalidRequestError(f"query: {wanted} was expected before {found}")
