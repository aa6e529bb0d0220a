"""Which addresses count as the public internet."""

from __future__ import annotations

import pytest

from taskflow.adapters.http.addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_addresses_of_the_public_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "this host"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("169.254.169.254", "cloud metadata"),
        ("168.63.129.16", "Azure platform"),
        ("192.0.0.8", "IETF protocol assignments"),
        ("192.0.2.1", "documentation"),
        ("198.18.0.1", "benchmarks"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "mapped loopback"),
        ("::ffff:169.254.169.254", "mapped metadata"),
        ("64:ff9b::10.0.0.1", "NAT64 of a private address"),
        ("64:ff9b:1::1", "local NAT64"),
        ("2002:0a00:0001::1", "6to4 of a private address"),
        ("2001:0:5ef5:79fd::1", "Teredo"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fc00::1", "unique local"),
        ("fe80::1", "link local"),
        ("fe80::1%eth0", "link local with a zone"),
        ("fec0::1", "site local"),
        ("ff02::1", "multicast"),
        ("not an address", "nonsense"),
    ],
)
def test_every_other_address_is_not(address: str, what: str) -> None:
    assert not is_public(address), what
