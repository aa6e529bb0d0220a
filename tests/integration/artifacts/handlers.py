"""Handlers that leave artifacts, in every kind of executor. Importable: child processes import them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from taskflow.core.context import TaskContext
from taskflow.core.registry import Handler, Registry, TaskOptions

registry = Registry()


def both(function: Callable[..., Any]) -> Handler[..., Any]:
    """As ``name`` in a thread, as ``name_in_a_process`` in a child process (which finds it by its place here)."""
    name = f"{function.__name__}_in_a_process"
    registry.add(function, name=name, declared=TaskOptions(executor="process"))
    return registry.add(function, declared=TaskOptions())


def _leave(ctx: TaskContext, contents: dict[str, str]) -> list[Any]:
    for name, text in contents.items():
        ctx.artifacts.put(name, text)
    return [[item.name, item.size_bytes, item.content_type] for item in ctx.artifacts.list()]


@both
def leave(ctx: TaskContext, contents: dict[str, str]) -> list[Any]:
    return _leave(ctx, contents)


async def leave_in_a_coroutine(ctx: TaskContext, contents: dict[str, str]) -> list[Any]:
    for name, text in contents.items():
        await ctx.artifacts.put_async(name, text)
        assert await ctx.artifacts.get_async(name) == text.encode()
    return _leave(ctx, contents)


registry.add(leave_in_a_coroutine, declared=TaskOptions(executor="asyncio"))


@both
def every_kind_of_data(ctx: TaskContext, directory: str) -> None:
    path = Path(directory) / "on-disk"
    path.write_bytes(b"\x00disk")
    ctx.artifacts.put("data", b"\x00bytes")
    assert ctx.artifacts.get("data") == b"\x00bytes"
    ctx.artifacts.put("data", bytearray(b"array"))
    assert ctx.artifacts.get("data") == b"array"
    ctx.artifacts.put("data", memoryview(b"a view")[2:])
    assert ctx.artifacts.get("data") == b"view"
    ctx.artifacts.put("data", path)
    assert ctx.artifacts.get("data") == b"\x00disk"
    ctx.artifacts.put("data", io.StringIO("tëxt"))
    assert ctx.artifacts.get("data") == "tëxt".encode()
    with path.open("rb") as file:
        file.seek(1)
        ctx.artifacts.put("data", file, content_type="text/plain; charset=utf-8")
    assert ctx.artifacts.get("data") == b"disk"


@both
def put(ctx: TaskContext, name: Any, size: int = 1, content_type: Any = None) -> None:
    ctx.artifacts.put(name, b"x" * size, content_type)


@both
def put_nonsense(ctx: TaskContext) -> None:
    ctx.artifacts.put("data", 17)  # type: ignore[arg-type]


@both
def get(ctx: TaskContext, name: str) -> str:
    return ctx.artifacts.get(name).decode()


@partial(registry.add, declared=TaskOptions(executor="process", resources={"memory_mb": 120}))
def put_and_get(ctx: TaskContext, size: int, keep: bool) -> int:
    data = b"x" * size
    ctx.artifacts.put("large", data)
    kept = data if keep else b""
    del data
    got = ctx.artifacts.get("large")
    return len(got) + len(kept)


@both
def fail_after(ctx: TaskContext, name: str) -> None:
    ctx.artifacts.put(name, "left behind")
    raise ValueError("after all")


@both
def from_many_threads(ctx: TaskContext) -> list[str]:
    def write(number: int) -> None:
        ctx.artifacts.put(f"part-{number % 3}", str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [item.name for item in ctx.artifacts.list()]
