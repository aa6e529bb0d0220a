"""A PostgreSQL of a test's own that may be stopped, killed and started again on the same data: durable, as in use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2

from taskflow.cluster import postgres


class Cluster:
    """It keeps its data and its port from one start to the next."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{postgres.SUPERUSER}@127.0.0.1:{self._port}/postgres"

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        self._process, url = postgres.start(self.directory, port=self._port)
        self._port = urlsplit(url).port or 0

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT is ``-m immediate``: as a crash, recovered from at the next start. SIGINT is ``-m fast``."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def execute(self, statement: str) -> None:
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def serve_tls(self, certificate: Path, key: Path) -> None:
        data = self.directory / "data"
        owner = (data / "PG_VERSION").stat()
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            target = Path(shutil.copyfile(source, data / name))
            os.chown(target, owner.st_uid, owner.st_gid)
            target.chmod(0o600)
        self.execute("ALTER SYSTEM SET ssl = on")
        self.execute("SELECT pg_reload_conf()")
        self.stop(signal.SIGINT)
        self.start()

    def ask_for_password(self, user: str) -> None:
        """Of ``user``; everybody else is let in without."""
        access = self.directory / "data" / "pg_hba.conf"
        access.write_text(
            f"host all {user} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        )
        self.execute("SELECT pg_reload_conf()")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A started one."""
    directory = Path(tempfile.mkdtemp(prefix="taskflow-cluster-"))
    made = Cluster(directory)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)
