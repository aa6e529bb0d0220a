"""A bucket of its own for each test, on each emulator, reached as a program with AWS's variables would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from taskflow.adapters.payloads.s3 import S3Payloads
from taskflow.bootstrap import build_payload_store, provision_bucket
from taskflow.settings import Settings, load
from tests.support import aws


@dataclass
class Bucket:
    """``s3`` is a plain boto3 client, to look at what is there and to harm it."""

    name: str
    settings: Settings
    store: S3Payloads
    s3: Any

    def objects(self) -> list[str]:
        return [o["Key"] for o in self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])]


@pytest.fixture
def at_endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """AWS's own variables, so that everything of AWS is at this address."""

    def point(url: str) -> None:
        for name, value in aws.environment(url).items():
            monkeypatch.setenv(name, value)

    return point


@pytest.fixture(params=["moto", "ministack"])
def emulator_url(request: pytest.FixtureRequest, at_endpoint: Callable[[str], None]) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    at_endpoint(url)
    return url


@pytest.fixture
def bucket(emulator_url: str) -> Iterator[Bucket]:
    name = aws.unique("bucket")
    settings = load(payload_backend="s3", s3_bucket=name, s3_prefix="tf")
    assert provision_bucket(settings)
    store = cast("S3Payloads", build_payload_store(settings))
    s3 = aws.client("s3", emulator_url)
    yield Bucket(name, settings, store, s3)
    store.close()
    s3.close()
