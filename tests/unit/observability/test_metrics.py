"""Metrics come together in bounded memory and are written in CloudWatch's embedded metric format."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import pytest

from taskflow.core.task import ErrorClass
from taskflow.observability import catalogue, emf
from taskflow.observability.metrics import Metrics
from tests.support.emf_schema import validate


class Written:
    """Metrics, and the documents that they wrote, each of which has been validated."""

    def __init__(self, most_tasks: int = 3) -> None:
        self.lines: list[str] = []
        self.metrics = Metrics(
            namespace=catalogue.namespace("taskflow-prod"),
            service="worker",
            most_tasks=most_tasks,
            now_us=lambda: 1_767_225_600_123_456,
            rng=random.Random(7),
            write=self.lines.append,
        )

    def flush(self) -> list[dict[str, Any]]:
        self.lines.clear()
        self.metrics.flush()
        documents = [json.loads(line) for line in self.lines]
        for line, document in zip(self.lines, documents, strict=True):
            validate(line, document)
        return documents

    def values(self) -> dict[tuple[str, str], Any]:
        """By metric, and the value of the dimension that tells it apart."""
        found = {}
        for document in self.flush():
            which = document.get("priority") or document.get("task") or ""
            for directive in document["_aws"]["CloudWatchMetrics"]:
                for metric in directive["Metrics"]:
                    found[metric["Name"], which] = document[metric["Name"]]
        return found


@pytest.fixture
def written() -> Written:
    return Written()


def test_attempts_become_waits_by_priority_runs_by_task_and_outcomes(written: Written) -> None:
    written.metrics.started({("send", 0): [1.5, 2.0], ("resize", 2): [700.25]})
    written.metrics.finished(
        {
            ("send", "completed"): [10.0, 20.0],
            ("send", "retrying"): [5.0],
            ("resize", "failed"): [1.0],
        },
        {("timed_out", "retrying"): 1, ("permanent", "failed"): 1},
    )
    assert written.values() == {
        ("QueueWait", "critical"): [1.5, 2.0],
        ("QueueWait", "normal"): [700.25],
        ("RunDuration", "send"): [10.0, 20.0, 5.0],
        ("RunDuration", "resize"): [1.0],
        ("Failures", "resize"): 1,
        ("Completed", ""): 2,
        ("Retried", ""): 1,
        ("Failed", ""): 1,
        ("RetriesTimedOut", ""): 1,
    }


def test_attempts_of_dead_workers_have_an_outcome_but_no_run_time(written: Written) -> None:
    written.metrics.lost({("send", "failed"): 2, ("send", "cancelled"): 1, ("send", "pending"): 5})
    assert written.values() == {("Failed", ""): 2, ("Cancelled", ""): 1, ("Failures", "send"): 2}


def test_a_document_names_its_deployment_its_moment_and_its_dimensions(written: Written) -> None:
    written.metrics.leases_lost(2)
    written.metrics.recovered(1)
    [document] = written.flush()
    assert document["_aws"]["Timestamp"] == 1_767_225_600_123
    assert document["_aws"]["CloudWatchMetrics"] == [
        {
            "Namespace": "TaskFlow/taskflow-prod",
            "Dimensions": [[], ["service"]],
            "Metrics": [{"Name": "LeasesLost", "Unit": "Count"}],
        },
        {
            "Namespace": "TaskFlow/taskflow-prod",
            "Dimensions": [[]],
            "Metrics": [{"Name": "Recovered", "Unit": "Count"}],
        },
    ]
    assert (document["service"], document["LeasesLost"], document["Recovered"]) == ("worker", 2, 1)


def test_nothing_is_written_twice_and_nothing_when_nothing_happened(written: Written) -> None:
    assert written.flush() == []
    written.metrics.submitted({"a": 1, "b": 2})
    assert written.values() == {("Submitted", ""): 3}
    assert written.flush() == []


def test_a_gauge_is_written_though_it_is_zero(written: Written) -> None:
    written.metrics.gauge(catalogue.OLDEST_WAITING, 12.0, priority="low")
    written.metrics.gauge(catalogue.OLDEST_WAITING, 0.0, priority="low")
    assert written.values() == {("OldestWaiting", "low"): 0.0}


def test_any_number_of_values_becomes_a_sample_with_the_largest(written: Written) -> None:
    written.metrics.started({("send", 1): [float(n) for n in range(50_000)]})
    [values] = written.values().values()
    assert len(values) <= 100
    assert max(values) == 49_999.0
    assert (
        15_000 < sum(values) / len(values) < 35_000
    )  # from all of them, not the first or the last
    assert len(set(values)) == len(values)


def test_tasks_beyond_the_limit_share_one_metric(written: Written) -> None:
    for number in range(6):
        written.metrics.finished({(f"task-{number}", "failed"): [float(number)]}, {})
    found = written.values()
    assert {which for name, which in found if name == "RunDuration"} == {
        "task-0",
        "task-1",
        "task-2",
        "other",
    }
    assert found["Failures", "other"] == 3
    written.metrics.finished({("task-5", "completed"): [1.0]}, {})
    assert ("RunDuration", "other") in written.values()  # nor later


def test_names_that_cloudwatch_would_refuse_are_made_fit(written: Written) -> None:
    written.metrics.finished({("größe ändern", "completed"): [1.0]}, {})
    assert ("RunDuration", "gr??e ?ndern") in written.values()


def test_more_metrics_than_fit_into_a_line_are_written_in_several() -> None:
    values = {catalogue.Metric(f"M{n}", "Count", ""): [0.001] * 100 for n in range(250)}
    lines = emf.lines(values, namespace="TaskFlow/x", dimensions={}, timestamp_ms=1)
    assert len(lines) == 3
    for line in lines:
        validate(line, json.loads(line))


def test_threads_lose_no_count(written: Written) -> None:
    def count() -> None:
        for _ in range(500):
            written.metrics.finished({("a", "completed"): [1.0]}, {})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written.values()["Completed", ""] == 2_000


def test_every_class_of_error_that_is_retried_has_a_metric() -> None:
    never_retried = {ErrorClass.PERMANENT, ErrorClass.CANCELLED}
    assert set(catalogue.RETRIES) == {kind.value for kind in set(ErrorClass) - never_retried}


def test_dimensions_are_few_and_never_ids_or_tenants() -> None:
    used = {name for metric in catalogue.METRICS for names in metric.dimensions for name in names}
    assert used == {"service", "priority", "task"}
    assert len({metric.name for metric in catalogue.METRICS}) == len(catalogue.METRICS)
