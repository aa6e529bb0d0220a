"""The worker function on SQS events, over Lambda's runtime protocol."""

from __future__ import annotations

from tests.integration.lambdas.conftest import Cloud
from tests.support.lambda_runtime import LambdaFunction


def test_a_batch_of_tasks_is_run_and_forgotten(cloud: Cloud, worker: LambdaFunction) -> None:
    tasks = [cloud.submit("lambda_echo", {"n": n}) for n in range(10)]
    source = cloud.source()
    records = source.receive(10)
    assert len(records) == 10
    assert source.invoke(worker, records) == []
    assert [cloud.get(task).result for task in tasks] == [{"n": n} for n in range(10)]
    assert source.receive() == []
    assert cloud.count("outbox") == 0
