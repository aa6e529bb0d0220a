"""Has imported deploy.py and forks its runs, so that a test can afford many: `forking.py < requests`.

A request is a line of JSON, ``{"arguments", "environment", "directory", "input", "output", "errors"}``; the answers are
its process id, and how the process ended: an exit code, or minus a signal. What is forked is a real process, to be
killed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

import boto3  # noqa: F401 - imported once, for all
import httpx  # noqa: F401
import rich.progress  # noqa: F401

from deployment.cli.program import main


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: dict[str, Any]) -> NoReturn:
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for descriptor, name in enumerate(("input", "output", "errors")):
        path = request[name]
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags, 0o600), descriptor)
    sys.argv = ["deploy.py", *request["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
