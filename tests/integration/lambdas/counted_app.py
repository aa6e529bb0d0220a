"""One of `TASKFLOW_TASKS`: says in the function's log whenever the application is built."""

from __future__ import annotations

from typing import Any

from taskflow.logs import get_logger
from taskflow.serverless import http

log = get_logger(__name__)
_create_app = http.create_app


def _counted(*args: Any, **options: Any) -> Any:
    log.info("app.created")
    return _create_app(*args, **options)


http.create_app = _counted
