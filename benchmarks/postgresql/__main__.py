"""PostgreSQL with the local queue, end to end, beside PGQueuer, Huey, Procrastinate and DBOS on the same server."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Effort, Figure, command
from benchmarks.postgresql import peers
from benchmarks.postgresql.databases import database, server
from benchmarks.postgresql.ours import OurRun, run_taskflow
from benchmarks.runs import Run
from benchmarks.surroundings import fresh

WORKERS = 4
_TASKS_PER_SECOND = 4_000
_TRANSACTIONS_PER_TASK = 0.3
_PEERS: list[tuple[str, Callable[[str, int, int], Run], int, float | None]] = [
    # name, how, a share of the tasks (slow ones get fewer), times we are to be as fast
    ("PGQueuer, bulk", peers.run_pgqueuer, 1, 1.4),
    ("PGQueuer, bulk, claiming 100", peers.run_pgqueuer_by_100, 1, None),
    ("Huey", peers.run_huey, 5, 6),
    ("Procrastinate", peers.run_procrastinate, 10, 6),
    ("DBOS", peers.run_dbos, 10, 6),
]


def measure(effort: Effort, _stored: Path | None = None) -> list[Figure]:
    """In turn, so that a change of the machine's mood meets all."""
    ours: list[OurRun] = []
    theirs: dict[str, list[Run]] = {name: [] for name, *_ in _PEERS}
    with server() as server_url:
        for _ in range(effort.rounds):
            with database(server_url) as url:
                ours.append(fresh(run_taskflow, url, effort.tasks, WORKERS))
            for name, run, share, _ in _PEERS:
                with database(server_url) as url:
                    theirs[name].append(fresh(run, url, effort.tasks // share, WORKERS))
    rates = tuple(our.run.per_second for our in ours)
    transactions = tuple(our.transactions / our.run.tasks for our in ours)
    cpu = tuple(our.run.cpu_us_per_task for our in ours)
    figures = [
        Figure(
            "PostgreSQL: end to end",
            statistics.median(rates),
            "tasks/s",
            at_least=_TASKS_PER_SECOND,
            runs=rates,
        ),
        Figure(
            "PostgreSQL: transactions per task",
            statistics.median(transactions),
            "",
            at_most=_TRANSACTIONS_PER_TASK,
            runs=transactions,
        ),
        Figure("PostgreSQL: CPU per task", statistics.median(cpu), "µs", runs=cpu),
    ]
    for name, _, _, times in _PEERS:
        others = tuple(run.per_second for run in theirs[name])
        ratios = tuple(our / other for our, other in zip(rates, others, strict=True))
        figures += [
            Figure(f"PostgreSQL: {name}", statistics.median(others), "tasks/s", runs=others),
            Figure(
                f"PostgreSQL: against {name}",
                statistics.median(ratios),
                "×",
                at_least=times,
                runs=ratios,
            ),
        ]
    return figures


if __name__ == "__main__":
    command([measure], __doc__)
