"""Time series of CloudWatch, as alarms and dashboard name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aws_cdk as aws
from aws_cdk import aws_cloudwatch as cloudwatch

from taskflow.observability.catalogue import Metric, namespace

PROGRAM = namespace(aws.Aws.STACK_NAME)


@dataclass(frozen=True)
class Series:
    """``stat``: Sum, Maximum, Average, … or p99."""

    namespace: str
    name: str
    stat: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    period_seconds: int = 60

    def alarm_dimensions(self) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
        return [
            cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)
            for name, value in self.dimensions.items()
        ]

    def query(self, id_: str) -> cloudwatch.CfnAlarm.MetricDataQueryProperty:
        """For the expression of an alarm."""
        alarm = cloudwatch.CfnAlarm
        return alarm.MetricDataQueryProperty(
            id=id_,
            return_data=False,
            metric_stat=alarm.MetricStatProperty(
                stat=self.stat,
                period=self.period_seconds,
                metric=alarm.MetricProperty(
                    namespace=self.namespace,
                    metric_name=self.name,
                    dimensions=self.alarm_dimensions(),
                ),
            ),
        )

    def line(self, label: str, **options: Any) -> list[Any]:
        """For a widget of a dashboard."""
        pairs = [part for pair in self.dimensions.items() for part in pair]
        return [
            self.namespace,
            self.name,
            *pairs,
            {"stat": self.stat, "period": self.period_seconds, "label": label, **options},
        ]


def program(metric: Metric, stat: str, **dimensions: str) -> Series:
    """One that the program writes itself (EMF). Raises ValueError for dimensions that it does not write."""
    if tuple(dimensions) not in metric.dimensions:
        raise ValueError(f"{metric.name} is not written by {tuple(dimensions)}")
    return Series(PROGRAM, metric.name, stat, dimensions)


def queue(name: str, queue_name: str, stat: str) -> Series:
    return Series("AWS/SQS", name, stat, {"QueueName": queue_name})


def function(name: str, function_name: str, stat: str) -> Series:
    return Series("AWS/Lambda", name, stat, {"FunctionName": function_name})


def database(name: str, instance: str, stat: str) -> Series:
    return Series("AWS/RDS", name, stat, {"DBInstanceIdentifier": instance})


def load_balancer(name: str, full_name: str, stat: str, **more: str) -> Series:
    return Series("AWS/ApplicationELB", name, stat, {"LoadBalancer": full_name, **more})
