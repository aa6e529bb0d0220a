"""The login comes from Secrets Manager, and a rotation is noticed by the next connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.metadata import secret
from taskflow.app import TaskFlow
from taskflow.core.errors import ConfigurationError, StoreUnavailableError
from taskflow.core.registry import Registry, TaskOptions
from tests.support import aws
from tests.support.postgres_cluster import Cluster, cluster


@pytest.fixture(autouse=True)
def surroundings(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.environment(moto_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(secret, "_MOST_OFTEN_SECONDS", 0.0)


@pytest.fixture
def manager(moto_url: str) -> Iterator[Any]:
    client = aws.client("secretsmanager", moto_url)
    yield client
    client.close()


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    with cluster() as started:
        started.execute("CREATE USER app PASSWORD 'first'")
        started.execute("CREATE DATABASE store OWNER app")
        started.ask_for_password("app")
        yield started


def content(postgres: Cluster, password: str, **changes: Any) -> str:
    """As RDS writes it."""
    return json.dumps(
        {
            "engine": "postgres", "username": "app", "password": password, "host": "127.0.0.1",
            "port": postgres.port, "dbname": "store", **changes,
        }
    )  # fmt: skip


def stored(manager: Any, text: str) -> str:
    """Its ARN."""
    arn: str = manager.create_secret(Name=aws.unique("database"), SecretString=text)["ARN"]
    return arn


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(lambda x=None: x, name="echo_back", declared=TaskOptions())
    return registry


def drop_connections(postgres: Cluster) -> None:
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")


def test_a_rotation(postgres: Cluster, manager: Any, registry: Registry, tmp_path: Path) -> None:
    arn = stored(manager, content(postgres, "first"))
    with TaskFlow(home=tmp_path, database_secret_arn=arn, handlers=registry, num_workers=1) as app:
        assert app.submit("echo_back", 1).result(timeout=30) == 1
        postgres.execute("ALTER USER app PASSWORD 'second'")
        drop_connections(postgres)
        with pytest.raises(StoreUnavailableError, match="password authentication failed"):
            app.submit("echo_back", 2)
        manager.put_secret_value(SecretId=arn, SecretString=content(postgres, "second"))
        assert app.submit("echo_back", 3).result(timeout=30) == 3


def test_a_secret_without_an_address_takes_it_from_the_url(
    postgres: Cluster, manager: Any, registry: Registry, tmp_path: Path
) -> None:
    """As RDS makes them when it manages the password itself; and the URL may name a proxy instead of the database."""
    for text in (
        json.dumps({"username": "app", "password": "first"}),
        content(postgres, "first", host="192.0.2.1"),
    ):
        app = TaskFlow(
            home=tmp_path, database_url=f"postgresql://127.0.0.1:{postgres.port}/store",
            database_secret_arn=stored(manager, text), handlers=registry, num_workers=0,
        )  # fmt: skip
        with app:
            assert app.submit("echo_back", 1).task().status == "pending"


@pytest.mark.parametrize("text", ["hunter2", "[1, 2]", '{"username": "app"}'])
def test_a_secret_of_another_form(manager: Any, tmp_path: Path, text: str) -> None:
    arn = stored(manager, text)
    with pytest.raises(ConfigurationError, match="username and password") as error:
        TaskFlow(home=tmp_path, database_secret_arn=arn).start()
    assert text not in str(error.value)


def test_a_secret_that_is_not_there(manager: Any, tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-AbCdEf"
    with pytest.raises(ConfigurationError, match="secretsmanager:GetSecretValue"):
        TaskFlow(home=tmp_path, database_secret_arn=arn).start()
    with pytest.raises(ConfigurationError, match="not the ARN of a secret"):
        TaskFlow(home=tmp_path, database_secret_arn="none").start()


def test_secrets_manager_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-AbCdEf"
    with pytest.raises(StoreUnavailableError, match="Secrets Manager did not answer"):
        TaskFlow(home=tmp_path, database_secret_arn=arn).start()
