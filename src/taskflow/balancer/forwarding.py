"""Who asked, as told to the instance: `Forwarded` and `X-Forwarded-*`, believed only when a trusted proxy sent them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from taskflow.core.errors import ConfigurationError

VIA = b"Via: 1.1 taskflow\r\n"
# Dropped when the peer is not trusted. Else merged with what we say ourselves, or passed on where we say nothing.
CLAIMS = frozenset(
    {
        b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-prefix", b"x-forwarded-server", b"x-forwarded-ssl", b"x-forwarded-scheme", b"x-real-ip",
    }
)  # fmt: skip
_MERGED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """Addresses and networks (``10.0.0.0/8``) whose word counts. Raises ConfigurationError for others."""

    def __init__(self, names: Iterable[str]) -> None:
        try:
            self._networks: list[_Network] = [ipaddress.ip_network(name) for name in names]
        except ValueError as exc:
            raise ConfigurationError(f"TASKFLOW_BALANCER_TRUSTED_PROXIES: {exc}") from exc

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)


class Peer:
    """The other end of a client's connection."""

    __slots__ = ("address", "scheme", "trusted")

    def __init__(self, address: str, *, scheme: str, trusted: bool) -> None:
        self.address = address
        self.scheme = scheme
        self.trusted = trusted

    def lines(self, host: bytes, claims: Mapping[bytes, list[bytes]]) -> bytes:
        """The header lines that tell an instance whom it answers. ``claims``: what came in `CLAIMS` headers."""
        address, scheme = self.address.encode(), self.scheme.encode()
        node = b'"[%s]"' % address if b":" in address else address
        ours = b"for=" + node + b";proto=" + scheme
        if host:
            ours += b';host="%s"' % host
        chain, proto, asked, forwarded = address, scheme, host, ours
        others = b""
        if self.trusted:
            said = {name: b", ".join(values) for name, values in claims.items()}
            chain = _joined(said.get(b"x-forwarded-for"), address)
            forwarded = _joined(said.get(b"forwarded"), ours)
            proto = said.get(b"x-forwarded-proto") or scheme
            asked = said.get(b"x-forwarded-host") or host
            others = b"".join(
                name + b": " + value + b"\r\n"
                for name, value in said.items()
                if name not in _MERGED
            )
        return b"X-Forwarded-For: %s\r\nX-Forwarded-Proto: %s\r\n%sForwarded: %s\r\n%s" % (
            chain,
            proto,
            b"X-Forwarded-Host: %s\r\n" % asked if asked else b"",
            forwarded,
            others,
        )


def _joined(before: bytes | None, last: bytes) -> bytes:
    return before + b", " + last if before else last
