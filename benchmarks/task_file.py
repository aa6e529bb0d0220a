"""The file of tasks that both sides of a comparison run: JSON Lines, one task a line."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Priority = Literal["critical", "high", "normal", "low"]


class FileTask(BaseModel):
    """``{"task": "simulate", "kwargs": {"latency_ms": 2.0}, "priority": "high"}``"""

    model_config = ConfigDict(extra="forbid")

    task: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    priority: Priority = "normal"
    max_retries: int = Field(default=3, ge=0)


class Recipe(BaseModel):
    """What a file is made of. Probabilities are per attempt; ``mix`` are the shares of the four priorities."""

    tasks: int = Field(ge=1)
    handler: str = "simulate"
    latency_ms: float = Field(default=1.0, ge=0)
    jitter_ms: float = Field(default=0.5, ge=0)
    transient: float = Field(default=0.0, ge=0, le=1)
    permanent: float = Field(default=0.0, ge=0, le=1)
    mix: tuple[float, float, float, float] = (1, 2, 6, 1)
    seed: int = 1


def generate(recipe: Recipe) -> Iterator[FileTask]:
    """The same recipe makes the same tasks. Handlers other than `simulate` get their number as their only argument."""
    rng = random.Random(recipe.seed)
    for n in range(recipe.tasks):
        [priority] = rng.choices(get_args(Priority), recipe.mix)
        if recipe.handler != "simulate":
            yield FileTask(task=recipe.handler, args=[n], priority=priority)
            continue
        kwargs = {
            "latency_ms": recipe.latency_ms,
            "jitter_ms": recipe.jitter_ms,
            "transient_probability": recipe.transient,
            "permanent_probability": recipe.permanent,
            "seed": rng.randrange(2**31),
        }
        yield FileTask(task="simulate", kwargs=kwargs, priority=priority)


def write(path: Path, tasks: Iterable[FileTask]) -> int:
    """Returns how many."""
    count = 0
    with path.open("w") as file:
        for task in tasks:
            file.write(task.model_dump_json() + "\n")
            count += 1
    return count


def read(path: Path) -> list[FileTask]:
    """Raises ValueError naming the line that is wrong."""
    tasks = []
    with path.open() as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    tasks.append(FileTask.model_validate_json(line))
                except ValidationError as exc:
                    raise ValueError(f"{path}:{number}: {exc}") from None
    return tasks
