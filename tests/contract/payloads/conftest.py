"""Every adapter of the payload port, empty, and a second one on the same objects (another process, as it were)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskflow.adapters.payloads.files import FilePayloads
from taskflow.adapters.payloads.s3 import S3Payloads
from taskflow.adapters.payloads.s3_bucket import provision
from taskflow.adapters.payloads.s3_client import s3_client
from taskflow.ports.payloads import PayloadStore
from tests.support import aws

OpenStore = Callable[[], PayloadStore]


@pytest.fixture(params=["files", "s3-moto", "s3-ministack"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store each time it is called; all of them are closed after the test."""
    if request.param == "files":
        yield lambda: FilePayloads(tmp_path / "payloads")
        return
    made: list[S3Payloads] = []
    with pytest.MonkeyPatch.context() as patch:
        url = request.getfixturevalue(f"{request.param.removeprefix('s3-')}_url")
        for name, value in aws.environment(url).items():
            patch.setenv(name, value)
        bucket = aws.unique("payloads")
        # A client costs a quarter of a second, whatever it is for: two are as good as many.
        clients = [s3_client(region=aws.REGION, connections=32) for _ in range(2)]
        provision(
            clients[0],
            bucket=bucket,
            prefix="tf/",
            region=aws.REGION,
            encryption="AES256",
            kms_key="",
        )

        def make() -> PayloadStore:
            made.append(
                S3Payloads(clients[len(made) % 2], bucket=bucket, prefix="tf/", max_transfers=8)
            )
            return made[-1]

        yield make
        for store in made:
            store.close()
        for client in clients:
            client.close()


@pytest.fixture
def store(open_store: OpenStore) -> PayloadStore:
    return open_store()
