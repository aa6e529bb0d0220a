"""Every queue is watched by its own numbers, every alarm reaches the topic, and expressions say what they mean."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cdk.profiles import PROFILES
from taskflow.observability import catalogue
from tests.infra.observability.conftest import STACK, Template

ALARM = "AWS::CloudWatch::Alarm"
TOLD = "AlarmTopic"


def alarms(template: Template) -> dict[str, dict[str, Any]]:
    """Those that tell somebody; others scale."""
    return {
        name.removesuffix("Alarm"): alarm
        for name, alarm in template.of(ALARM).items()
        if alarm["AlarmActions"] == [f"<{TOLD}>"]
    }


def watched(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """``Namespace``, ``MetricName``, ``Dimensions`` and ``Period`` of each series of an alarm."""
    if "MetricName" in alarm:
        return [alarm]
    stats = [query["MetricStat"] for query in alarm["Metrics"] if "MetricStat" in query]
    return [stat["Metric"] | {"Period": stat["Period"]} for stat in stats]


def value(alarm: dict[str, Any], **measured: float | None) -> float:
    """What the alarm's expression is when these are the newest values (None: no data)."""
    [expression] = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
    python = (
        expression.replace("IF(", "choose(").replace("FILL(", "fill(").replace(" AND ", " and ")
    )
    names: dict[str, Any] = {
        **measured,
        "choose": lambda condition, yes, no: yes if condition else no,
        "fill": lambda one, otherwise: otherwise if one is None else one,
    }
    return float(eval(python, {"__builtins__": {}}, names))


def queues(template: Template) -> dict[str, tuple[Any, bool]]:
    """Titles of all queues, with their row of the table and whether they are for long tasks."""
    profile = template.profile
    found = {row.priority.title(): (row, False) for row in profile.queues}
    if profile.long_workers is not None:
        found |= {f"Long{row.priority.title()}": (row, True) for row in profile.queues}
    return found


def test_each_queue_of_the_template_has_its_alarms(template: Template) -> None:
    names = set(alarms(template))
    kinds = ["OldestMessage", "DeadLetters"]
    if template.profile.alarms.all_of_each_queue:
        kinds += ["InFlight", "Stalled", "Growth"]
    for title in queues(template):
        assert {f"{title}{kind}" for kind in kinds} <= names
    in_template = {
        re.sub(r"^.*?-", "", queue["QueueName"].removeprefix(STACK))
        for queue in template.of("AWS::SQS::Queue").values()
        if not queue["QueueName"].endswith("-dead")
    }
    assert (
        len(queues(template))
        == len(in_template)
        == len([n for n in names if n.endswith("OldestMessage")])
    )


def test_how_old_a_message_may_be_is_the_queues_own_number(template: Template) -> None:
    found = alarms(template)
    for title, (row, is_long) in queues(template).items():
        alarm = found[f"{title}OldestMessage"]
        assert alarm["Threshold"] == (row.long_age_slo_seconds if is_long else row.age_slo_seconds)
        assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (3, 5)
        for series in watched(alarm):
            assert series["Dimensions"] == [
                {"Name": "QueueName", "Value": f"<{title}Queue.QueueName>"}
            ]


def test_an_alarm_watches_the_dead_letters_of_its_queue(template: Template) -> None:
    for title in queues(template):
        for series in watched(alarms(template)[f"{title}DeadLetters"]):
            assert series["Dimensions"][0]["Value"] == f"<{title}DeadLetters.QueueName>"


def test_everybody_is_told_while_it_serves_and_missing_data_is_no_breach_but_of_a_heartbeat(
    template: Template,
) -> None:
    for name, alarm in alarms(template).items():
        assert alarm["OKActions"] == [f"<{TOLD}>"]
        assert alarm["ActionsEnabled"] == {"Fn::If": ["IsServing", True, False]}
        has_to_be_there = name in ("Heartbeat", "HealthyInstances")
        assert alarm["TreatMissingData"] == ("breaching" if has_to_be_there else "notBreaching")
        assert len(alarm["AlarmDescription"]) > 30


def test_what_aws_facts_asks_for_is_there(template: Template) -> None:
    names = set(alarms(template))
    assert {
        "Heartbeat", "OutboxLag", "LeasesLost", "ServerErrors", "DatabaseCpu", "DatabaseConnections",
        "DatabaseStorage", "DatabaseTransactionIds", "MigrateFunctionErrors",
    } <= names  # fmt: skip
    for priority in catalogue.PRIORITIES:
        assert f"{priority.title()}TaskWaiting" in names
    functions = ["Worker", "Maintenance", "DeadLetters"]
    functions += [] if template.profile.has_containers else ["Api"]
    for function in functions:
        assert {
            f"{function}Function{kind}" for kind in ("Errors", "Throttles", "Duration")
        } <= names
    assert ("HealthyInstances" in names) == template.profile.has_containers


