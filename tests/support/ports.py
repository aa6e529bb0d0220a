"""Ports for programs that are told theirs."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

# Below those that systems give away (Linux: from 32768): what anybody connects from or listens on by chance is not one
# of these, and no other process of the test run has this part of them.
_FIRST, _EACH, _PARTS = 10_000, 2_000, 11
_part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
_of_part = range(_FIRST + _part * _EACH, _FIRST + (_part + 1) * _EACH)
_start = random.randrange(_EACH)  # another test run may be going on
_candidates: Iterator[int] = itertools.cycle([*_of_part[_start:], *_of_part[:_start]])


def free_port() -> int:
    """Nobody listens there, and nobody is going to by chance."""
    for port in itertools.islice(_candidates, _EACH):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
