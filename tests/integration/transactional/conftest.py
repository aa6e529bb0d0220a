"""An app, and a caller with a table of its own in the same database, on each kind of connection that can be joined."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from taskflow.app import TaskFlow
from taskflow.core.registry import Registry, TaskOptions


@dataclass
class Caller:
    """``connection`` is given to `submit`; the rest is what the caller does on it."""

    url: str
    connection: Any

    def insert(self, number: int) -> None:
        text = f"INSERT INTO orders (id) VALUES ({number})"
        if isinstance(self.connection, sa.Connection | orm.Session):
            self.connection.execute(sa.text(text))
        else:
            self.connection.cursor().execute(text)

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def orders(self) -> list[int]:
        """As anybody else sees them."""
        engine = sa.create_engine(self.url.replace("postgresql:", "postgresql+psycopg2:"))
        try:
            with engine.connect() as other:
                return list(other.scalars(sa.text("SELECT id FROM orders ORDER BY id")))
        finally:
            engine.dispose()


POSTGRESQL = (
    "psycopg2",
    "psycopg",
    "sqlalchemy-postgresql+psycopg2",
    "sqlalchemy-postgresql+psycopg",
    "session-postgresql+psycopg2",
)
KINDS = (*POSTGRESQL, "sqlite3", "sqlalchemy-sqlite")


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("postgres_store"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if "sqlite" in kind:
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgresql_url"))


def _fail() -> None:
    raise ValueError("no")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What `waits_for_gate` waits for."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def app(url: str, tmp_path: Path, gate: threading.Event) -> Iterator[TaskFlow]:
    registry = Registry()
    registry.add(lambda x=None: x, name="echo_back", declared=TaskOptions())
    registry.add(_fail, name="fails", declared=TaskOptions(max_retries=0))
    registry.add(lambda: gate.wait(30), name="waits_for_gate", declared=TaskOptions())
    registry.add(lambda connection: connection, name="takes_connection", declared=TaskOptions())
    app = TaskFlow(
        home=tmp_path / "home", database_url=url, handlers=registry, num_workers=1,
        inline_payload_bytes=100,
    )  # fmt: skip
    with app:
        yield app


@pytest.fixture
def caller(app: TaskFlow, kind: str, url: str) -> Iterator[Caller]:
    with app.runtime.database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
    with ExitStack() as closing:
        yield Caller(url, connect(kind, url, closing))


def connect(kind: str, url: str, closing: ExitStack) -> Any:
    if kind == "psycopg2":
        driver = psycopg2.connect(url)
        closing.callback(driver.close)
        return driver
    if kind == "psycopg":
        newer = psycopg.connect(url)
        closing.callback(newer.close)
        return newer
    if kind == "sqlite3":
        file = sqlite3.connect(url.removeprefix("sqlite:///"))
        closing.callback(file.close)
        return file
    engine = sa.create_engine(sa.make_url(url).set(drivername=kind.split("-")[1]))
    closing.callback(engine.dispose)
    if kind.startswith("session"):
        return closing.enter_context(orm.Session(engine))
    return closing.enter_context(engine.connect())
