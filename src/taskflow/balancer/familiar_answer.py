"""Answers whose heads an instance gives again and again, alike to the byte apart from the request's id."""

from __future__ import annotations

from taskflow.balancer.forwarding import VIA
from taskflow.balancer.grammar import ORDINARY_ANSWER

_MAX_BYTES = 1_024
_FIRST_ID, _LENGTH, _SECOND_ID = 2, 3, 4  # groups of `ORDINARY_ANSWER`


class FamiliarAnswer:
    """How such an answer begins, and how the one for the client does. It is recognised, not read."""

    __slots__ = ("after", "before", "body_bytes", "status", "told_after", "told_before")

    def __init__(
        self, before: bytes, after: bytes | None, told: tuple[bytes, bytes], status: int, body_bytes: int
    ) -> None:  # fmt: skip
        """``after``: what follows the request's id, None when the head does not say it."""
        self.before = before
        self.after = after
        self.told_before, self.told_after = told  # the request's id is between them
        self.status = status
        self.body_bytes = body_bytes


def learn_answer(head: bytes, request_id: bytes, *, extra: bytes) -> FamiliarAnswer | None:
    """What to recognise ``head`` by the next time; None when every one like it has to be read. ``extra``: whole lines
    for the client."""
    match = ORDINARY_ANSWER.fullmatch(head)
    if match is None or len(head) > _MAX_BYTES:
        return None
    first, second = match.span(_FIRST_ID), match.span(_SECOND_ID)
    start, end = first if first[0] >= 0 else second
    last_lines = VIA + extra + b"\r\n"
    status, body_bytes = int(match[1]), int(match[_LENGTH])
    if start < 0:
        told = (head[:-2] + b"X-Request-ID: ", b"\r\n" + last_lines)
        return FamiliarAnswer(head, None, told, status, body_bytes)
    if head[start:end] != request_id:
        return None  # it tells an id of its own
    told = (head[:start], head[end:-2] + last_lines)
    return FamiliarAnswer(head[:start], head[end:], told, status, body_bytes)
