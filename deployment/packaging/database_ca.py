"""The certificates that a function recognises its database by: RDS signs with authorities no operating system knows."""

from __future__ import annotations

import urllib.request
from pathlib import Path

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
    """Each in PEM; none if it cannot be read."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return [c.public_bytes(Encoding.PEM) for c in x509.load_pem_x509_certificates(pem)]
    except ValueError:
        return []


def _with_amazons_roots(pem: bytes) -> bytes:
    import certifi
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    public = certifi.contents().encode()
    amazons = [
        text
        for text in _certificates(public)
        if any(
            name.value == "Amazon"
            for name in x509.load_pem_x509_certificate(text).subject.get_attributes_for_oid(
                NameOID.ORGANIZATION_NAME
            )
        )
    ]
    return b"".join(dict.fromkeys([*_certificates(pem), *amazons]))
