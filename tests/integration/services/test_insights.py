"""Numbers for people and for Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from taskflow.core.task import DEFAULT_TENANT
from taskflow.ports.metadata import SILENT_SECONDS, WorkerRecord
from tests.integration.services.conftest import Engine, Engines, noop


def busy(engine: Engine) -> None:
    """Two completed, one failed, one retrying, one running, two waiting, one of them delayed."""
    task = engine.handler(noop)
    for _ in range(2):
        engine.submit(task, priority="high")
    for attempt in engine.start():
        engine.clock.advance(0.25)
        engine.succeed(attempt, None, 10.0)
    engine.submit(task)
    engine.fail(engine.start_one(), ValueError(), 5.0)
    engine.submit(task, delay=600)
    engine.submit(task)
    engine.fail(engine.start_one(), ConnectionError(), 5.0)
    engine.submit(task, priority="low")
    engine.start(1)
    engine.submit(task, priority="critical")
    engine.clock.advance(3)


def test_metrics_count_what_there_is_and_what_has_happened(engine: Engine) -> None:
    busy(engine)
    metrics = engine.runtime.insights.metrics(DEFAULT_TENANT)
    counts = {name: n for name, n in metrics["queue"].items() if n}
    assert counts.pop("oldest_waiting_seconds") >= 3
    assert counts == {
        "completed_count": 2,
        "failed_count": 1,
        "retrying_count": 1,
        "running_count": 1,
        "pending_count": 1,
        "scheduled_count": 1,
        "depth": 3,
    }
    assert metrics["active_by_priority"] == {"critical": 1, "high": 0, "normal": 2, "low": 1}
    assert metrics["mean_duration_ms"] == 10.0
    totals = {name: n for name, n in metrics["totals"].items() if n}
    assert totals == {
        "enqueued": 7, "dequeued": 5, "succeeded": 2, "failed": 1, "retried": 1,
    }  # fmt: skip
    assert metrics["latency_ms"]["run"]["count"] == 4
    assert metrics["latency_ms"]["run"]["max"] == 10.0
    assert metrics["errors_by_class"] == {"permanent": 1, "transient": 1}


def test_counts_hold_across_processes_and_restarts_totals_are_this_ones(engines: Engines) -> None:
    busy(engines())
    metrics = engines().runtime.insights.metrics(None)
    assert metrics["queue"]["completed_count"] == 2
    assert set(metrics["totals"].values()) == {0}


def test_stats_is_the_short_form(engine: Engine) -> None:
    busy(engine)
    record = WorkerRecord("w", "host", 1, 0, 0, "running", {"total": 4, "busy": 1})
    engine.runtime.stores.workers.report(record)
    engine.runtime.stores.workers.report(record._replace(worker_id="v", status="stopped"))
    assert engine.runtime.insights.stats() == {
        "queue_size": 3,
        "running": 1,
        "completed": 2,
        "failed": 1,
        "workers": {"processes": 1, "total": 4, "busy": 1, "idle": 3},
    }


def test_a_worker_that_says_nothing_any_more_does_not_count_as_running(engine: Engine) -> None:
    insights, workers = engine.runtime.insights, engine.runtime.stores.workers
    killed = WorkerRecord("killed", "host", 1, 0, 0, "running", {"total": 4, "busy": 1})
    workers.report(killed)
    workers.report(killed._replace(worker_id="stopped", status="stopped"))
    engine.clock.advance(SILENT_SECONDS - 1)
    workers.report(killed._replace(worker_id="draining", status="draining"))
    assert insights.stats()["workers"]["processes"] == 1
    engine.clock.advance(2)
    workers.report(killed._replace(worker_id="alive"))
    one = {"processes": 1, "total": 4, "busy": 1, "idle": 3}
    assert insights.stats()["workers"] == insights.metrics(None)["workers"] == one
    statuses = {worker.worker_id: worker.status for worker in insights.workers()}
    assert statuses == {
        "killed": "silent", "stopped": "stopped", "draining": "draining", "alive": "running",
    }  # fmt: skip
    text = insights.prometheus().decode()
    for status in ("running", "draining", "stopped", "silent"):
        assert f'taskflow_workers{{status="{status}"}} 1.0' in text


def test_prometheus_reads_what_is_exposed(engine: Engine) -> None:
    busy(engine)
    engine.runtime.stores.workers.report(WorkerRecord("w", "h", 1, 0, 0, "draining", {}))
    text = engine.runtime.insights.prometheus().decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    assert all(family.name.startswith("taskflow_") for family in families)
    samples = {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["taskflow_tasks", "status=completed"] == 2
    assert samples["taskflow_tasks", "status=blocked"] == 0
    assert samples["taskflow_workers", "status=draining"] == 1
    assert samples["taskflow_queue_depth", "priority=critical", "state=ready"] == 1
    assert samples["taskflow_queue_depth", "priority=low", "state=in_flight"] == 1
    assert samples["taskflow_queue_oldest_age_seconds",] >= 3
    assert samples["taskflow_attempts_finished_total", "outcome=completed", "task=noop"] == 2
    labels = {name for family in families for s in family.samples for name in s.labels}
    assert not labels & {"tenant_id", "task_id"}
