"""Logs: silent in a library, one JSON line per event for an entry point."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest

from taskflow import __version__, logs
from taskflow.logs import bound_contextvars, get_logger

log = get_logger("taskflow.tests")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    """``lines()``: what was written to stderr since the last call, parsed."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


def test_a_line_has_its_fields_in_order(lines: Any) -> None:
    logs.configure("info", "json", service="api")
    with bound_contextvars(request_id="r-1", tenant_id="default"):
        log.info("task.completed", task="echo", duration_ms=1.5)

    [line] = lines()
    assert line.pop("ts").endswith("Z")
    assert list(line.items()) == [
        ("level", "info"),
        ("event", "task.completed"),
        ("logger", "taskflow.tests"),
        ("service", "api"),
        ("version", __version__),
        ("request_id", "r-1"),
        ("tenant_id", "default"),
        ("task", "echo"),
        ("duration_ms", 1.5),
    ]


def test_bound_fields_end_with_their_block_and_nest(lines: Any) -> None:
    logs.configure("info", "json")
    with bound_contextvars(task_id="t", attempt=1):
        with bound_contextvars(attempt=2):
            log.info("inner")
        log.info("outer")
    log.info("after")

    inner, outer, after = lines()
    assert (inner["task_id"], inner["attempt"]) == ("t", 2)
    assert (outer["task_id"], outer["attempt"]) == ("t", 1)
    assert "task_id" not in after


def test_bound_fields_stay_in_their_thread(lines: Any) -> None:
    logs.configure("info", "json")
    with bound_contextvars(task_id="mine"):
        thread = threading.Thread(target=log.info, args=("elsewhere",))
        thread.start()
        thread.join()
    assert "task_id" not in lines()[0]


def test_a_bound_logger_carries_its_fields(lines: Any) -> None:
    logs.configure("info", "json")
    log.bind(worker_id="w").bind(slot=1).info("slot.started", slot=2)
    assert (lines()[0]["worker_id"], log.bind(a=1)) != ("w", log)
    log.info("plain")
    assert "worker_id" not in lines()[0]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_nothing_below_the_level_is_written(lines: Any, level: str) -> None:
    logs.configure(level, "json")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")

    order = ["debug", "info", "warning", "error"]
    assert [line["level"] for line in lines()] == order[order.index(level) :]


def test_an_exception_is_one_line_with_its_traceback(lines: Any) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("wrong")
    except ValueError as exc:
        caught = exc
        log.exception("task.failed", task_id="t")
    log.error("later", exc_info=caught)

    for line in lines():
        assert line["level"] == "error"
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: wrong")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**80, 2**80),
        ("\ud800", "\ud800"),
        (float("nan"), None),
        ({1: "a"}, {"1": "a"}),
        (ValueError("x"), "x"),
        ({"set"}, "{'set'}"),
    ],
)
def test_no_value_can_break_a_line(lines: Any, value: Any, shown: Any) -> None:
    logs.configure("info", "json")
    log.info("odd", value=value)
    assert lines()[0]["value"] == shown


def test_a_field_cannot_take_the_place_of_the_event(lines: Any) -> None:
    logs.configure("info", "json")
    with bound_contextvars(event="forged"):
        log.info("true")
    assert lines()[0]["event"] == "true"


def test_lines_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    log.info("odd", text="a\nb\r\n{}")
    assert capsys.readouterr().err.count("\n") == 1


def test_libraries_go_through_the_same_renderer(lines: Any) -> None:
    logs.configure("info", "json")
    with bound_contextvars(request_id="r"):
        logging.getLogger("uvicorn.error").info("started %s", "here")
        logging.getLogger("my.tasks").info("own")
        logging.getLogger("httpx").info("chatty")
        logging.getLogger("alembic.runtime").info("chatty")
        logging.getLogger("httpx").warning("slow")

    found = lines()
    assert [(line["logger"], line["event"]) for line in found] == [
        ("uvicorn.error", "started here"),
        ("my.tasks", "own"),
        ("httpx", "slow"),
    ]
    assert {line["request_id"] for line in found} == {"r"}


def test_python_warnings_become_lines(lines: Any) -> None:
    logs.configure("info", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in lines()[0]["event"]


def test_people_get_readable_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    with bound_contextvars(task_id="t-1"):
        try:
            raise KeyError("k")
        except KeyError:
            log.exception("task.failed", duration_ms=2)

    first, *rest = capsys.readouterr().err.splitlines()
    assert first.split()[1:3] == ["[error", "]"]
    assert all(part in first for part in ("task.failed", "task_id=t-1", "duration_ms=2"))
    assert rest[-1] == "KeyError: 'k'"


def test_auto_means_json_where_nobody_looks(lines: Any) -> None:
    logs.configure("info", "auto")
    log.info("event")
    assert lines()[0]["event"] == "event"


def test_a_host_program_sees_events_as_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "taskflow")
    log.info("task.completed", task="echo", duration_ms=1.5)
    assert caplog.messages == ["task.completed task=echo duration_ms=1.5"]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )


def test_an_imported_library_configures_nothing_and_prints_only_warnings() -> None:
    ended = run(
        "import logging\n"
        "from taskflow.logs import get_logger\n"
        "log = get_logger('taskflow.x')\n"
        "log.debug('a'); log.info('b'); log.warning('c', n=1)\n"
        "assert logging.getLogger().handlers == []\n"
        "assert logging.getLogger('taskflow').handlers == []\n"
    )
    assert (ended.stdout, ended.stderr) == ("", "c n=1\n")


def test_a_library_does_not_pay_for_the_renderer() -> None:
    run(
        "import sys, taskflow.logs\n"
        "assert not {'structlog', 'rich', 'asyncio'} & sys.modules.keys()\n"
    )
