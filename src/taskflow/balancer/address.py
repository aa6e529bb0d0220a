"""Addresses of instances as people write them: ``http://127.0.0.1:8001``."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from taskflow.core.errors import ConfigurationError

# What a resolver can be asked for: it raises for other names, whenever a connection is wanted.
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")


class Address(NamedTuple):
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Raises ConfigurationError naming what is wrong."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigurationError(f"instance {text!r}: {exc}") from None
    if parts.scheme != "http" or not host:
        raise ConfigurationError(f"instance {text!r} is not an address like http://127.0.0.1:8001")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        raise ConfigurationError(f"instance {text!r}: only host and port can be given")
    if ":" not in host and _NAME.fullmatch(host) is None:
        raise ConfigurationError(f"instance {text!r}: {host!r} is not the name of a host")
    if port == 0:
        raise ConfigurationError(f"instance {text!r}: nothing listens on port 0")
    return Address(host, port or 80)
