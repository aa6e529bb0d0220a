"""Finds out what became of a commit that was not answered: of a transaction that must not happen twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import CommitUnknownError
from taskflow.logs import get_logger

log = get_logger(__name__)

# About ten seconds in all: a server restarts, or another takes over.
_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2)

R = TypeVar("R")


def until_known(
    database: Database,
    write: Callable[[Transaction], R],
    happened: Callable[[Transaction, R], bool],
    *,
    durable: bool = True,
    patient: bool = False,
) -> R:
    """What ``write`` returned, in a transaction that has been committed, and only once.

    When the connection breaks in the commit, ``happened`` looks on a new one for what ``write`` would have left
    behind; if it is not there, ``write`` runs again. What it inserts must clash with itself: then a commit that is
    still under way somewhere makes the repetition fail, which is found to have happened at the next look. Raises
    CommitUnknownError when no connection can be had for so long that nobody would wait.
    """
    try:
        with database.write(durable=durable, patient=patient) as tx:
            result = write(tx)
    except CommitUnknownError as exc:
        unknown = exc
    else:
        return result
    for pause in _PAUSES_SECONDS:
        time.sleep(pause)
        try:
            with database.write(durable=durable, patient=patient) as tx:
                if not happened(tx, result):
                    result = write(tx)
        except Exception as exc:  # noqa: BLE001 - away still, or a clash with itself: the next look tells
            log.debug("commit.unknown", error=str(exc))
        else:
            log.info("commit.known")
            return result
    raise unknown
