"""Where measurements take place: a process of their own, a home of their own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call it in a new interpreter, so that no run inherits another's memory, threads or caches."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


@contextmanager
def home(stored: Path | None = None) -> Iterator[Path]:
    """A directory for one run: empty, or a copy of ``stored``. What was written before is on disk when it begins."""
    with tempfile.TemporaryDirectory(prefix="taskflow-benchmark-") as name:
        directory = Path(name) / "home"
        if stored is None:
            directory.mkdir()
        else:
            shutil.copytree(stored, directory)
        os.sync()
        yield directory
