"""The cluster's PostgreSQL: a process that starts the server, and takes it along when it ends.

Arguments: a directory for its files, which is removed at the end; the port; the name of a database to create; a file
for the server's log, which stays.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from taskflow.cluster.postgres import PostgresMissingError, create_database, start

_OPTIONS = ("max_connections=200",)


def main() -> None:
    directory, port, name, log = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    happened, happens = os.pipe()
    for number, news in ((signal.SIGTERM, b"s"), (signal.SIGINT, b"s"), (signal.SIGCHLD, b"c")):
        signal.signal(number, lambda *_, news=news: os.write(happens, news))
    try:
        server, url = start(directory, port=port, options=_OPTIONS, log=log)
        create_database(url, name)
    except PostgresMissingError as exc:
        print(exc.detail, file=sys.stderr)  # noqa: T201 - into the log file of this process
        raise SystemExit(1) from exc
    while b"s" not in os.read(happened, 1_024):
        if server.poll() is not None:
            raise SystemExit(1)  # the files stay: the next start goes on with them
    server.send_signal(signal.SIGQUIT)  # at once: what it would write is thrown away
    server.wait()
    shutil.rmtree(directory, ignore_errors=True)
