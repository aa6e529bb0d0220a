"""`deploy.py pause`: everything stays, but nothing takes traffic or tasks; `up` goes on."""

from __future__ import annotations

from deployment.account import Account
from deployment.change_sets import ChangeSets, Wanted
from deployment.errors import UsageError
from deployment.reporter import Reporter
from deployment.settle import Settling
from deployment.stack_change import StackChange
from deployment.stack_states import Readiness
from deployment.stacks import Stacks, StackState


def pause(account: Account, stack: str, reporter: Reporter) -> StackState:
    """The stack as it is, by its own template, with ``Serving`` off. Waiting tasks wait, running ones end.

    Raises UsageError when there is no stack, DeployError.
    """
    stacks = Stacks(account)
    state = Settling(account, stacks, reporter).for_change(stack)
    if state is None or state.readiness is Readiness.REVIEW:
        raise UsageError(
            f"There is no stack {stack} in {account.region}.", "`deploy.py up` makes it."
        )
    kept: dict[str, str | None] = dict.fromkeys(state.parameters)
    wanted = Wanted(stack, None, {**kept, "Serving": "false"}, state.tags)
    after, change_set = StackChange(stacks, ChangeSets(account), reporter).apply(
        wanted,
        state,
        allow_replacement=False,
        question=f"Stop the API and the workers of {stack}, until `deploy.py up`?",
    )
    assert after is not None
    reporter.say(
        f"{stack} is paused: nothing takes traffic or tasks"
        if change_set
        else f"{stack} was paused already"
    )
    return after
