"""`deploy.py recover`: out of the states that an update can leave a stack in."""

from __future__ import annotations

from collections.abc import Sequence

from deployment.account import Account
from deployment.errors import DecisionNeededError, UsageError
from deployment.failures import causes, failed
from deployment.reporter import Reporter
from deployment.stack_states import Readiness
from deployment.stacks import Stacks, StackState


def recover(account: Account, stack: str, skip: Sequence[str], reporter: Reporter) -> StackState:
    """Finish the rollback of UPDATE_ROLLBACK_FAILED (``skip``: left as they are), or begin that of UPDATE_FAILED.

    Raises UsageError when there is nothing to recover from, DeployError when it fails again.
    """
    stacks, client = Stacks(account), account.client("cloudformation")
    state = stacks.look(stack)
    if state is None:
        raise UsageError(
            f"There is no stack {stack} in {account.region}.", "`deploy.py up` makes it."
        )
    if state.readiness is Readiness.BUSY:
        with reporter.watching(f"{stack} {state.status}", resources=None) as watcher:
            after, _ = stacks.follow(state, watcher)
        if after is None:
            raise failed(stack, None, [])
        state = after
    if state.readiness is Readiness.READY:
        reporter.say(f"{stack} is {state.status}: there is nothing to recover from")
        return state
    if state.readiness is not Readiness.STUCK:
        raise DecisionNeededError(
            f"{stack} is {state.status}, which is not a failed update.",
            "`deploy.py up` or `deploy.py destroy` deals with that.",
        )
    question = f"Bring {stack} back to what it was before the failed update?"
    if skip:
        question = f"Bring {stack} back, and leave {', '.join(skip)} as it is?"
    if not reporter.confirm(question):
        raise DecisionNeededError(
            "Nothing was changed.", "Run it again when it is wanted.", code="declined"
        )
    last = stacks.last_event_id(state.stack_id)
    if state.status == "UPDATE_FAILED":
        client.rollback_stack(StackName=stack)
    else:
        more = {"ResourcesToSkip": list(skip)} if skip else {}
        client.continue_update_rollback(StackName=stack, **more)
    with reporter.watching(f"rolling back {stack}", resources=None) as watcher:
        after, happened = stacks.follow(state, watcher, after=last)
    if after is None or after.readiness is not Readiness.READY:
        raise failed(stack, after, causes(happened))
    reporter.say(f"{stack} is {after.status}: it runs as before the update")
    return after
