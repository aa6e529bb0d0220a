"""Python's garbage collector in processes that are TaskFlow's own: a program that embeds it decides for itself."""

from __future__ import annotations

import gc

_THRESHOLD = 20_000  # new objects between collections: about 100 requests in flight


def settle() -> None:
    """For the end of a start. Python's collector is set up for scripts. What is loaded by now stays for good: processes
    that have called `gc.disable` first have not even looked for garbage in it, which is a sixth of a start. And 32
    requests that wait for one commit, or what a worker has claimed, look like garbage to it: full collections of 95 ms
    each (docs/decisions/http-server.md)."""
    gc.freeze()
    gc.set_threshold(_THRESHOLD, *gc.get_threshold()[1:])
    gc.enable()
