"""Arguments over the inline limit are kept before their row: where they cannot be, there is no row."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import sqlalchemy as sa

from taskflow.app import TaskFlow
from taskflow.core.errors import StoreUnavailableError
from taskflow.core.registry import Registry, TaskOptions
from tests.integration.python_api.conftest import serving
from tests.support import aws

LARGE = "x" * 1_000


class Payloads(NamedTuple):
    settings: dict[str, Any]
    refuse: Callable[[], None]
    take_again: Callable[[], None]


@pytest.fixture(params=["files", "s3"])
def payloads(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Payloads]:
    """Where they are kept, and how to make it refuse them."""
    if request.param == "files":
        directory = tmp_path / "home" / "payloads"

        def block() -> None:
            shutil.rmtree(directory, ignore_errors=True)
            directory.write_text("no directory")

        yield Payloads({}, block, directory.unlink)
        return
    url: str = request.getfixturevalue("moto_url")
    request.getfixturevalue("at_endpoint")(url)
    s3, name = aws.client("s3", url), aws.unique("refused")
    s3.create_bucket(Bucket=name)
    yield Payloads(
        {"payload_backend": "s3", "s3_bucket": name},
        lambda: s3.delete_bucket(Bucket=name),
        lambda: s3.create_bucket(Bucket=name),
    )
    s3.close()


def rows(app: TaskFlow) -> dict[str, int]:
    tables = ("tasks", "task_inputs", "outbox", "events", "idempotency_keys")
    with app.runtime.database.read() as connection:
        return {
            table: connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0
            for table in tables
        }


def test_a_submission_whose_payload_is_refused_leaves_nothing(
    payloads: Payloads, tmp_path: Path
) -> None:
    registry = Registry()
    registry.add(lambda text: text, name="repeat", declared=TaskOptions())
    app = TaskFlow(
        home=tmp_path / "home", handlers=registry, num_workers=0, inline_payload_bytes=100,
        **payloads.settings,
    )  # fmt: skip
    body = {"task": "repeat", "args": [LARGE], "idempotency_key": "once"}
    with app, serving(app) as url:
        before = rows(app)
        payloads.refuse()
        with pytest.raises(StoreUnavailableError):
            app.submit("repeat", LARGE)
        refused = httpx.post(f"{url}/api/v1/tasks", json=body)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert rows(app) == before == dict.fromkeys(before, 0)
        payloads.take_again()
        assert httpx.post(f"{url}/api/v1/tasks", json=body).status_code == 202
        assert rows(app)["tasks"] == 1
