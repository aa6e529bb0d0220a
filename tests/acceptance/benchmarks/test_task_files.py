"""REQUIREMENTS E8: a task file, run by one thread and by the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.run import compare
from benchmarks.task_file import Recipe, generate, read, write

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(tasks=60, latency_ms=0.2, jitter_ms=0.1, transient=0.2, permanent=0.1, seed=7)


def test_the_same_recipe_makes_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    for name, recipe in (
        ("a", RECIPE),
        ("b", RECIPE),
        ("c", RECIPE.model_copy(update={"seed": 8})),
    ):
        assert write(tmp_path / name, generate(recipe)) == RECIPE.tasks
    first, second, other = ((tmp_path / name).read_text() for name in "abc")
    assert first == second != other
    assert len(read(tmp_path / "a")) == RECIPE.tasks


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text('{"task": "echo"}\n{"task": "echo", "priority": "urgent"}\n')
    with pytest.raises(ValueError, match="tasks:2"):
        read(tmp_path / "tasks")


def test_both_sides_end_every_task_alike() -> None:
    tasks = list(generate(RECIPE))
    baseline, engine = (
        side.summary() for side in compare(tasks, workers=3, retry_base_seconds=0.001)
    )
    for count in ("completed", "failed", "retries"):
        assert baseline[count] == engine[count]
    assert baseline["completed"] + baseline["failed"] == RECIPE.tasks
    assert baseline["failed"] > 0 < baseline["retries"]


def test_the_command_line_makes_a_file_and_a_table_or_json(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    run("generate", "--tasks", "20", "--handler", "noop", "--mix", "0:1:1:0", "--out", str(file))
    table = run("run", "--tasks", str(file), "--workers", "2")
    assert "one thread" in table
    assert "2 workers" in table
    answer = json.loads(run("run", "--tasks", str(file), "--workers", "2", "--json"))
    assert answer["one thread"]["completed"] == answer["TaskFlow, 2 workers"]["completed"] == 20


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout
