"""How long a body is: the rules of RFC 9112 §6.3, without the leniencies that let two programs disagree."""

from __future__ import annotations

from taskflow.balancer.grammar import LENGTH


class FramingError(Exception):
    """The length of the body cannot be told for certain. ``args[0]`` says why."""


class UnknownCodingError(FramingError):
    """A transfer coding besides chunked."""


def body_length(lengths: list[bytes], codings: list[bytes], *, minor: int) -> int | None:
    """Bytes of the body, -1 when it is chunked, None when no header says. ``minor``: of the version, 0 or 1.

    Raises FramingError for both kinds of length, for several, and for any other spelling of either.
    """
    if codings:
        if lengths:
            raise FramingError("both Content-Length and Transfer-Encoding are given")
        if minor == 0:
            raise FramingError("HTTP/1.0 knows no Transfer-Encoding")
        if len(codings) > 1:
            raise FramingError("Transfer-Encoding is given several times")
        coding = codings[0].strip(b" \t").lower()
        if coding != b"chunked":
            parts = [part.strip(b" \t") for part in coding.split(b",")]
            if parts[-1] == b"chunked" and parts.count(b"chunked") == 1 and all(parts):
                raise UnknownCodingError("only the transfer coding chunked is known")
            raise FramingError("Transfer-Encoding is not chunked")
        return -1
    if not lengths:
        return None
    if len(lengths) > 1:
        raise FramingError("Content-Length is given several times")
    text = lengths[0].rstrip(b" \t")
    if not LENGTH.fullmatch(text):
        raise FramingError("Content-Length is not a number")
    return int(text)


def tokens(values: list[bytes]) -> list[bytes]:
    """The lower-cased members of a comma-separated header, e.g. Connection."""
    return [
        member
        for value in values
        for part in value.lower().split(b",")
        if (member := part.strip(b" \t"))
    ]
