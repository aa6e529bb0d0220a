"""What `deploy.py status` counts as not well: alarms of which a person is told, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from tests.infra.deploy.conftest import Small
from tests.support import aws

pytestmark = pytest.mark.timeout(600)

_TOPIC = {"Ref": "AlarmTopic"}
_SCALES = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:1:resource/ecs/service/c/s:policyName/in"


def _alarm(actions: Sequence[Any], *, enabled: bool = True) -> dict[str, Any]:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "Namespace": "AWS/SQS",
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "ComparisonOperator": "LessThanOrEqualToThreshold",
            "Threshold": 0,
            "EvaluationPeriods": 1,
            "Period": 60,
            "Statistic": "Maximum",
            "ActionsEnabled": enabled,
            "AlarmActions": actions,
        },
    }


_TEMPLATE = {
    "Resources": {
        "AlarmTopic": {"Type": "AWS::SNS::Topic"},
        "Told": _alarm([_TOPIC]),
        "NoLongTasksWait": _alarm([_SCALES]),  # as cdk/long_workers.py makes it
        "WhilePaused": _alarm([_TOPIC], enabled=False),  # as cdk/alarms.py does without Serving
    },
    "Outputs": {"AlarmTopicArn": {"Value": _TOPIC}},
}


@pytest.fixture
def alarms(stage: Small) -> Iterator[dict[str, str]]:
    """Logical id → name of the alarms of a stack that was made by hand."""
    with closing(aws.client("cloudformation", stage.proxy.url)) as client:
        client.create_stack(StackName=stage.stack, TemplateBody=json.dumps(_TEMPLATE))
        client.get_waiter("stack_create_complete").wait(
            StackName=stage.stack, WaiterConfig={"Delay": 1}
        )
        resources = client.describe_stack_resources(StackName=stage.stack)["StackResources"]
        yield {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources}
        client.delete_stack(StackName=stage.stack)


def _ring(stage: Small, name: str) -> None:
    with closing(aws.client("cloudwatch", stage.proxy.url)) as client:
        client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="it rings")


def test_an_idle_or_paused_stack_is_well_though_its_alarms_for_scaling_are_on(
    stage: Small, alarms: dict[str, str]
) -> None:
    for name in ("NoLongTasksWait", "WhilePaused"):
        _ring(stage, alarms[name])
    found = stage.deploy.good("status", *stage.common, "--json").json
    assert (found["is_well"], found["alarms"]) == (True, [])


def test_an_alarm_that_somebody_is_told_of_makes_it_unwell(
    stage: Small, alarms: dict[str, str]
) -> None:
    _ring(stage, alarms["NoLongTasksWait"])
    _ring(stage, alarms["Told"])
    done = stage.deploy.run("status", *stage.common)
    assert done.code == 1
    assert f"alarm {alarms['Told']}: it rings" in done.output
    assert alarms["NoLongTasksWait"] not in done.output
