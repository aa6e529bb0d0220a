"""The certificates that a function recognises its database by: RDS signs with authorities no operating system knows."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment.packaging.errors import PackagingError

# Amazon RDS User Guide, "Using SSL/TLS to encrypt a connection": the bundle of one region, a few certificates. The
# bundle of all regions has more than a hundred, which libpq would read for each connection.
_BUNDLE = "https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem"
_TIMEOUT_SECONDS = 15.0
_MOST_BYTES = 2**20

NOT_VERIFIED = (
    "AWS's certificates for RDS could not be downloaded, so connections to the database are encrypted, but it is not "
    "verified who answers them (TASKFLOW_DATABASE_TLS=require). With --database-ca FILE they are (verify-full)."
)


def database_ca(
    given: Path | None, region: str, *, keep: Path, address: str = _BUNDLE
) -> bytes | None:
    """PEM for `build`: ``given``, else what AWS offers for the region, else what it offered last time (``keep``).

    None: nothing of this could be had, and `NOT_VERIFIED` is to be said. RDS Proxy's certificates come from the
    public Amazon Trust Services, whose roots are always added. Raises PackagingError for a file without certificates.
    """
    if given is not None:
        try:
            found = given.read_bytes()
        except OSError as exc:
            raise PackagingError(
                f"The certificates of --database-ca cannot be read: {given}: {exc.strerror}.",
                "Name a file in PEM format, such as the bundle that AWS offers for RDS.",
            ) from exc
        if not _certificates(found):
            raise PackagingError(
                f"{given} holds no certificate in PEM format.",
                "Name a bundle such as AWS offers for RDS: it begins with -----BEGIN CERTIFICATE-----.",
            )
        return _with_amazons_roots(found)
    fetched = _fetch(address.format(region=region))
    if fetched is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        keep.write_bytes(fetched)
    elif keep.is_file():
        fetched = keep.read_bytes()
    return None if fetched is None else _with_amazons_roots(fetched)


def _fetch(address: str) -> bytes | None:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - https, above
            content: bytes = answer.read(_MOST_BYTES)
    except OSError:  # URLError, too
        return None
    return content if _certificates(content) else None


def _certificates(pem: bytes) -> list[bytes]:
    """Those of authorities, each in PEM; none if it cannot be read."""
    return [text for text, _ in _read(pem)]


def _with_amazons_roots(pem: bytes) -> bytes:
    import certifi

    public = _read(certifi.contents().encode())
    roots = [text for text, organization in public if organization == "Amazon"]
    return b"".join(dict.fromkeys([*_certificates(pem), *roots]))


def _read(pem: bytes) -> list[tuple[bytes, str]]:
    """With the organization that each belongs to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode())
    except (ssl.SSLError, ValueError):
        return []
    texts = [ssl.DER_cert_to_PEM_cert(der) for der in context.get_ca_certs(binary_form=True)]
    return [
        (text.encode(), _organization(told))
        for text, told in zip(texts, context.get_ca_certs(), strict=True)
    ]


def _organization(certificate: Mapping[str, Any]) -> str:
    parts = (pair for name in certificate["subject"] for pair in name)
    return str(dict(parts).get("organizationName", ""))
