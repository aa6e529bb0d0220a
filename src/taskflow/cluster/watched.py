"""Runs a Python program that ends when the process that started it does, however that ended.

Run as a file: ``python -P watched.py FD SIGNAL module:function ARGUMENT…``. FD is the reading end of a pipe whose other
end only the parent holds: it ends when the parent is gone, also by `kill -9`. The program shares this process, so
that what is killed is what was meant.
"""

import os
import signal
import sys
import threading
from importlib import import_module


def main() -> None:
    descriptor, number, entry = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    sys.argv[:4] = [entry]
    os.set_inheritable(descriptor, False)
    threading.Thread(
        target=_watch, args=(descriptor, number), name="taskflow-parent", daemon=True
    ).start()
    module, _, function = entry.partition(":")
    getattr(import_module(module), function)()


def _watch(descriptor: int, number: int) -> None:
    try:
        os.read(descriptor, 1)
    finally:
        if number == signal.SIGKILL:
            os.killpg(os.getpgrp(), number)  # with what it started; it leads a group of its own
        else:
            os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
