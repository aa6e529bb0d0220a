"""Writes a file of tasks for `benchmarks.run`: how many, how long, how often they fail, in which priorities."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.task_file import Recipe, generate, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tasks.jsonl"))
    parser.add_argument("--tasks", type=int, default=1_000, help="how many (default: 1000)")
    parser.add_argument(
        "--handler", default="simulate", help="simulate, noop, echo, … (default: simulate)"
    )
    parser.add_argument("--latency-ms", type=float, default=1.0, help="of simulate (default: 1)")
    parser.add_argument(
        "--jitter-ms", type=float, default=0.5, help="± so much, uniform (default: 0.5)"
    )
    parser.add_argument(
        "--transient", type=float, default=0.0, help="probability of a fault that is retried"
    )
    parser.add_argument(
        "--permanent", type=float, default=0.0, help="probability of a fault that is not"
    )
    parser.add_argument(
        "--mix", default="1:2:6:1", help="shares critical:high:normal:low (default: 1:2:6:1)"
    )
    parser.add_argument("--seed", type=int, default=1, help="same seed, same file (default: 1)")
    options = vars(parser.parse_args())
    path, mix = options.pop("out"), options.pop("mix").split(":")
    try:
        count = write(path, generate(Recipe(mix=mix, **options)))
    except ValueError as exc:
        parser.error(str(exc))
    print(f"{count:,} tasks in {path}")


if __name__ == "__main__":
    main()
