"""Fixtures every kind of test may use. Everything here is real: no mocks of our own classes."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from taskflow import logs
from taskflow.settings import Settings
from taskflow.testing.clock import FakeClock
from tests.support import aws, backends, database_time, postgres, run
from tests.support.store_pool import StorePool

# How long an example takes says more about the machine's other work than about our code.
hypothesis.settings.register_profile("taskflow", deadline=None)
hypothesis.settings.load_profile("taskflow")

_RUN_IS_OURS = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RUN_IS_OURS] = run.begin()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background: every process that a test starts would ignore Ctrl-C as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A developer's settings must not decide whether tests pass: neither those of the environment nor those of .env.
    Settings.model_config["env_file"] = None
    for name in [name for name in os.environ if name.startswith("TASKFLOW_")]:
        if not name.startswith("TASKFLOW_TEST_"):
            del os.environ[name]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # So that no test of a minute begins when all others are done.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        # Where pytest-xdist 3.8 writes a test's group, pytest 9.2 no longer looks: groups fell apart.
        grouped, structured = getattr(item, "_nodeid", None), getattr(item, "_id", None)
        if grouped is not None and structured is not None:
            item._id = type(structured).parse(grouped)  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    # Thousands of tests and their modules, which the collector would look through again and again.
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.stash.get(_RUN_IS_OURS, False):
        run.end()


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """`logs.configure` is for whole processes; this one goes on."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if root.handlers == handlers:
        return
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logs.QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def postgres_server() -> postgres.Postgres:
    """The PostgreSQL of this test run. Its `template` and `create` make prepared databases cheap."""
    return postgres.server()


@pytest.fixture
def postgres_url_factory(postgres_server: postgres.Postgres) -> Iterator[Callable[..., str]]:
    """``make()`` or ``make(template=name)``: URLs of new databases, dropped after the test."""
    made: list[str] = []

    def make(*, template: str | None = None) -> str:
        made.append(postgres_server.create(template=template))
        return made[-1]

    yield make
    for url in made:
        postgres_server.drop(url)


@pytest.fixture
def postgres_database(postgres_url_factory: Callable[..., str]) -> str:
    """URL of a fresh empty database."""
    return postgres_url_factory()


@pytest.fixture(scope="session")
def postgres_stores(postgres_server: postgres.Postgres) -> Iterator[StorePool]:
    """Databases with TaskFlow's tables, of this process."""
    pool = StorePool(postgres_server, backends.migrated(postgres_server))
    yield pool
    pool.close()


@pytest.fixture
def postgres_store_factory(postgres_stores: StorePool) -> Iterator[Callable[[], str]]:
    """``make()``: URLs of databases with TaskFlow's tables and no rows."""
    taken: list[str] = []

    def make() -> str:
        taken.append(postgres_stores.take())
        return taken[-1]

    yield make
    for url in taken:
        postgres_stores.give_back(url)


@pytest.fixture
def postgres_store(postgres_store_factory: Callable[[], str]) -> str:
    """URL of a database with TaskFlow's tables and no rows."""
    return postgres_store_factory()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def timed_store(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[dict[str, Any]]:
    """Settings beside the home: every test that asks for it runs on both databases, and ``clock`` is their time."""
    if request.param == "sqlite":
        yield {}
        return
    url: str = request.getfixturevalue("postgres_store")
    with database_time.following(clock, url):
        yield {"database_url": url}


@pytest.fixture(scope="session")
def moto_url() -> str:
    """Endpoint of this run's moto server. Shared: use names of your own (`tests.support.aws.unique`)."""
    return aws.endpoint("moto")


@pytest.fixture(scope="session")
def ministack_url() -> str:
    """Endpoint of this run's MiniStack server. Shared: use names of your own (`tests.support.aws.unique`)."""
    return aws.endpoint("ministack")


@pytest.fixture(scope="session")
def emulated_aws(ministack_url: str) -> Iterator[backends.Emulated]:
    """MiniStack: moto's SQS becomes slow with the number of messages."""
    emulated = backends.Emulated(ministack_url)
    yield emulated
    emulated.close()


@pytest.fixture
def aws_role() -> str:
    """Which role of the template this process is in, on AWS: what that does not allow is refused."""
    return "WorkerRole"


@pytest.fixture(params=["local", "aws"])
def backend(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, aws_role: str
) -> Iterator[dict[str, Any]]:
    """Settings beside the home: every test that asks for it runs on local backends, and on SQS, S3 and PostgreSQL."""
    if request.param == "local":
        yield {}
        return
    emulated: backends.Emulated = request.getfixturevalue("emulated_aws")
    yield from _settings(request, monkeypatch, aws_role, emulated, emulated.everything)


@pytest.fixture(params=["local", "aws"])
def stores(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, aws_role: str
) -> Iterator[dict[str, Any]]:
    """The same for tests that take tasks from the local queue step by step: S3 and PostgreSQL."""
    if request.param == "local":
        yield {}
        return
    emulated: backends.Emulated = request.getfixturevalue("emulated_aws")
    yield from _settings(request, monkeypatch, aws_role, emulated, emulated.stores)


def _settings(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    aws_role: str,
    emulated: backends.Emulated,
    make: Callable[[str], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    settings = make(request.getfixturevalue("postgres_store"))
    prefix = settings.get("queue_prefix") or aws.unique("behaviour")
    identity = emulated.identity(aws_role, prefix)
    for name, value in aws.environment(emulated.url, identity).items():
        monkeypatch.setenv(name, value)
    yield settings
    assert emulated.refused(identity) == []
