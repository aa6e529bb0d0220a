"""One change of a stack, from the change set to its end, with what went wrong in words."""

from __future__ import annotations

from collections.abc import Callable

from deployment.change_sets import ChangeSet, ChangeSets, Wanted
from deployment.changes import check
from deployment.errors import DeployError
from deployment.failures import causes, failed
from deployment.reporter import Reporter
from deployment.stacks import Stacks, StackState


class StackChange:
    def __init__(self, stacks: Stacks, change_sets: ChangeSets, reporter: Reporter) -> None:
        self._stacks = stacks
        self._change_sets = change_sets
        self._reporter = reporter

    def apply(
        self,
        wanted: Wanted,
        state: StackState | None,
        *,
        allow_replacement: bool,
        question: str | None,
        first: Callable[[], None] | None = None,
    ) -> tuple[StackState | None, ChangeSet | None]:
        """The stack afterwards, and what was changed; None as change set: nothing had to be.

        ``question``: asked once the changes have been shown; None: it has been agreed to already. ``first``: done
        when it is agreed, before anything of the stack changes. Raises DeployError; DecisionNeededError for changes
        that could lose data.
        """
        change_set = self._change_sets.make(wanted, state)
        if change_set is None:
            return state, None
        self._reporter.plan(change_set.changes)
        try:
            check(change_set.changes, allow_replacement=allow_replacement)
            if question is not None and not self._reporter.confirm(question):
                raise DeployError(
                    "Nothing was changed.",
                    "Run it again when the changes are wanted.",
                    code="declined",
                )
            if first is not None:
                first()
        except BaseException:
            self._change_sets.abandon(change_set, with_stack=state is None)
            raise
        last = self._stacks.last_event_id(change_set.stack_id)
        self._change_sets.execute(change_set)
        return self._followed(wanted.stack, change_set, last), change_set

    def _followed(self, stack: str, change_set: ChangeSet, last: str) -> StackState:
        state = self._stacks.look(change_set.stack_id)
        if state is not None:
            doing = "creating" if change_set.kind == "CREATE" else "updating"
            resources = len(change_set.changes)
            with self._reporter.watching(f"{doing} {stack}", resources=resources) as watcher:
                state, happened = self._stacks.follow(state, watcher, after=last)
            if state is not None and state.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
                return state
            raise failed(stack, state, causes(happened))
        raise failed(stack, None, [])
