"""What a head of HTTP/1 may consist of (RFC 9110 §5, RFC 9112 §2-5), as regular expressions over its raw bytes.

They are possessive: no input makes them slow. Whatever they do not match is refused; `complaint` finds the words.
"""

from __future__ import annotations

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
TOKEN = re.compile(_TOKEN)
# (line, name, value). `findall` skips what is no header: a block is valid when its lines together are as long as it is.
FIELD = re.compile(rb"((" + _TOKEN + rb"):[\t ]*+(" + _VALUE + rb")\r\n)")
# Methods are case-sensitive: an instance that took `head` for HEAD would answer without the body we wait for.
REQUEST_LINE = re.compile(rb"([A-Z][A-Z_-]{0,31}) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n")
# A request up to the version, of the common kind: its target is a path.
PATH_START = re.compile(rb"([A-Z][A-Z_-]{0,31}) (/[\x21\x22\x24-\x7e]*+)")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + _VALUE + rb"))?\r\n")
# An answer that needs nothing done to it: a length, and no header that is between two neighbours only. It may say
# X-Request-ID, before or after the length. What this does not match may still be valid.
_PLAIN_LINES = (
    rb"(?:(?!(?i:con(?:nection|tent-length)|keep-alive|proxy-|te:|transfer-encoding|upgrade|x-request-id))"
    + _TOKEN
    + rb":"
    + _VALUE
    + rb"\r\n|(?i:x-request-id):[\t ]*+("
    + _VALUE
    + rb")\r\n)*+"
)
ORDINARY_ANSWER = re.compile(
    rb"HTTP/1\.1 ((?!204|304)[2-5][0-9][0-9]) "
    + _VALUE
    + rb"\r\n"
    + _PLAIN_LINES
    + rb"(?i:content-length): ?(0|[1-9][0-9]{0,17})\r\n"
    + _PLAIN_LINES
    + rb"\r\n"
)
HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
LENGTH = re.compile(rb"[0-9]{1,18}")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n|\Z)")
_NAME_THEN_SPACE = re.compile(rb"[^\r\n:]*[\t ]:")
_NO_COLON = re.compile(rb"^[^:\r\n]+\r$", re.MULTILINE)


def bare_line_end(data: bytes) -> bool:
    """Whether a line of this beginning of a head ends in LF alone: no more of it is needed to refuse it."""
    return _BARE_LF.search(data) is not None


def complaint(data: bytes) -> str:
    """Why these lines of a head are refused, for people."""
    if _BARE_LF.search(data):
        return "a line ends in LF without CR"
    if _BARE_CR.search(data):
        return "a CR stands alone"
    if b"\0" in data:
        return "there is a NUL in a header"
    lines = data.split(b"\r\n")
    for number, line in enumerate(lines):
        if line[:1] in {b" ", b"\t"}:
            return (
                "a header is continued on the next line (obs-fold)"
                if number
                else "a header begins with a space"
            )
        if _NAME_THEN_SPACE.match(line) and b":" in line and TOKEN.match(line):
            name = line.partition(b":")[0]
            if name != name.rstrip(b" \t"):
                return "there is a space before the colon of a header"
        if line and b":" not in line:
            return "a header line has no colon"
    return "a header has characters that are not allowed"
