"""Brings a stack into a state in which something can be begun: waits for AWS, and asks where a person has to decide."""

from __future__ import annotations

from typing import Any

from deployment.account import Account
from deployment.errors import DeployError
from deployment.reporter import Reporter
from deployment.stack_states import Readiness, decision_needed
from deployment.stacks import Stacks, StackState


class Settling:
    def __init__(self, account: Account, stacks: Stacks, reporter: Reporter) -> None:
        self._account = account
        self._stacks = stacks
        self._reporter = reporter

    def for_plan(self, stack: str) -> StackState | None:
        """The stack, if a change set can be made for it. Raises DecisionNeededError."""
        state = self._stacks.look(stack)
        if state is not None and state.readiness not in {Readiness.READY, Readiness.REVIEW}:
            raise decision_needed(stack, state.status, state.reason)
        return state

    def for_change(self, stack: str) -> StackState | None:
        """The same after whatever an earlier run, or another one, has begun; what a failed creation left is deleted
        if that is agreed to. Raises DecisionNeededError."""
        while True:
            state = self._stacks.look(stack)
            match state.readiness if state else Readiness.ABSENT:
                case Readiness.ABSENT | Readiness.READY | Readiness.REVIEW:
                    return state
                case Readiness.BUSY:
                    assert state is not None
                    self._wait(state)
                case Readiness.CREATION_FAILED:
                    assert state is not None
                    self._remove_failed(state)
                case _:
                    assert state is not None
                    raise decision_needed(stack, state.status, state.reason)

    def _wait(self, state: StackState) -> None:
        self._reporter.say(
            f"{state.name} is {state.status}: an earlier or another run has begun that; waiting for its end"
        )
        with self._reporter.watching(f"{state.name} {state.status}", resources=None) as watcher:
            self._stacks.follow(state, watcher)

    def _remove_failed(self, state: StackState) -> None:
        causes = "; ".join(
            f"{event.logical_id}: {event.reason}"
            for event in self._stacks.causes(state.stack_id)[:3]
        )
        self._reporter.warn(
            f"{state.name} is {state.status}: it could not be created ({causes or state.reason})"
        )
        if not self._reporter.confirm(f"Delete what is left of {state.name} and create it anew?"):
            raise decision_needed(state.name, state.status, state.reason)
        if state.is_protected:
            self._cloudformation.update_termination_protection(
                StackName=state.name, EnableTerminationProtection=False
            )
        last = self._stacks.last_event_id(state.stack_id)
        self._cloudformation.delete_stack(StackName=state.stack_id)
        with self._reporter.watching(f"deleting {state.name}", resources=None) as watcher:
            after, happened = self._stacks.follow(state, watcher, after=last)
        if after is not None:
            reasons = "; ".join(
                f"{event.logical_id}: {event.reason}" for event in happened if event.is_cause
            )
            raise DeployError(
                f"What is left of {state.name} could not be deleted: {reasons or after.reason}",
                "Mend what the reason says, then `deploy.py destroy`.",
                code="delete_failed",
            )

    @property
    def _cloudformation(self) -> Any:
        return self._account.client("cloudformation")