def test_functions_are_slow_before_their_timeout(template: Template) -> None:
    functions = template.of("AWS::Lambda::Function")
    for name, alarm in alarms(template).items():
        if name.endswith("FunctionDuration"):
            timeout = functions[name.removesuffix("Duration")]["Timeout"]
            assert alarm["Threshold"] == timeout * 800
            assert alarm["ExtendedStatistic"] == "p99"
            assert alarm["Dimensions"][0]["Value"] == f"<{name.removesuffix('Duration')}>"


def test_the_programs_own_metrics_are_those_that_it_writes(template: Template) -> None:
    by_name = {metric.name: metric for metric in catalogue.METRICS}
    used = set()
    for alarm in alarms(template).values():
        for series in watched(alarm):
            if not series["Namespace"].startswith("AWS/"):
                assert series["Namespace"] == catalogue.namespace(STACK)
                dimensions = tuple(d["Name"] for d in series.get("Dimensions", []))
                assert dimensions in by_name[series["MetricName"]].dimensions
                used.add(series["MetricName"])
    assert used == {"OldestWaiting", "OutboxLag", "LeasesLost", "Heartbeat"}


def test_limits_of_cloudwatch(template: Template) -> None:
    """CloudWatch User Guide: ten series in an alarm, a day of evaluation, names of series begin in lower case."""
    for alarm in alarms(template).values():
        series = watched(alarm)
        assert len(series) <= 10
        assert alarm["EvaluationPeriods"] * max(one["Period"] for one in series) <= 86_400
        assert alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]
        for query in alarm.get("Metrics", []):
            assert re.fullmatch(r"[a-z][A-Za-z0-9_]*", query["Id"])
        returned = [query for query in alarm.get("Metrics", []) if query["ReturnData"]]
        assert len(returned) == ("Metrics" in alarm)


# --- what the expressions say, on a profile that has all of them ------------------------------------


@pytest.fixture
def standard(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    from tests.infra.observability.conftest import _read

    return alarms(_read("standard"))


def test_a_message_is_old_only_while_something_waits(standard: dict[str, Any]) -> None:
    alarm = standard["LongNormalOldestMessage"]
    assert value(alarm, visible=0, age=40_000) == 0  # a long task that runs
    assert value(alarm, visible=3, age=4_000) == 4_000
    assert value(alarm, visible=None, age=None) == 0


def test_a_dead_letter_is_seen_though_it_was_taken_up_at_once(standard: dict[str, Any]) -> None:
    alarm = standard["HighDeadLetters"]
    assert value(alarm, waiting=0, received=1) > alarm["Threshold"]
    assert value(alarm, waiting=1, received=None) > alarm["Threshold"]
    assert value(alarm, waiting=None, received=None) <= alarm["Threshold"]


def test_stalled_is_waiting_without_anything_getting_done(standard: dict[str, Any]) -> None:
    alarm = standard["HighStalled"]
    assert value(alarm, visible=5, deleted=None) == 1
    assert value(alarm, visible=5, deleted=2) == 0
    assert value(alarm, visible=0, deleted=0) == 0
    assert value(standard["LongHighStalled"], visible=5, deleted=0, held=1) == 0  # a long one runs
    assert value(standard["LongHighStalled"], visible=5, deleted=0, held=0) == 1


def test_growth_is_more_coming_than_going_beyond_what_workers_hold(
    standard: dict[str, Any],
) -> None:
    profile = PROFILES["standard"]
    [row] = [row for row in profile.queues if row.priority == "normal"]
    capacity = row.function_concurrency * row.batch_size
    alarm = standard["NormalGrowth"]
    assert value(alarm, sent=10, deleted=9, visible=capacity + 1) == 1
    assert value(alarm, sent=10, deleted=9, visible=capacity) == 0
    assert value(alarm, sent=9, deleted=9, visible=capacity + 1) == 0
    assert profile.long_workers is not None
    slots = profile.long_workers.max_count * profile.long_workers.slots
    assert value(standard["LongLowGrowth"], sent=1, deleted=None, visible=slots + 1) == 1


def test_errors_of_the_load_balancer_count_like_the_apis(standard: dict[str, Any]) -> None:
    assert value(standard["ServerErrors"], balancer=2, api=None) == 2
    assert value(standard["ServerErrors"], balancer=2, api=3) == 5
