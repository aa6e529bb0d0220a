"""Priorities, states and the one table of transitions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.errors import InvalidRequestError
from taskflow.core.task import (
    CLAIMABLE,
    FINAL,
    TRANSITIONS,
    WAITING,
    Task,
    TaskPriority,
    TaskStatus,
    sources,
)

MADE: dict[str, Any] = {
    "task_id": "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11",
    "task": "echo",
    "status": "pending",
    "priority": 2,
    "max_retries": 3,
    "timeout": 300,
    "run_at": "2026-01-01T00:00:00Z",
    "created_at": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    "given", ["high", "HIGH", "High", "1", 1, TaskPriority.HIGH], ids=lambda v: repr(v)
)
def test_a_priority_is_a_name_or_a_number(given: int | str) -> None:
    assert TaskPriority.parse(given) is TaskPriority.HIGH


def test_the_numbers_of_the_priorities_are_part_of_the_api() -> None:
    assert {p.name: p.value for p in TaskPriority} == {
        "CRITICAL": 0,
        "HIGH": 1,
        "NORMAL": 2,
        "LOW": 3,
    }


@pytest.mark.parametrize(
    "given",
    [
        "urgent",
        "",
        "-1",
        "4",
        " high",
        "١",
        "²",
        "1" * 5_000,
        4,
        -1,
        True,
        1.0,
        None,
        [1],
        {},
        "__class__",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_anything_else_is_refused_with_what_there_is(given: Any) -> None:
    with pytest.raises(
        InvalidRequestError, match="critical, high, normal, low or 0 to 3"
    ) as raised:
        TaskPriority.parse(given)
    assert raised.value.fields[0]["field"] == "priority"
    assert len(raised.value.detail) < 200


@given(st.text(max_size=10) | st.integers())
def test_parsing_a_priority_knows_two_outcomes(given: int | str) -> None:
    try:
        assert TaskPriority.parse(given) in TaskPriority
    except InvalidRequestError:
        assert str(given).upper() not in TaskPriority.__members__


class TestTransitions:
    def test_every_state_has_its_row(self) -> None:
        assert set(TRANSITIONS) == {None, *TaskStatus}

    def test_final_states_are_left_only_by_starting_anew(self) -> None:
        assert {status for status in TaskStatus if status.is_final} == FINAL
        for status in FINAL:
            assert TRANSITIONS[status] <= WAITING
            assert TaskStatus.RETRYING not in TRANSITIONS[status]

    def test_only_a_claim_leads_to_running(self) -> None:
        assert sources(TaskStatus.RUNNING) == CLAIMABLE

    def test_only_a_running_task_completes_or_retries(self) -> None:
        assert sources(TaskStatus.COMPLETED) == {TaskStatus.RUNNING}
        assert sources(TaskStatus.RETRYING) == {TaskStatus.RUNNING}

    def test_whatever_waits_can_be_cancelled_and_can_expire(self) -> None:
        assert sources(TaskStatus.EXPIRED) == WAITING
        assert sources(TaskStatus.CANCELLED) == WAITING | {TaskStatus.RUNNING}

    def test_a_running_task_does_not_expire(self) -> None:
        assert TaskStatus.EXPIRED not in TRANSITIONS[TaskStatus.RUNNING]

    def test_every_state_can_be_reached_and_can_reach_an_end(self) -> None:
        reached: set[TaskStatus] = set()
        frontier = set(TRANSITIONS[None])
        while frontier:
            reached |= frontier
            frontier = {t for status in frontier for t in TRANSITIONS[status]} - reached
        assert reached == set(TaskStatus)
        for status in TaskStatus:
            ends, seen = {status}, {status}
            while not ends & FINAL:
                ends = {t for s in ends for t in TRANSITIONS[s]} - seen
                assert ends, f"no way out of {status}"
                seen |= ends

    def test_sources_are_the_transitions_read_backwards(self) -> None:
        for target in TaskStatus:
            for source in TaskStatus:
                assert (source in sources(target)) == (target in TRANSITIONS[source])


class TestRecord:
    def test_a_task_goes_to_json_and_back(self) -> None:
        task = Task.model_validate(MADE)
        assert Task.model_validate_json(task.model_dump_json()) == task
        assert task.tenant_id == "default"

    def test_unknown_fields_are_refused(self) -> None:
        with pytest.raises(ValueError, match="colour"):
            Task.model_validate({**MADE, "colour": "red"})

    @pytest.mark.parametrize("progress", [-1, 100.1])
    def test_progress_is_a_percentage(self, progress: float) -> None:
        with pytest.raises(ValueError, match="progress"):
            Task.model_validate({**MADE, "progress": progress})
