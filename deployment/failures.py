"""Why a stack's operation failed, in one sentence, and what to do about that reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deployment.errors import DeployError
from deployment.stack_states import Readiness
from deployment.stacks import StackEvent, StackState

_SHOWN = 3

# The first that is found in a reason decides; what AWS writes is not documented, but has been the same for years.
_STEPS = (
    (
        re.compile(r"QueueDeletedRecently|wait 60 seconds after deleting a queue", re.IGNORECASE),
        "Wait a minute: SQS gives the name of a deleted queue free only then",
    ),
    (
        re.compile(r"not authorized|access ?denied|UnauthorizedTaggingOperation", re.IGNORECASE),
        "Ask the account's administrator for this permission",
    ),
    (
        re.compile(
            r"limit exceeded|LimitExceeded|quota|maximum (number|limit)|too many", re.IGNORECASE
        ),
        "Ask for a higher quota (Service Quotas in the AWS console), or delete what is not used any more",
    ),
    (
        re.compile(r"already exists", re.IGNORECASE),
        "Delete what has this name (perhaps it was kept when an earlier stack was deleted), or choose another --stage",
    ),
    (
        re.compile(
            r"circuit breaker|failed to stabilize|NotStabilized|health checks failed", re.IGNORECASE
        ),
        "`deploy.py logs api` shows why the containers do not become healthy",
    ),
    (
        re.compile(
            r"insufficient capacity|InsufficientInstanceCapacity|not available in", re.IGNORECASE
        ),
        "Choose another size (--set) or --region",
    ),
    (re.compile(r"certificate", re.IGNORECASE), "Choose a valid certificate (--certificate-arn)"),
)


def causes(events: Sequence[StackEvent]) -> list[str]:
    """What failed by itself, oldest first."""
    return [
        f"{event.logical_id} ({event.resource_type}): {event.reason or event.status}"
        for event in events
        if event.is_cause
    ]


def failed(stack: str, state: StackState | None, reasons: Sequence[str]) -> DeployError:
    """``state``: where the stack ended; None: it is gone."""
    said = "; ".join(reasons[:_SHOWN]) or (state.reason if state else "") or "AWS gives no reason"
    if len(reasons) > _SHOWN:
        said += f"; and {len(reasons) - _SHOWN} more"
    step = next(
        (step for pattern, step in _STEPS if pattern.search(said)), "Mend what the reason says"
    )
    if state is None:
        return DeployError(
            f"The stack {stack} was deleted meanwhile.",
            "Run the same command again.",
            code="stack_gone",
        )
    code = f"stack_{state.status.lower()}"
    match state.readiness:
        case Readiness.CREATION_FAILED:
            return DeployError(
                f"{stack} could not be created and is {state.status}: {said}.",
                f"{step}; then run `deploy.py up` again: it deletes what is left and begins anew.",
                code=code,
            )
        case Readiness.READY:
            return DeployError(
                f"The change of {stack} failed and was rolled back; it runs as before ({state.status}): {said}.",
                f"{step}; then run `deploy.py up` again.",
                code=code,
            )
        case _:
            return DeployError(
                f"The change of {stack} failed and left it {state.status}: {said}.",
                f"{step}; then `deploy.py recover`, and `deploy.py up` again.",
                code=code,
            )
