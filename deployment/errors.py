"""What goes wrong in a deployment: one sentence, and what to do next."""

from __future__ import annotations


class DeployError(Exception):
    """``message`` says what happened, ``next_step`` what the reader does about it; both are whole sentences.

    ``code`` is for programs (`--json`) and is never renamed.
    """

    code = "failed"

    def __init__(self, message: str, next_step: str, *, code: str | None = None) -> None:
        super().__init__(f"{message} {next_step}")
        self.message = message
        self.next_step = next_step
        self.code = code or type(self).code


class UsageError(DeployError):
    """The command line asks for something that cannot be: exit code 2."""

    code = "usage"


class DecisionNeededError(DeployError):
    """Nothing was changed, because a person has to decide first."""

    code = "decision_needed"
