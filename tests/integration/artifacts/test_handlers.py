"""`ctx.artifacts`, in threads, coroutines and child processes, on files and on S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.core.artifacts import Artifact
from taskflow.core.context import TaskContext
from taskflow.core.errors import LeaseLostError
from taskflow.core.registry import Registry
from taskflow.core.task import Task
from taskflow.handle import TaskHandle
from taskflow.settings import Settings
from taskflow.testing import eager
from tests.integration.artifacts import handlers

EXECUTORS = pytest.mark.parametrize("suffix", ["", "_in_a_process"])


def run(app: TaskFlow, task: str, *args: Any) -> TaskHandle:
    handle = app.submit(task, *args)
    handle.wait(30)
    return handle


def completed(handle: TaskHandle) -> Any:
    return handle.result(timeout=30)


def error(handle: TaskHandle) -> tuple[str, str]:
    task: Task = handle.task()
    assert task.error is not None, task
    return task.error.type, task.error.message


@pytest.mark.parametrize("task", ["leave", "leave_in_a_process", "leave_in_a_coroutine"])
def test_what_a_handler_leaves_can_be_read_from_outside(app: TaskFlow, task: str) -> None:
    handle = run(app, task, {"report.csv": "a,b\n", "notes": "ä"})
    assert completed(handle) == [
        ["notes", 2, "application/octet-stream"],
        ["report.csv", 4, "text/csv"],
    ]
    notes, report = handle.artifacts()
    assert (notes.name, report.name) == ("notes", "report.csv")
    assert (report.size_bytes, report.content_type, report.attempt) == (4, "text/csv", 1)
    assert handle.artifact("report.csv") == b"a,b\n"
    assert handle.artifact("notes") == "ä".encode()


@EXECUTORS
def test_data_may_be_bytes_text_a_path_or_an_open_file(
    app: TaskFlow, tmp_path: Path, suffix: str
) -> None:
    handle = run(app, f"every_kind_of_data{suffix}", str(tmp_path))
    assert completed(handle) is None
    [artifact] = handle.artifacts()
    assert artifact.content_type == "text/plain; charset=utf-8"
    assert handle.artifact("data") == b"disk"


@EXECUTORS
@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (("../passwd",), "InvalidRequestError", "artifact name"),
        ((".hidden",), "InvalidRequestError", "artifact name"),
        (("",), "InvalidRequestError", "artifact name"),
        (("a b",), "InvalidRequestError", "artifact name"),
        (("x" * 201,), "InvalidRequestError", "1 to 200"),
        ((7,), "InvalidRequestError", "artifact name"),
        (("a", 1, "text"), "InvalidRequestError", "content type 'text'"),
        (("a", 1, "text/csv\r\nX: y"), "InvalidRequestError", "content type"),
        (("a", 100_001), "PayloadTooLargeError", "TASKFLOW_MAX_ARTIFACT_BYTES (100000)"),
    ],
)
def test_what_cannot_be_an_artifact_fails_the_attempt_with_a_reason(
    app: TaskFlow, suffix: str, arguments: tuple[Any, ...], kind: str, says: str
) -> None:
    handle = run(app, f"put{suffix}", *arguments)
    assert error(handle)[0] == kind
    assert says in error(handle)[1]
    assert handle.artifacts() == []


@EXECUTORS
def test_data_of_another_kind_is_refused(app: TaskFlow, suffix: str) -> None:
    handle = run(app, f"put_nonsense{suffix}")
    assert error(handle) == (
        "InvalidRequestError",
        "artifact data: data must be bytes, text, a path or an open file, not int",
    )


@EXECUTORS
def test_a_task_has_no_more_than_so_many(app: TaskFlow, suffix: str) -> None:
    handle = run(app, f"leave{suffix}", dict.fromkeys("abcd", "x"))
    assert error(handle)[0] == "InvalidRequestError"
    assert "TASKFLOW_MAX_ARTIFACTS" in error(handle)[1]
    assert [artifact.name for artifact in handle.artifacts()] == ["a", "b", "c"]
    assert len(list(app.runtime.payloads.list())) == 3  # nothing stays of the refused one


@EXECUTORS
def test_getting_what_is_not_there_fails_with_its_name(app: TaskFlow, suffix: str) -> None:
    handle = run(app, f"get{suffix}", "nothing.txt")
    assert error(handle)[0] == "ArtifactNotFoundError"
    assert "nothing.txt" in error(handle)[1]


@EXECUTORS
def test_the_largest_artifact_passes_through(app: TaskFlow, suffix: str) -> None:
    handle = run(app, f"put{suffix}", "large", 100_000)
    assert completed(handle) is None
    assert handle.artifact("large") == b"x" * 100_000


def test_in_a_process_an_artifact_takes_no_more_memory_than_its_size(settings: Settings) -> None:
    size = 80 * 2**20  # of the 120 MiB that this task may use
    with TaskFlow(
        settings,
        handlers=handlers.registry,
        max_artifact_bytes=size,
        worker_resources="memory_mb=120",
    ) as app:
        handle = run(app, "put_and_get", size, False)
        assert completed(handle) == size
        # Twice is too much, which is said as for everything else that needs memory.
        handle = run(app, "put_and_get", size, True)
        assert error(handle)[0] == "MemoryError"
        assert "more than 120 MiB" in error(handle)[1]
        assert handle.task().crash_count == 0


@EXECUTORS
def test_artifacts_of_a_failed_task_stay(app: TaskFlow, suffix: str) -> None:
    handle = run(app, f"fail_after{suffix}", "log.txt")
    assert handle.status() == "failed"
    assert handle.artifact("log.txt") == b"left behind"


@EXECUTORS
def test_many_threads_may_write_at_once(app: TaskFlow, suffix: str) -> None:
    handle = run(app, f"from_many_threads{suffix}")
    assert completed(handle) == ["part-0", "part-1", "part-2"]
    for number in range(3):
        assert int(handle.artifact(f"part-{number}")) % 3 == number
    assert len(list(app.runtime.payloads.list())) == 3  # what was replaced is gone


def test_a_later_attempt_sees_and_replaces_what_an_earlier_one_left(
    settings: Settings, tmp_path: Path
) -> None:
    registry = Registry()

    @registry_task(registry, max_retries=1)
    def twice(ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            ctx.artifacts.put("state.txt", "from the first")
            raise ConnectionError("again, please")
        found = ctx.artifacts.get("state.txt").decode()
        ctx.artifacts.put("state.txt", "from the second")
        return found

    with TaskFlow(settings, handlers=registry) as app:
        handle = app.submit("twice")
        assert completed(handle) == "from the first"
        [artifact] = handle.artifacts()
        assert (artifact.attempt, handle.artifact("state.txt")) == (2, b"from the second")
        assert len(list(app.runtime.payloads.list())) == 1


def test_an_attempt_that_was_given_up_cannot_touch_its_successors_artifacts(
    settings: Settings,
) -> None:
    registry = Registry()
    kept: list[TaskContext] = []

    @registry_task(registry)
    def keep(ctx: TaskContext) -> None:
        ctx.artifacts.put("mine", "during")
        kept.append(ctx)

    with TaskFlow(settings, handlers=registry) as app:
        handle = app.submit("keep")
        handle.wait(30)
        with pytest.raises(LeaseLostError):
            kept[0].artifacts.put("mine", "afterwards")
        assert handle.artifact("mine") == b"during"
        assert len(list(app.runtime.payloads.list())) == 1


def test_eager_mode_keeps_artifacts_too() -> None:
    with eager(handlers=handlers.registry) as app:
        handle = app.submit("leave", {"report.csv": "a,b\n"})
        assert handle.artifact("report.csv") == b"a,b\n"
        [artifact] = handle.artifacts()
        assert isinstance(artifact, Artifact)


def registry_task(registry: Registry, **options: Any) -> Callable[..., Any]:
    from taskflow.core.registry import TaskOptions

    return lambda function: registry.add(function, declared=TaskOptions(**options))
