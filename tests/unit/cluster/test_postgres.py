"""What is said of the database of a cluster."""

from __future__ import annotations

import pytest

from taskflow.cluster.postgres import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:geheim@db:5432/tasks", "postgresql://ann:***@db:5432/tasks"),
        ("postgresql://ann:ge:h@im@db/tasks", "postgresql://ann:***@db/tasks"),
        ("postgresql://db/tasks?user=ann&password=geheim", "postgresql://db/tasks?user=ann&password=***"),
        ("postgresql://db/t?sslpassword=geheim&sslmode=require", "postgresql://db/t?sslpassword=***&sslmode=require"),
        ("postgresql://ann@db/tasks", "postgresql://ann@db/tasks"),
        ("postgresql://db/tasks?host=/run/postgresql", "postgresql://db/tasks?host=/run/postgresql"),
    ],
)  # fmt: skip
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
