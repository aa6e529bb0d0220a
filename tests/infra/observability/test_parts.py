"""Dashboard, saved queries, indexes, topic: what the template has of them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from cdk.observability import INDEXED
from taskflow.observability import catalogue
from taskflow.observability.insights import parse
from taskflow.observability.queries import QUERIES
from tests.infra.observability.conftest import STACK, Template


def groups(template: Template) -> dict[str, str]:
    """Logical ids by service."""
    return {
        group["LogGroupName"].removeprefix(f"/taskflow/{STACK}/"): name
        for name, group in template.of("AWS::Logs::LogGroup").items()
        if str(group.get("LogGroupName", "")).startswith(f"/taskflow/{STACK}/")
    }


def test_the_saved_queries_are_those_of_the_program(template: Template) -> None:
    saved = {query["Name"]: query for query in template.of("AWS::Logs::QueryDefinition").values()}
    assert set(saved) == {f"{STACK}/{name}" for name in QUERIES}
    there = groups(template)
    for name, query in QUERIES.items():
        definition = saved[f"{STACK}/{name}"]
        assert definition["QueryString"] == query.saved_text
        parse(definition["QueryString"])
        wanted = [f"<{there[service]}>" for service in query.services if service in there]
        assert definition["LogGroupNames"] == wanted
        assert wanted


def test_each_service_has_a_log_group_that_keeps_for_a_while_and_is_indexed(
    template: Template,
) -> None:
    there = groups(template)
    services = {"api", "worker", "maintenance", "dead-letters", "migrate"}
    services |= {"long-worker"} if template.profile.long_workers else set()
    assert set(there) - {"network"} == services
    for service in services:
        group = template.of("AWS::Logs::LogGroup")[there[service]]
        assert group["RetentionInDays"] == "<LogRetentionDays>"
        assert group["FieldIndexPolicies"] == [{"Fields": list(INDEXED)}]


def test_what_is_indexed_is_what_queries_filter_by() -> None:
    task = QUERIES["task-story"].with_parameters(task_id="00000000-0000-7000-8000-000000000000")
    tenant = QUERIES["tenant-cost"].with_parameters(tenant_id="acme")
    assert task.startswith("filter task_id = ")
    assert tenant.startswith("filter tenant_id = ")


def test_alarms_go_to_a_topic_which_an_address_is_subscribed_to_if_there_is_one(
    template: Template,
) -> None:
    [subscription] = template.of("AWS::SNS::Subscription").values()
    assert subscription == {
        "Endpoint": "<AlarmEmail>",
        "Protocol": "email",
        "TopicArn": "<AlarmTopic>",
    }
    assert template.body["Resources"]["AlarmSubscription"]["Condition"] == "HasAlarmEmail"
    [policy] = template.of("AWS::SNS::TopicPolicy").values()
    publish, tls = policy["PolicyDocument"]["Statement"]
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert publish["Condition"] == {"StringEquals": {"aws:SourceAccount": "<AWS::AccountId>"}}
    assert publish["Resource"] == "<AlarmTopic>"
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_outputs_name_topic_and_dashboard(template: Template) -> None:
    outputs = template.body["Outputs"]
    assert outputs["AlarmTopicArn"]["Value"] == {"Ref": "AlarmTopic"}
    assert outputs["DashboardName"]["Value"] == {"Ref": "AWS::StackName"}


# --- dashboard --------------------------------------------------------------------------------------


def lines(template: Template) -> list[list[Any]]:
    return [
        line
        for widget in template.dashboard()["widgets"]
        if widget["type"] == "metric"
        for line in widget["properties"]["metrics"]
    ]


def test_no_widget_lies_on_another(template: Template) -> None:
    widgets = template.dashboard()["widgets"]
    assert len(widgets) > 15
    for one, other in combinations(widgets, 2):
        apart_x = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        apart_y = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
        assert apart_x or apart_y
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


def test_all_alarms_are_on_the_dashboard(template: Template) -> None:
    [shown] = [w for w in template.dashboard()["widgets"] if w["type"] == "alarm"]
    told = [
        name
        for name, alarm in template.of("AWS::CloudWatch::Alarm").items()
        if alarm["AlarmActions"] == ["<AlarmTopic>"]
    ]
    assert shown["properties"]["alarms"] == [f"<{name}.Arn>" for name in told]
    assert len(told) <= 100  # of one widget


def test_every_line_is_a_metric_that_somebody_writes(template: Template) -> None:
    by_name = {metric.name: metric for metric in catalogue.METRICS}
    used = set()
    for line in lines(template):
        if isinstance(line[0], dict):
            assert f"{{{catalogue.namespace(STACK)},task}}" in line[0]["expression"]
            used.add("RunDuration")
            continue
        namespace, name, *pairs, options = line
        assert {"stat", "period", "label"} <= set(options)
        assert len(pairs) % 2 == 0
        if not namespace.startswith("AWS/"):
            assert namespace == catalogue.namespace(STACK)
            assert tuple(pairs[::2]) in by_name[name].dimensions
            used.add(name)
    assert used == set(by_name) - {"Failures"}  # by task: for those who look for one


def test_what_the_dashboard_refers_to_is_in_the_template(template: Template) -> None:
    resources = template.body["Resources"]
    for line in lines(template):
        for part in line:
            if isinstance(part, str) and part.startswith("<") and "AWS::" not in part:
                assert part.strip("<>").partition(".")[0] in resources


def test_the_template_stays_within_cloudformations_limits(template: Template) -> None:
    assert len(template.body["Resources"]) <= 500
    assert len(template.body["Outputs"]) <= 200
