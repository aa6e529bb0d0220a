"""The certificates that PostgreSQL is recognised by: given, downloaded, kept, or not to be had."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import certifi
import pytest
import trustme
from cryptography import x509

from deployment.packaging import PackagingError
from deployment.packaging.database_ca import database_ca

CA = trustme.CA(organization_name="RDS").cert_pem.bytes()


class Truststore(BaseHTTPRequestHandler):
    answers: dict[str, bytes] = {}  # noqa: RUF012 - one server, one test

    def do_GET(self) -> None:
        content = self.answers.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Truststore)
    thread = Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{{region}}.pem"
    server.shutdown()
    thread.join()
    server.server_close()
    Truststore.answers = {}


def organizations(pem: bytes | None) -> set[str]:
    assert pem is not None
    oid = x509.oid.NameOID.ORGANIZATION_NAME
    return {
        str(name.value)
        for certificate in x509.load_pem_x509_certificates(pem)
        for name in certificate.subject.get_attributes_for_oid(oid)
    }


def test_a_file_is_taken_with_amazons_own_roots_for_rds_proxy(tmp_path: Path) -> None:
    given = tmp_path / "bundle.pem"
    given.write_bytes(CA)
    found = database_ca(given, "eu-west-1", keep=tmp_path / "kept.pem")
    assert organizations(found) == {"RDS", "Amazon"}
    assert found == database_ca(given, "eu-west-1", keep=tmp_path / "kept.pem")


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    given = tmp_path / "bundle.pem"
    given.write_text("<html>Access denied</html>")
    with pytest.raises(PackagingError, match="no certificate in PEM format"):
        database_ca(given, "eu-west-1", keep=tmp_path / "kept.pem")
    with pytest.raises(PackagingError, match="No such file"):
        database_ca(tmp_path / "other.pem", "eu-west-1", keep=tmp_path / "kept.pem")


def test_the_regions_bundle_is_downloaded_and_kept(tmp_path: Path, address: str) -> None:
    keep = tmp_path / "new" / "kept.pem"
    Truststore.answers["/eu-west-1.pem"] = CA
    found = database_ca(None, "eu-west-1", keep=keep, address=address)
    assert organizations(found) == {"RDS", "Amazon"}
    Truststore.answers["/eu-west-1.pem"] = b"<html>log in to the hotel's network</html>"
    assert database_ca(None, "eu-west-1", keep=keep, address=address) == found
    Truststore.answers.clear()
    assert database_ca(None, "eu-west-1", keep=keep, address=address) == found


def test_without_network_and_file_there_is_none(tmp_path: Path, address: str) -> None:
    keep = tmp_path / "kept.pem"
    assert database_ca(None, "eu-west-1", keep=keep, address=address) is None
    assert database_ca(None, "eu-west-1", keep=keep, address="http://127.0.0.1:9/") is None
    assert "Amazon" in certifi.contents()  # what the roots are taken from
