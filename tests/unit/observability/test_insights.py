"""The query language: what each command and function does, and that what it lacks is refused, not ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from taskflow.core.errors import InvalidRequestError
from taskflow.observability.insights import Answer, evaluate, events_of, parse
from taskflow.observability.queries import QUERIES, TASKS

EVENTS: list[dict[str, Any]] = [
    {"ts": "2026-01-31T09:00:00Z", "event": "a", "n": 1, "kind": "x"},
    {"ts": "2026-01-31T09:00:00.5Z", "event": "b", "n": 10, "kind": "y", "text": "Hello World"},
    {"ts": "2026-01-31T09:04:59.999999Z", "event": "b", "n": 2.5, "in": {"ner": 7, "list": ["p"]}},
    {"ts": "2026-01-31T09:05:00Z", "event": "c", "kind": "x", "text": 'say "hi"'},
]


def ask(query: str, events: list[dict[str, Any]] | None = None) -> Answer:
    lines = [orjson.dumps(event) + b"\n" for event in events or EVENTS]
    return evaluate(parse(query), events_of(lines))


def rows(query: str, events: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    return ask(query, events).rows


def names(condition: str) -> str:
    """The ``n`` or event of those that pass, oldest first."""
    found = rows(f"filter {condition} | fields event, n | sort @timestamp asc")
    return " ".join(str(row.get("n", row["event"])) for row in found)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("n > 2", "10 2.5"),
        ("n >= 2.5 and n < 10", "2.5"),
        ("n <= 1 or event = 'c'", "1 c"),
        ("n != 1", "10 2.5"),  # a missing field is not unequal
        ("not n > 2", "1 c"),
        ("not (n > 2 or n = 1)", "c"),
        ("event = 'a' or event = 'b' and n = 10", "1 10"),  # and binds closer
        ('event in ["a", "c"]', "1 c"),
        ('event not in ["a", "c"]', "10 2.5"),
        ("n in [1, 2.5]", "1 2.5"),
        ("text like 'World'", "10"),
        ("text like /(?i)hello|HI/", "10 c"),
        ("text not like /^Hello/", "1 2.5 c"),
        ("text =~ /World$/", "10"),
        (r'text like "\"hi\""', "c"),
        ("ispresent(kind)", "1 10 c"),
        ("not ispresent(kind)", "2.5"),
        ("isempty(kind)", "2.5"),
        ("strcontains(text, 'lo W') = 1", "10"),
        ("tolower(text) = 'hello world'", "10"),
        ("n * 2 + 1 = 21", "10"),
        ("(n - 1) / 3 = 3", "10"),
        ("n % 2 = 0.5", "2.5"),
        ("floor(n) = 2 or ceil(n) = 1", "1 2.5"),
        ("in.ner = 7", "2.5"),
        ("in.list.0 = 'p'", "2.5"),
        ("`in.ner` = 7", "2.5"),
        ("abs(0 - n) = 10 # and a comment\n", "10"),
    ],
)
def test_conditions(condition: str, found: str) -> None:
    assert names(condition) == found


def test_the_newest_come_first_unless_sorted() -> None:
    assert [row["event"] for row in rows("fields event")] == ["c", "b", "b", "a"]
    assert rows("fields n | sort n desc | limit 2") == [{"n": 10}, {"n": 2.5}]
    assert rows("fields n | sort n asc") == [{"n": 1}, {"n": 2.5}, {"n": 10}, {}]  # missing last
    assert rows("fields n | sort n desc")[-1] == {}
    by_two = rows("fields event, n | sort event desc, n asc")
    assert [row.get("n") for row in by_two] == [None, 2.5, 10, 1]


def test_moments_are_utc_with_milliseconds() -> None:
    found = rows("fields @timestamp | sort @timestamp asc")
    assert [row["@timestamp"] for row in found] == [
        "2026-01-31 09:00:00.000",
        "2026-01-31 09:00:00.500",
        "2026-01-31 09:04:59.999",
        "2026-01-31 09:05:00.000",
    ]


def test_without_fields_a_row_is_the_whole_line() -> None:
    [row] = rows("filter event = 'a'")
    assert orjson.loads(row["@message"]) == EVENTS[0]
    assert ask("filter event = 'a'").columns == ["@timestamp", "@message"]


def test_columns_are_what_was_asked_for_in_order() -> None:
    assert ask("fields n, event | fields kind, n * 2 as twice").columns == [
        "n",
        "event",
        "kind",
        "twice",
    ]
    assert ask("fields n, event | display event").columns == ["event"]
    assert ask("stats count(*) as c, max(n) by kind").columns == ["kind", "c", "max(n)"]
    assert rows("fields n * 2 as twice | filter twice = 20 | display twice") == [{"twice": 20}]


def test_stats_by_group() -> None:
    found = rows(
        "stats count(*) as all, count(n) as numbers, count_distinct(kind) as kinds, sum(n) as total, avg(n) as mean,"
        " min(n) as least, max(n) as most, pct(n, 50) as middle, earliest(n) as first, latest(n) as last by event"
        " | sort event asc"
    )
    assert found[1] == {
        "event": "b", "all": 2, "numbers": 2, "kinds": 1, "total": 12.5, "mean": 6.25, "least": 2.5, "most": 10,
        "middle": 2.5, "first": 10, "last": 2.5,
    }  # fmt: skip
    assert found[2] == {"event": "c", "all": 1, "numbers": 0, "kinds": 1, "total": 0}


def test_what_has_no_value_to_group_by_is_a_group() -> None:
    found = rows("stats count(*) as c by kind | sort c desc, kind asc")
    assert found == [{"kind": "x", "c": 2}, {"kind": "y", "c": 1}, {"c": 1}]


def test_stats_of_nothing() -> None:
    assert rows("filter n = 99 | stats count(*) as c, max(n) as most") == [{"c": 0}]
    assert rows("filter n = 99 | stats count(*) as c by event") == []


def test_periods() -> None:
    found = rows("stats count(*) as c by bin(5m) as at | sort at asc")
    assert found == [
        {"at": "2026-01-31 09:00:00.000", "c": 3},
        {"at": "2026-01-31 09:05:00.000", "c": 1},
    ]


def test_percentiles_are_the_nearest_rank() -> None:
    events = [{"ts": "2026-01-31T09:00:00Z", "n": n} for n in range(1, 201)]
    assert rows("stats pct(n, 50) as p50, pct(n, 95) as p95, pct(n, 99.5) as p995", events) == [
        {"p50": 100, "p95": 190, "p995": 199}
    ]


def test_texts_that_are_numbers_count_as_such() -> None:
    events = [{"ts": "2026-01-31T09:00:00Z", "n": text} for text in ("9", "10", "x")]
    assert rows("stats sum(n) as total, max(n) as most", events) == [{"total": 19, "most": "x"}]
    assert rows("filter n > 9 and n < 11 | fields n", events) == [{"n": "10"}]


def test_only_events_since_then() -> None:
    lines = [orjson.dumps(event) for event in EVENTS]
    since = datetime(2026, 1, 31, 9, 0, 0, 500_000, tzinfo=UTC)
    assert [event["event"] for event in events_of(lines, since=since)] == ["b", "b", "c"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"START RequestId: 1",
        b"{",
        b'{"event":"no moment"}',
        b'{"ts":1}',
        b"[1]",
        b'{"ts":"20\xff"}',
    ],
)
def test_what_is_no_log_line_is_passed_over(line: bytes) -> None:
    assert list(events_of([line])) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("this is | not a query(", "'this' cannot be evaluated here"),
        ("parse @message '*'", "'parse' cannot be evaluated here"),
        ("fields a | dedup a", "'dedup' cannot"),
        ("filter", "was expected before the end"),
        ("filter a = ", "was expected before the end"),
        ("filter (a = 1", ") was expected before the end"),
        ("filter a like 5", "a regex was expected before '5'"),
        ("filter a like /(/", "no regular expression"),
        ("filter a not 5", "in or like was expected"),
        ("filter a in [1", "] was expected"),
        ("filter wat(a)", "'wat' is no function"),
        ("filter strcontains(a)", "takes 2 arguments"),
        ("fields a b", "the end or |"),
        ("fields 'open", "cannot be read"),
        ("stats stddev(a)", "'stddev' is no function of stats"),
        ("stats pct(a)", ", was expected"),
        ("stats count(*) by a | stats count(*)", "only one `stats`"),
        ("stats count(*) by bin(5x)", "cannot be read|takes a period|was expected"),
        ("limit 0", "limit is 1 to 10000"),
        ("limit 10001", "limit is 1 to 10000"),
        ("limit -1", "a number was expected"),
        ("fields a |", "a name was expected"),
        ("", "a name was expected"),
    ],
)
def test_what_is_not_understood_is_refused(query: str, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(query)
    assert any(part in caught.value.detail for part in said.split("|") if part)


# --- the saved queries ----------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES.values(), ids=list(QUERIES))
def test_a_saved_query_has_a_limit_that_can_be_changed(query: Any) -> None:
    task_id = "00000000-0000-7000-8000-000000000000"
    text = query.with_parameters(task_id=task_id, tenant_id="acme", limit=7)
    assert text.endswith("| limit 7")
    assert f'task_id = "{task_id}"' in text
    assert 'filter tenant_id = "acme"' in text
    assert "TASK_ID" not in text
    assert set(query.services) <= set(TASKS)
    parse(text)


@pytest.mark.parametrize("task_id", ['" or 1 = 1', "x", "00000000-0000-7000-8000-00000000000A"])
def test_what_is_no_id_does_not_get_into_a_query(task_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="--task"):
        QUERIES["task-story"].with_parameters(task_id=task_id)


@pytest.mark.parametrize("tenant_id", ['a" or 1 = 1', "", "a b", "x" * 129])
def test_what_can_be_no_tenant_does_not_get_into_a_query(tenant_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="--tenant"):
        QUERIES["tenant-cost"].with_parameters(tenant_id=tenant_id)


def test_a_story_needs_its_task() -> None:
    with pytest.raises(InvalidRequestError, match="--task ID"):
        QUERIES["task-story"].with_parameters()
    assert QUERIES["task-story"].saved_text.startswith("# Put the id of a task")
