"""Submits in a transaction and waits to be killed, or to be told to commit: `python program.py URL HOME`."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import psycopg2

from taskflow.app import TaskFlow
from taskflow.core.registry import Registry, TaskOptions

url, home = sys.argv[1], Path(sys.argv[2])
registry = Registry()
registry.add(lambda x=None: x, name="echo_back", declared=TaskOptions())
connection: Any = (
    sqlite3.connect(url.removeprefix("sqlite:///")) if "sqlite" in url else psycopg2.connect(url)
)
with TaskFlow(home=home, database_url=url, handlers=registry, num_workers=0) as app:
    connection.cursor().execute("INSERT INTO orders (id) VALUES (1)")
    handle = app.submit("echo_back", 7, connection=connection)
    print(handle.id, flush=True)
    sys.stdin.readline()
    connection.commit()
    print("committed", flush=True)
    sys.stdin.readline()
