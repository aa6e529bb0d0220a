"""How many connections a process holds, what it says when they are used up, and how long a statement may take."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psycopg2
import pytest

from taskflow.adapters.clock.system import SystemClock
from taskflow.adapters.metadata.database import Database
from taskflow.app import TaskFlow
from taskflow.core.errors import ConfigurationError, StatementTimeoutError, StoreUnavailableError
from taskflow.core.registry import Registry, TaskOptions
from tests.support.ports import free_port
from tests.support.postgres import BLOCKED
from tests.support.postgres_cluster import Cluster, cluster
from tests.support.server import ServerProcess, serving
from tests.support.waiting import wait_for

TASKFLOW = Path(sys.executable).with_name("taskflow")
UNKNOWN = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"


@contextmanager
def api(
    database_url: str, directory: Path, command: str = "api", **settings: object
) -> Iterator[ServerProcess]:
    environment = {f"TASKFLOW_{name.upper()}": str(value) for name, value in settings.items()}
    with serving(
        directory,
        command=(TASKFLOW, command),
        environment={"TASKFLOW_DATABASE_URL": database_url, **environment},
    ) as server:
        yield server


def echoing() -> Registry:
    registry = Registry()
    registry.add(lambda x=None: x, name="echo_back", declared=TaskOptions())
    return registry


class Watched:
    """Looks all the time at who is connected; ``most``: at once, by application_name."""

    def __init__(self, url: str) -> None:
        self.most: Counter[str] = Counter()
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        with closing(psycopg2.connect(self._url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            while not self._stop.is_set():
                cursor.execute(
                    "SELECT application_name, count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1"
                )
                for name, count in cursor.fetchall():
                    self.most[name] = max(self.most[name], count)
                self._stop.wait(0.002)


async def ask(port: int, number: int) -> Counter[int]:
    """``number`` requests on as many connections, all at once; how many got which status."""
    submission = b'{"task": "echo"}'
    requests = [
        b"GET /api/v1/tasks",
        f"GET /api/v1/tasks/{UNKNOWN}".encode(),
        b"GET /api/v1/metrics",
        *[b"POST /api/v1/tasks"] * 2,
    ]

    async def one(index: int) -> int:
        line = requests[index % len(requests)]
        body = submission if line.startswith(b"POST") else b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"%b HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (line, len(body), body)
        )
        answer = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return int(answer.split(maxsplit=2)[1])

    return Counter(await asyncio.gather(*map(one, range(number))))


@pytest.mark.parametrize(("command", "name"), [("api", "taskflow-api"), ("dev", "taskflow-worker")])
def test_never_more_than_the_pool_under_500_concurrent_requests(
    command: str, name: str, postgres_store: str, tmp_path: Path
) -> None:
    # What has to wait for a connection waits: how long 500 take is the machine's affair.
    patient = {"database_pool_timeout_seconds": 60}
    with (
        api(postgres_store, tmp_path, command, **patient) as server,
        Watched(postgres_store) as watched,
    ):
        statuses = asyncio.run(ask(server.port, 500))
    assert statuses == {202: 200, 200: 200, 404: 100}
    # A connection that is being set up has no name yet.
    [named] = filter(None, watched.most)
    assert named.startswith(name)
    assert 1 <= watched.most[named] <= 5
    if command == "dev":
        assert f"-{server.process.pid}-" in named


@contextmanager
def locked(url: str) -> Iterator[Callable[[], None]]:
    """The table of tasks, so that everybody has to wait. Yields what waits until somebody does."""
    with closing(psycopg2.connect(url)) as holder, closing(psycopg2.connect(url)) as observer:
        holder.cursor().execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        observer.autocommit = True

        def until_somebody_waits() -> None:
            wait_for(is_anybody_waiting, "somebody waits for the lock")

        def is_anybody_waiting() -> bool:
            cursor = observer.cursor()
            cursor.execute(BLOCKED)
            [waiting] = cursor.fetchone() or [0]
            return bool(waiting)

        yield until_somebody_waits


def test_a_pool_that_is_used_up_is_503_and_worth_another_try(
    postgres_store: str, tmp_path: Path
) -> None:
    with (
        api(
            postgres_store, tmp_path, database_pool_size=1, database_max_overflow=0,
            database_pool_timeout_seconds=2.0,
        ) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):  # fmt: skip
        answers: list[httpx.Response] = []
        first = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{server.url}/tasks/{UNKNOWN}", timeout=60))
        )
        with locked(postgres_store) as until_somebody_waits:
            first.start()
            until_somebody_waits()
            refused = client.get(f"/tasks/{UNKNOWN}")
        first.join()
        assert (refused.status_code, refused.json()["code"]) == (503, "store_busy")
        assert refused.headers["retry-after"] == "1"
        assert "TASKFLOW_DATABASE_POOL_SIZE" in refused.json()["detail"]
        assert [answer.status_code for answer in answers] == [404]
        assert client.post("/tasks", json={"task": "echo"}).status_code == 202


def test_of_several_hosts_in_libpqs_form_the_one_that_can_be_written_is_taken(
    postgres_store: str, tmp_path: Path
) -> None:
    url = (
        postgres_store.replace("@", f"@127.0.0.1:{free_port()},")
        + "?target_session_attrs=read-write"
    )
    with TaskFlow(home=tmp_path, database_url=url, handlers=echoing(), num_workers=1) as app:
        assert app.submit("echo_back", 7).result(timeout=30) == 7


def test_whatever_encoding_the_surroundings_ask_for_texts_arrive(
    postgres_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with TaskFlow(
        home=tmp_path, database_url=postgres_store, handlers=echoing(), num_workers=1
    ) as app:
        assert app.submit("echo_back", "grüße 😀").result(timeout=30) == "grüße 😀"


def test_a_statement_that_takes_too_long_is_given_up(postgres_store: str, tmp_path: Path) -> None:
    with (
        api(postgres_store, tmp_path, database_statement_timeout_seconds=1.0) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with locked(postgres_store):
            answers = [
                client.get(f"/tasks/{UNKNOWN}"),
                client.get("/api/v1/tasks"),
                client.post("/tasks", json={"task": "echo"}),
            ]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert "TASKFLOW_DATABASE_STATEMENT_TIMEOUT_SECONDS" in answer.json()["detail"]
        assert client.post("/tasks", json={"task": "echo"}).status_code == 202


@pytest.mark.parametrize(
    "words",
    ["storniere Anfrage wegen Zeitüberschreitung der Anfrage", "annulation de la requête"],
)
def test_a_statement_that_was_given_up_is_known_in_any_language(
    postgres_store: str, words: str
) -> None:
    given_up = f"DO $$ BEGIN RAISE '{words}' USING ERRCODE = 'query_canceled'; END $$"
    with (
        closing(Database(postgres_store, clock=SystemClock())) as database,
        pytest.raises(StatementTimeoutError, match=words),
        database.write() as tx,
    ):
        tx.run_text(given_up, ())


def test_one_connection_is_enough_for_everything(postgres_store: str, tmp_path: Path) -> None:
    app = TaskFlow(
        home=tmp_path / "home", database_url=postgres_store, handlers=echoing(), num_workers=2,
        database_pool_size=1, database_max_overflow=0,
    )  # fmt: skip
    with Watched(postgres_store) as watched, app:
        assert [h.result(timeout=30) for h in app.submit_many([("echo_back", [7], {})] * 20)] == [
            7
        ] * 20
        assert len(app.list(limit=10).items) == 10
        assert app.metrics()["queue"]["completed_count"] == 20
        app.backups.backup(tmp_path / "backup.jsonl")
        assert list(app.doctor.examine())
    assert set(watched.most.values()) == {1}


@pytest.fixture
def own_postgres() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


CERTIFICATES = Path(__file__).parents[2] / "support" / "tls"


@pytest.mark.parametrize("setting", ["TASKFLOW_DATABASE_URL", "TASKFLOW_DATABASE_REPLICA_URL"])
def test_an_option_that_libpq_does_not_know_is_told_with_the_setting_it_is_in(
    setting: str, tmp_path: Path
) -> None:
    urls = {
        name: f"postgresql://127.0.0.1/db{'?sslmod=require' if name == setting else ''}"
        for name in ("TASKFLOW_DATABASE_URL", "TASKFLOW_DATABASE_REPLICA_URL")
    }
    app = TaskFlow(
        home=tmp_path,
        database_url=urls["TASKFLOW_DATABASE_URL"],
        database_replica_url=urls["TASKFLOW_DATABASE_REPLICA_URL"],
    )
    with pytest.raises(ConfigurationError, match=f'{setting}: .*"sslmod"'):
        app.start()


def test_tls_is_as_the_settings_say(own_postgres: Cluster, tmp_path: Path) -> None:
    plain = own_postgres.url
    with pytest.raises(StoreUnavailableError, match="SSL"):
        TaskFlow(home=tmp_path, database_url=plain, database_tls="require").start()
    # What the URL says itself wins.
    with TaskFlow(
        home=tmp_path, database_url=f"{plain}?sslmode=disable", database_tls="require"
    ) as app:
        assert app.list().items == []
    own_postgres.serve_tls(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    strict = {
        "database_tls": "verify-full",
        "database_tls_root_cert": str(CERTIFICATES / "server.pem"),
    }
    with pytest.raises(StoreUnavailableError, match="does not match host name"):
        TaskFlow(home=tmp_path, database_url=plain, **strict).start()
    named = plain.replace("127.0.0.1", "service.example") + "?hostaddr=127.0.0.1"
    question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with (
        TaskFlow(home=tmp_path, database_url=named, **strict) as app,
        app.runtime.database.read() as connection,
    ):
        assert connection.exec_driver_sql(question).scalar()
