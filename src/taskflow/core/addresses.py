"""How the address that a server listens on is written in a URL."""

from __future__ import annotations

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with


def url_of(host: str, port: int, *, scheme: str = "http") -> str:
    """IPv6 has brackets there."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def reachable(host: str) -> str:
    """Where a program on this machine finds what listens on ``host``."""
    return _EVERYWHERE.get(host, host)
