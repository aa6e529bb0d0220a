"""The task that is measured: nothing but a small JSON argument in, a small result out."""

from __future__ import annotations

from taskflow import task


@task
def noop(n: int) -> int:
    """Returns its argument."""
    return n
