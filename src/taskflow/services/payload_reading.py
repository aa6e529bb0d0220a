"""Stored tasks with their payloads, as far as these can be read."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from taskflow import logs
from taskflow.core.errors import PayloadCorruptError, PayloadMissingError, StoreUnavailableError
from taskflow.core.task import Task
from taskflow.ports.metadata import StoredTask
from taskflow.services.payloads import Payloads

log = logs.get_logger(__name__)


def with_payloads(
    stored: Sequence[StoredTask],
    payloads: Payloads,
    *,
    results_matter: bool = False,
    links: bool = False,
) -> list[Task]:
    """What cannot be read is None, and logged: a damaged file, or a payload store that is away, must not hide a task,
    nor a page of them, from those who look for it. With ``results_matter`` an unreadable result raises. ``links``: see
    `Tasks`.
    """
    if links:
        stored = [_with_link(item, payloads) for item in stored]
    wanted = [
        key for item in stored for key in (item.input_key, item.result_key) if key is not None
    ]
    try:
        texts = _load_readable(wanted, payloads)
    except StoreUnavailableError as exc:
        if results_matter and any(item.result_key is not None for item in stored):
            raise
        texts = {}
        log.warning("payloads.unreachable", count=len(wanted), error=exc.detail)
    for task, input_key, result_key in stored:
        if input_key is not None:
            known = texts.get(input_key)
            task.args, task.kwargs = (None, None) if known is None else orjson.loads(known)
        if result_key is not None and result_key in texts:
            task.result = orjson.loads(texts[result_key])
        elif result_key is not None and results_matter:
            payloads.load([result_key])
    return [item.task for item in stored]


def _with_link(stored: StoredTask, payloads: Payloads) -> StoredTask:
    if stored.result_key is None or (url := payloads.url(stored.result_key)) is None:
        return stored
    stored.task.result_url = url
    return stored._replace(result_key=None)


def _load_readable(keys: Sequence[str], payloads: Payloads) -> dict[str, str]:
    """All at once; one by one if one of them is missing or damaged. Raises StoreUnavailableError."""
    try:
        return payloads.load(keys)
    except (PayloadMissingError, PayloadCorruptError):
        pass
    texts: dict[str, str] = {}
    for key in keys:
        try:
            texts |= payloads.load([key])
        except (PayloadMissingError, PayloadCorruptError) as exc:
            log.warning("payload.unreadable", key=key, error=exc.detail)
    return texts
