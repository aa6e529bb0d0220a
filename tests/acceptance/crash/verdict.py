"""Looks at what rounds of killing left behind, with nothing but SQLite: the engine is not asked about itself."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.crash.load import ENDS, RESULTS

_FINAL = ("completed", "failed", "cancelled", "expired")
_FINAL_EVENTS = tuple(f"task.{status}" for status in _FINAL)
# Whatever the order of its rows: see TRANSITIONS in core/task.py. Which event follows which.
_FOLLOWERS = {
    None: {"submitted"},
    "submitted": {"started", "released", "failed", "cancelled"},
    "released": {"started", "cancelled"},
    "started": {"completed", "failed", "retrying", "recovered", "released", "cancel_requested", "cancelled"},
    "cancel_requested": {"completed", "failed", "cancelled"},
    "retrying": {"started", "cancelled"},
    "recovered": {"started", "cancelled"},
}  # fmt: skip


@dataclass
class Answered:
    """What the submitter was told, kept outside of every process that was killed."""

    kinds: dict[str, str] = field(default_factory=dict)  # by task id
    parents: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)  # may have been cancelled; others were not

    def ends(self, task_id: str) -> set[str]:
        """The statuses in which it may end."""
        parent = self.parents.get(task_id)
        parent_ends = {"completed"} if parent is None else self.ends(parent)
        may = {"cancelled"} if task_id in self.cancelled else set()
        if "completed" in parent_ends:
            may.add(ENDS[self.kinds[task_id]])
        if parent_ends != {"completed"}:
            may.add("failed")
        return may


def is_sound(home: Path) -> None:
    """What SQLite itself says about the file."""
    with sqlite3.connect(home / "taskflow.db") as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert store.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()


def judge(home: Path, effects: Path, answered: Answered) -> int:
    """All the promises about what was answered; returns how many tasks the store holds."""
    is_sound(home)
    store = sqlite3.connect(home / "taskflow.db")
    try:
        tasks = {row[0]: row[1:] for row in store.execute("SELECT id, status, attempt FROM tasks")}
        results = dict(store.execute("SELECT task_id, result FROM task_results"))
        histories: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
        for task_id, kind, attempt in store.execute(
            "SELECT task_id, type, attempt FROM events ORDER BY id"
        ):
            histories[task_id].append((kind.removeprefix("task."), attempt))
        [[counted]] = store.execute("SELECT coalesce(sum(count), 0) FROM tallies")
        [[outbox]] = store.execute("SELECT count(*) FROM outbox")
        [[keys]] = store.execute("SELECT count(*) FROM idempotency_keys")
    finally:
        store.close()

    lost = answered.kinds.keys() - tasks.keys()
    assert not lost, f"answered, and lost: {sorted(lost)[:5]} of {len(lost)}"
    unfinished = {task_id for task_id, (status, _) in tasks.items() if status not in _FINAL}
    assert not unfinished, f"not final: {sorted(unfinished)[:5]} of {len(unfinished)}"
    assert counted == len(tasks), "the tallies count something else than the tasks there are"
    assert outbox == 0, "messages wait although nothing is to be done"
    assert keys == len(set(_keys(home))), "an idempotency key made two tasks"

    for task_id in answered.kinds:
        status = tasks[task_id][0]
        allowed = answered.ends(task_id)
        kind = answered.kinds[task_id]
        assert status in allowed, f"{task_id} ({kind}) is {status}: {histories[task_id]}"
        if status == "completed" and kind in RESULTS:
            assert results[task_id].encode() == RESULTS[kind]

    runs = Counter(line for line in effects.read_text().splitlines())
    twice = [line for line, count in runs.items() if count > 1]
    assert not twice, f"the same attempt ran more than once: {twice[:5]}"
    last_run: dict[str, int] = {}
    for line in runs:
        task_id, attempt = line.split()
        last_run[task_id] = max(last_run.get(task_id, 0), int(attempt))
    for task_id, (status, attempt) in tasks.items():
        history = histories[task_id]
        kinds = [kind for kind, _ in history]
        assert sum(f"task.{kind}" in _FINAL_EVENTS for kind in kinds) == 1, (task_id, kinds)
        assert kinds[-1] == status, (task_id, kinds)
        for before, after in zip([None, *kinds], kinds, strict=False):
            assert after in _FOLLOWERS[before], (task_id, kinds)
        started = [number for kind, number in history if kind == "started"]
        assert len(started) == len(set(started)) or "released" in kinds, (task_id, history)
        assert (max(started) if started else 0) >= attempt, (task_id, history)
        if status == "completed":
            assert last_run.get(task_id) == attempt, (task_id, last_run.get(task_id), history)
        else:
            assert last_run.get(task_id, 0) <= attempt, (task_id, history)
    return len(tasks)


def _keys(home: Path) -> list[str]:
    store = sqlite3.connect(home / "taskflow.db")
    try:
        statement = "SELECT idempotency_key FROM task_inputs WHERE idempotency_key IS NOT NULL"
        return [key for (key,) in store.execute(statement)]
    finally:
        store.close()
