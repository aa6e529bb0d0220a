"""The listener that only sends clients to HTTPS."""

from __future__ import annotations

import re

_PORT = re.compile(rb":[0-9]*\Z")
_HTTPS = 443


class Redirect:
    def __init__(self, https_port: int) -> None:
        self._suffix = b"" if https_port == _HTTPS else b":%d" % https_port

    def answer(self, target: bytes, host: bytes, *, close: bool) -> bytes:
        """308: the method stays as it is."""
        location = b"https://" + _PORT.sub(b"", host or b"localhost") + self._suffix
        return b"HTTP/1.1 308 Permanent Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n%b\r\n" % (
            location + (target if target[:1] == b"/" else b"/"),
            b"Connection: close\r\n" if close else b"",
        )
