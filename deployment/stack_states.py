"""Every status a stack can have, and what may be done then."""

from __future__ import annotations

from enum import StrEnum

from deployment.errors import DecisionNeededError, DeployError


class Readiness(StrEnum):
    ABSENT = "absent"  # create it
    REVIEW = "review"  # a change set was made, nothing else: create it
    READY = "ready"  # update it
    BUSY = "busy"  # AWS is at work: wait, then look again
    CREATION_FAILED = "creation_failed"  # holds nothing that works: delete it, create it anew
    STUCK = "stuck"  # a rollback or an update did not end: `recover`
    DELETION_FAILED = "deletion_failed"  # `destroy` again


_READINESS = {
    "DELETE_COMPLETE": Readiness.ABSENT,
    "REVIEW_IN_PROGRESS": Readiness.REVIEW,
    "CREATE_COMPLETE": Readiness.READY,
    "UPDATE_COMPLETE": Readiness.READY,
    "UPDATE_ROLLBACK_COMPLETE": Readiness.READY,
    "IMPORT_COMPLETE": Readiness.READY,
    "IMPORT_ROLLBACK_COMPLETE": Readiness.READY,
    "CREATE_IN_PROGRESS": Readiness.BUSY,
    "ROLLBACK_IN_PROGRESS": Readiness.BUSY,
    "DELETE_IN_PROGRESS": Readiness.BUSY,
    "UPDATE_IN_PROGRESS": Readiness.BUSY,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Readiness.BUSY,
    "UPDATE_ROLLBACK_IN_PROGRESS": Readiness.BUSY,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Readiness.BUSY,
    "IMPORT_IN_PROGRESS": Readiness.BUSY,
    "IMPORT_ROLLBACK_IN_PROGRESS": Readiness.BUSY,
    "CREATE_FAILED": Readiness.CREATION_FAILED,
    "ROLLBACK_COMPLETE": Readiness.CREATION_FAILED,
    "ROLLBACK_FAILED": Readiness.CREATION_FAILED,
    "UPDATE_FAILED": Readiness.STUCK,
    "UPDATE_ROLLBACK_FAILED": Readiness.STUCK,
    "IMPORT_ROLLBACK_FAILED": Readiness.STUCK,
    "DELETE_FAILED": Readiness.DELETION_FAILED,
}


def readiness(status: str | None) -> Readiness:
    """``None``: there is no such stack. Raises DeployError for a status AWS did not have when this was written."""
    if status is None:
        return Readiness.ABSENT
    try:
        return _READINESS[status]
    except KeyError:
        raise DeployError(
            f"The stack is in a state that this program does not know: {status}.",
            "Look at it in the CloudFormation console; a newer TaskFlow may know it.",
            code="unknown_stack_status",
        ) from None


def decision_needed(stack: str, status: str, reason: str) -> DecisionNeededError:
    """For a state in which `up` would have to guess what is wanted."""
    because = f" ({reason})" if reason else ""
    match readiness(status):
        case Readiness.STUCK if status == "UPDATE_FAILED":
            step = "`deploy.py recover` brings it back to what it was before that update; then run `up` again."
        case Readiness.STUCK:
            step = (
                "`deploy.py status` names the resources that could not be brought back. Mend what the reason says and "
                "run `deploy.py recover`, or leave one as it is: `deploy.py recover --skip LOGICAL_ID`. Then run `up` "
                "again."
            )
        case Readiness.DELETION_FAILED:
            step = (
                "`deploy.py status` names what could not be deleted. `deploy.py destroy` goes on; it can leave one "
                "behind: `deploy.py destroy --retain LOGICAL_ID`."
            )
        case Readiness.CREATION_FAILED:
            step = (
                "Nothing of it works or holds data: `deploy.py up` (it asks, or --yes) deletes what is left and "
                "begins anew."
            )
        case Readiness.BUSY:
            step = "Wait until it is over (`deploy.py status`), then run this again."
        case _:
            step = "Look at it with `deploy.py status`."
    return DecisionNeededError(
        f"Stack {stack} is {status}{because}.", step, code=f"stack_{status.lower()}"
    )
