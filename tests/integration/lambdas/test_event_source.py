"""The worker function as MiniStack's Lambda runs it: its own event source mapping polls the queues."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.lambdas.conftest import Cloud, eventually
from tests.support import aws
from tests.support.lambda_runtime import ROOT

# The code stays where it is; what is uploaded only leads to it.
_SHIM = f"""
import sys
sys.path[:0] = {[str(ROOT), *(path for path in sys.path if path)]!r}
from lambdas.worker import handler
"""


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud], ministack_url: str) -> Cloud:
    return make_cloud(endpoint=ministack_url)


@pytest.fixture
def mapping(cloud: Cloud, ministack_url: str) -> Iterator[None]:
    """Messages of the normal queue go to the function, ten at a time."""
    functions: Any = aws.client("lambda", ministack_url)
    name = aws.unique("taskflow-worker")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("shim.py", _SHIM)
    functions.create_function(
        FunctionName=name,
        Runtime=f"python3.{sys.version_info.minor}",
        Role="arn:aws:iam::123456789012:role/taskflow",
        Handler="shim.handler",
        Code={"ZipFile": code.getvalue()},
        Timeout=60,
        Environment={"Variables": cloud.environment},
    )
    source = functions.create_event_source_mapping(
        FunctionName=name,
        EventSourceArn=cloud.source().arn,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    try:
        yield
    finally:
        functions.delete_event_source_mapping(UUID=source["UUID"])
        functions.delete_function(FunctionName=name)
        functions.close()


@pytest.mark.slow
@pytest.mark.usefixtures("mapping")
def test_tasks_run_when_the_event_source_brings_their_messages(cloud: Cloud) -> None:
    cloud.source().send("not one of ours")
    tasks = [cloud.submit("lambda_echo", n) for n in range(15)]
    failing, retried = cloud.submit("lambda_raise", "no"), cloud.submit("lambda_retry")
    wanted = ["completed"] * 15 + ["failed", "failed"]
    eventually(lambda: cloud.status(*tasks, failing, retried) == wanted)
    assert [cloud.get(task).result for task in tasks] == list(range(15))
    assert cloud.get(retried).failure_count == 4
    eventually(lambda: cloud.waiting() == (0, 0))
    [dead] = cloud.source(dead=True).receive(1)
    assert dead["body"] == "not one of ours"
    assert "not JSON" in dead["messageAttributes"]["reason"]["stringValue"]
