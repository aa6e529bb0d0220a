"""Several things that happen at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable


def at_once(*work: Callable[[], object]) -> list[BaseException]:
    """All begin at the same moment. Returns what they raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(work))

    def run(item: Callable[[], object]) -> None:
        barrier.wait()
        try:
            item()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(item,)) for item in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
