from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskflow.core.task import TaskPriority
from taskflow.ports.metadata import TaskCounts
from taskflow.ports.queue import QueueDepth
from taskflow.services.counters import Counters, Latencies
from taskflow.services.exposition import exposition


def test_quantiles_are_nearest_ranks() -> None:
    latencies = Latencies()
    latencies.add([float(n) for n in range(100, 0, -1)])
    summary = latencies.summary()
    assert summary == {
        "count": 100, "mean": 50.5, "p50": 50.0, "p95": 95.0, "p99": 99.0, "min": 1.0, "max": 100.0,
    }  # fmt: skip


def test_one_sample_is_every_quantile() -> None:
    latencies = Latencies()
    latencies.add([7.0])
    summary = latencies.summary()
    assert {summary[name] for name in ("mean", "p50", "p95", "p99", "min", "max")} == {7.0}


def test_without_samples_there_are_no_numbers() -> None:
    assert Latencies().summary() == {
        "count": 0, "mean": None, "p50": None, "p95": None, "p99": None, "min": None, "max": None,
    }  # fmt: skip


def test_only_the_newest_samples_are_kept_but_all_are_counted() -> None:
    latencies = Latencies()
    latencies.add([1_000.0] * 5_000)
    for _ in range(41):
        latencies.add([1.0] * 100)
    summary = latencies.summary()
    assert (summary["count"], summary["max"]) == (9_100, 1.0)


def test_totals_from_many_threads_add_up() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(500):
            counters.submitted({"a": 1, "b": 2})
            counters.started({("a", 1): [1.0]})
            counters.finished(
                {("a", "completed"): [2.0], ("a", "retrying"): [1.0]},
                {("transient", "retrying"): 1},
            )
            counters.rejected("queue_full")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = counters.snapshot()["totals"]
    assert (totals["enqueued"], totals["dequeued"]) == (6_000, 2_000)
    assert (totals["succeeded"], totals["retried"], totals["rejected"]) == (2_000, 2_000, 2_000)
    assert counters.snapshot()["errors_by_class"] == {"transient": 2_000}


def exposed(counters: Counters) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(
        counters.measured(),
        counts=TaskCounts({"pending": 7}, {}, None, None),
        depths={TaskPriority.HIGH: QueueDepth(1, 2, 3)},
        workers=[],
    ).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_prometheus_reads_is_what_was_counted() -> None:
    counters = Counters()
    counters.submitted({'odd"name\\': 3})
    counters.finished({("a", "failed"): [1_500.0]}, {("permanent", "failed"): 1})
    counters.abandoned()
    samples = exposed(counters)
    assert samples["taskflow_tasks_submitted_total", (("task", 'odd"name\\'),)] == 3
    finished = (("outcome", "failed"), ("task", "a"))
    assert samples["taskflow_attempts_finished_total", finished] == 1
    assert samples["taskflow_task_run_seconds_sum", (("task", "a"),)] == pytest.approx(1.5)
    assert samples["taskflow_threads_abandoned_total", ()] == 1
    assert samples["taskflow_outcomes_fenced_total", ()] == 0
    assert samples["taskflow_tasks", (("status", "pending"),)] == 7
    assert samples["taskflow_queue_depth", (("priority", "high"), ("state", "in_flight"))] == 3


def test_a_histogram_counts_what_is_up_to_each_bound() -> None:
    counters = Counters()
    counters.started({("a", 0): [0.5, 0.6], ("a", 1): [1_000.0, 400_000.0]})
    samples = exposed(counters)

    def up_to(bound: str) -> float:
        return samples["taskflow_task_wait_seconds_bucket", (("le", bound), ("task", "a"))]

    assert [up_to(bound) for bound in ("0.0005", "0.001", "1.0", "300.0", "+Inf")] == [
        1,
        2,
        3,
        3,
        4,
    ]
    assert samples["taskflow_task_wait_seconds_count", (("task", "a"),)] == 4
    assert samples["taskflow_task_wait_seconds_sum", (("task", "a"),)] == pytest.approx(401.0011)
