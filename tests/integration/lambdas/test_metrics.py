"""What functions measure, as CloudWatch finds it among their logs: with each invocation, and nothing unless asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.lambdas.conftest import Cloud
from tests.support.emf_schema import validate
from tests.support.lambda_events import alb
from tests.support.lambda_runtime import FunctionError, LambdaFunction

pytestmark = pytest.mark.xdist_group("lambdas-metrics")  # they share a cloud and functions

JSON = {"content-type": "application/json"}


def measured(function: LambdaFunction) -> dict[str, Any]:
    """The newest value of every metric that the function has written; each line is valid."""
    found: dict[str, Any] = {}
    for line in function.output().splitlines():
        if line.startswith('{"_aws"'):
            document = json.loads(line)
            validate(line, document)
            which = document.get("priority") or document.get("task")
            for directive in document["_aws"]["CloudWatchMetrics"]:
                for metric in directive["Metrics"]:
                    name = f"{metric['Name']} {which}" if which else metric["Name"]
                    found[name] = document[metric["Name"]]
                    found["service"] = document.get("service", found.get("service"))
                    found["namespace"] = directive["Namespace"]
    return found


def test_a_worker_writes_what_its_invocation_did(cloud: Cloud) -> None:
    worker = cloud.function("worker", metrics_emf=True)
    cloud.submit("lambda_echo", 1)
    cloud.submit("lambda_raise", "no")
    source = cloud.source()
    assert source.invoke(worker, source.receive(2)) == []
    found = measured(worker)
    assert (found["Completed"], found["Failed"], found["Failures lambda_raise"]) == (1, 1, 1)
    assert len(found["QueueWait normal"]) == 2
    assert all(value >= 0 for value in found["RunDuration lambda_echo"])
    assert found["service"] == "lambda-worker"
    assert found["namespace"] == f"TaskFlow/{cloud.runtime.settings.queue_prefix}"


def test_maintenance_says_how_late_everything_is_and_that_it_was_there(cloud: Cloud) -> None:
    maintenance = cloud.function("maintenance", metrics_emf=True)
    cloud.submit("lambda_echo", 1, delay=1_200)
    cloud.execute("UPDATE outbox SET due_at = taskflow_now() - 90000000")
    cloud.execute("UPDATE tasks SET run_at = taskflow_now() - 90000000 WHERE status = 'scheduled'")
    assert maintenance.invoke({})["relayed"] == 1
    found = measured(maintenance)
    assert (found["OutboxPending"], found["Heartbeat"]) == (1, 1)
    assert 90 <= found["OutboxLag"] < 300
    assert 90 <= found["OldestWaiting normal"] < 300
    assert found["OldestWaiting critical"] == 0
    maintenance.invoke({})
    found = measured(maintenance)
    assert (found["OutboxPending"], found["OutboxLag"]) == (0, 0)


def test_a_store_that_is_away_is_no_heartbeat(cloud: Cloud) -> None:
    maintenance = cloud.function("maintenance", metrics_emf=True)
    maintenance.invoke({})
    before = maintenance.output().count("Heartbeat")
    with cloud.store_away(), pytest.raises(FunctionError, match="StoreUnavailableError"):
        maintenance.invoke({})
    assert maintenance.output().count("Heartbeat") == before


def test_the_api_counts_submissions(cloud: Cloud) -> None:
    api = cloud.function("api", metrics_emf=True)
    body = json.dumps({"task": "lambda_echo", "args": [1]}).encode()
    assert api.invoke(alb("POST", "/api/v1/tasks", headers=JSON, body=body))["statusCode"] == 202
    assert api.invoke(alb("POST", "/api/v1/tasks", headers=JSON, body=b"{}"))["statusCode"] == 422
    assert measured(api)["Submitted"] == 1


def test_nothing_is_written_unless_asked_for(cloud: Cloud, worker: LambdaFunction) -> None:
    cloud.submit("lambda_echo", 1)
    source = cloud.source()
    source.invoke(worker, source.receive(1))
    assert measured(worker) == {}
