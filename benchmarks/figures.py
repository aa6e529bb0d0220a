"""A figure with its target and verdict, and how figures are shown."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_PACKAGES = ("taskflow", "huey", "fastapi", "uvicorn", "pydantic", "sqlalchemy", "orjson")
_IMPRECISE = 100.0  # from here on decimals say nothing
_PIPE_COLUMNS = 150
_MARKS = {True: "[green]met", False: "[red]not met", None: ""}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. ``runs`` are the single values it is the median (or minimum) of."""

    measure: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    runs: tuple[float, ...] = ()
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None: measured without a target, for comparison."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {number(self.at_least)} {self.unit}"
        return "" if self.at_most is None else f"≤ {number(self.at_most)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure. ``rounds`` is odd, so that a median is one of the runs."""

    rounds: int = 3
    tasks: int = 10_000
    seconds: float = 5.0
    waiting_tasks: int = 200_000
    latency_rounds: int = 1_000
    starts: int = 5
    stored: int = 1_000_000
    growth_rounds: int = 3
    growth_of_all: bool = True  # else only of what an embedded system shows in seconds


FULL = Effort()
QUICK = Effort(
    seconds=2.0,
    waiting_tasks=50_000,
    latency_rounds=300,
    starts=3,
    stored=50_000,
    growth_rounds=1,
    growth_of_all=False,
)

Measure = Callable[[Effort, Path | None], list[Figure]]


def machine() -> dict[str, Any]:
    """What figures depend on; ``load`` tells whether somebody else was using the machine."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z",
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in _PACKAGES},
        "load": round(os.getloadavg()[0], 2),
    }


@dataclass
class Report:
    figures: list[Figure]
    machine: dict[str, Any] = field(default_factory=machine)

    def show(self, *, as_json: bool) -> None:
        if as_json:
            rows = [{**asdict(f), "met": f.met} for f in self.figures]
            print(
                json.dumps({"machine": self.machine, "figures": rows}, indent=2, ensure_ascii=False)
            )
            return
        console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
        console.print(
            "  ".join(f"{name} {value}" for name, value in self.machine.items()), style="dim"
        )
        table = Table("measure", "target", "value", "", "runs", "note", box=None, pad_edge=False)
        for column in table.columns[:4]:
            column.no_wrap = True
        for figure in self.figures:
            runs = " ".join(number(value) for value in figure.runs)
            value = f"{number(figure.value)} {figure.unit}"
            table.add_row(
                figure.measure, figure.target, value, _MARKS[figure.met], runs, figure.note
            )
        console.print(table)


def number(value: float) -> str:
    """Three digits are as many as a measurement carries."""
    return f"{value:,.0f}" if abs(value) >= _IMPRECISE else f"{value:.3g}"


def command(measures: Sequence[Measure], about: str | None) -> None:
    """The command line that every measure has."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="longer runs, a million stored tasks")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args()
    effort = FULL if options.full else QUICK
    figures = [figure for measure in measures for figure in measure(effort, None)]
    Report(figures).show(as_json=options.json)
