"""A process that has imported everything and has no threads, and forks the processes that tests kill.

Starting Python and importing TaskFlow takes most of a second; a fork takes a few milliseconds, so that hundreds of
rounds of start and kill are affordable. What is forked is a real process: nothing of TaskFlow has been opened before.

    python fork_server.py <descriptor of a seqpacket socket>
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Any, NoReturn

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_LONGEST_REQUEST = 65_536
_IMPORTED_BEFORE = (
    "taskflow.api.app",
    "taskflow.api.server",
    "taskflow.app",
    "taskflow.adapters.clock.system",
    "taskflow.adapters.liveness.files",
    "taskflow.adapters.metadata.inspection",
    "taskflow.adapters.metadata.insights",
    "taskflow.adapters.metadata.maintenance",
    "taskflow.adapters.metadata.migrate",
    "taskflow.adapters.metadata.tasks",
    "taskflow.adapters.metadata.workers",
    "taskflow.adapters.payloads.files",
    "taskflow.adapters.queue.detached",
    "taskflow.adapters.queue.local",
    "taskflow.cli.program",
    "taskflow.handlers",
    "tests.acceptance.crash.programs",
    "tests.acceptance.faults.programs",
    "alembic.command",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)


def main(descriptor: int) -> None:
    """Answers `start` with a process id, `reap` with how the process ended, until the socket is closed."""
    control = socket.socket(fileno=descriptor)
    for name in _IMPORTED_BEFORE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _LONGEST_REQUEST, 1)
        if not request:
            return
        wanted = json.loads(request)
        if "reap" in wanted:
            _, status = os.waitpid(wanted["reap"], 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            control.close()
            _become(wanted, socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _become(wanted: dict[str, Any], channel: socket.socket) -> NoReturn:
    code = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        log = os.open(wanted["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for name, value in wanted["environment"].items():
            os.environ[name] = value
        if wanted["powerless"]:
            _drop_privileges()
        module, _, function = wanted["call"].partition(":")
        getattr(importlib.import_module(module), function)(channel, **wanted["arguments"])
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _drop_privileges() -> None:
    """From now on permissions of files count for root as they do for everybody: no capabilities, capset(2)."""
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main(int(sys.argv[1]))
