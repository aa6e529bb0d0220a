"""Which internet addresses a user's task may reach: those of the public internet, and nothing that leads elsewhere."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# `is_global` of Python 3.11 to 3.13 differs in these (CPython gh-113171), or calls them global though they are not
# the public internet. Source: IANA special-purpose address registries.
_REFUSED_V4 = (
    IPv4Network("192.0.0.0/24"),  # IETF protocol assignments
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network(
        "168.63.129.16/32"
    ),  # Azure's platform service, reachable from every virtual machine there
)
_REFUSED_V6 = (
    IPv6Network("2001::/23"),  # IETF protocol assignments, Teredo among them
    IPv6Network("3fff::/20"),  # documentation
)
_UNICAST_V6 = IPv6Network(
    "2000::/3"
)  # the only part of IPv6 that IANA hands out for the public internet
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_6TO4 = IPv6Network("2002::/16")  # RFC 3056: bits 16 to 48 are an IPv4 address


def is_public(address: str) -> bool:
    """Whether ``address`` (a literal, with or without a zone) belongs to the public internet.

    An IPv6 address that carries an IPv4 address is as public as that one.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return _is_public_v4(parsed)
    if parsed.scope_id is not None:
        return False
    inner = _carried(parsed)
    if inner is not None:
        return _is_public_v4(inner)
    refused = any(parsed in network for network in _REFUSED_V6)
    return parsed in _UNICAST_V6 and parsed.is_global and not refused


def _is_public_v4(address: IPv4Address) -> bool:
    refused = any(address in network for network in _REFUSED_V4)
    return (
        address.is_global and not address.is_multicast and not address.is_reserved and not refused
    )


def _carried(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _6TO4:
        return IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return None
