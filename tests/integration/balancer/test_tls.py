"""HTTPS: versions, renewal without a dropped connection, redirect, HSTS."""

from __future__ import annotations

import signal
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
import trustme

from tests.support.balancer import BalancerProcess, balancing, connection, converse, read_until
from tests.support.instance import Instance
from tests.support.ports import free_port
from tests.support.waiting import wait_for


class Authority:
    """A certificate authority, and the files that it writes certificates to."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self.certificate = directory / "certificate.pem"
        self.key = directory / "key.pem"
        self.issue("localhost")

    def issue(self, *names: str, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        made = self._authority.issue_cert(*names, key_type=key_type)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(self.key)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    @property
    def settings(self) -> dict[str, object]:
        return {"tls_certificate": self.certificate, "tls_key": self.key}


@pytest.fixture
def authority(directory: Path) -> Authority:
    return Authority(directory)


@pytest.fixture
def secure(directory: Path, instance: Instance, authority: Authority) -> Iterator[BalancerProcess]:
    with balancing(directory, [instance.url], hsts_seconds=300, **authority.settings) as balancer:
        yield balancer


def handshake(
    balancer: BalancerProcess, context: ssl.SSLContext, name: str = "localhost"
) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", balancer.port), timeout=10)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def test_requests_over_tls_and_what_the_instance_is_told(
    secure: BalancerProcess, authority: Authority, instance: Instance
) -> None:
    body = bytes(1_000_000)
    with httpx.Client(
        verify=authority.context(), base_url=f"https://localhost:{secure.port}"
    ) as client:
        for _ in range(3):
            answer = client.post("/echo", content=body)
            assert answer.content == body
            assert answer.headers["Strict-Transport-Security"] == "max-age=300"
        assert client.get("/chunked").text == "hello world"
    assert instance.seen[0].header("x-forwarded-proto") == "https"


def test_old_versions_are_refused(secure: BalancerProcess, authority: Authority) -> None:
    for name, works in {"TLSv1_1": False, "TLSv1_2": True, "TLSv1_3": True}.items():
        version = ssl.TLSVersion[name]
        context = authority.context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
            context.minimum_version = context.maximum_version = version
        if works:
            with handshake(secure, context) as tls:
                assert tls.version() == name.replace("_", ".")
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                handshake(secure, context)


def test_a_new_certificate_counts_from_the_next_connection_on(
    secure: BalancerProcess, authority: Authority
) -> None:
    def names() -> set[str]:
        with handshake(secure, authority.context()) as tls:
            found = tls.getpeercert()
            assert found is not None
            return {str(name[1]) for name in found["subjectAltName"]}

    with handshake(secure, authority.context()) as kept:
        assert names() == {"localhost"}
        authority.issue("localhost", "new.example")
        secure.process.send_signal(signal.SIGHUP)
        wait_for(lambda: names() == {"localhost", "new.example"}, "the new certificate")
        kept.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n"), "the old connection goes on"
        authority.key.write_text("broken")
        secure.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "balancer.reload_failed" in secure.log.read_text(), "it complains")
        assert names() == {"localhost", "new.example"}, "and goes on with what it has"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_new_certificate_with_another_type_of_key_replaces_the_old_one(
    secure: BalancerProcess, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.context()
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version

    def names(server_name: str | None) -> set[str]:
        raw = socket.create_connection(("127.0.0.1", secure.port), timeout=10)
        with context.wrap_socket(raw, server_hostname=server_name) as tls:
            found = tls.getpeercert()
            assert found is not None
            return {str(name[1]) for name in found["subjectAltName"]}

    assert names("localhost") == names(None) == {"localhost"}
    authority.issue("new.example", key_type=trustme.KeyType.RSA)
    secure.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "balancer.reloaded" in secure.log.read_text(), "the new certificate")
    assert names("localhost") == names(None) == {"new.example"}


def test_http_clients_are_sent_to_https(
    directory: Path, instance: Instance, authority: Authority
) -> None:
    redirect = free_port()
    with balancing(
        directory, [instance.url], redirect_port=redirect, **authority.settings
    ) as balancer:
        answer = converse(redirect, b"POST /a?b=c HTTP/1.1\r\nHost: localhost:80\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 308 Permanent Redirect\r\n")
        assert b"\r\nLocation: https://localhost:%d/a?b=c\r\n" % balancer.port in answer
        for body in (b"Content-Length: 4\r\n\r\nbody", b"Content-Length: 99\r\n\r\nbegun",
                     b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"):  # fmt: skip
            answer = converse(redirect, b"POST /a HTTP/1.1\r\nHost: localhost\r\n" + body)
            assert answer.startswith(b"HTTP/1.1 308 Permanent Redirect\r\n")
            assert b"\r\nConnection: close\r\n" in answer
        assert converse(redirect, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").startswith(
            b"HTTP/1.1 400 "
        )
        with httpx.Client(verify=authority.context(), follow_redirects=True) as client:
            assert client.get(f"http://localhost:{redirect}/echo").status_code == 200
    assert [seen.target for seen in instance.seen] == ["/echo"]


def test_plain_http_on_the_https_port_and_a_silent_client_do_no_harm(
    directory: Path, instance: Instance, authority: Authority
) -> None:
    with balancing(
        directory, [instance.url], head_timeout_seconds=0.3, **authority.settings
    ) as balancer:
        with connection(balancer.port) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            raw.recv(100)
        with connection(balancer.port) as silent:
            assert silent.recv(1) == b""
        with handshake(balancer, authority.context()) as tls:
            tls.sendall(b"GET /port HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_until(tls, str(instance.port).encode()).startswith(b"HTTP/1.1 200 OK\r\n")


def test_clients_that_owe_their_handshake_are_limited_too(
    directory: Path, instance: Instance, authority: Authority
) -> None:
    settings = {"max_client_connections": 3, "head_timeout_seconds": 30, **authority.settings}
    get = b"GET /port HTTP/1.1\r\nHost: a\r\n\r\n"
    with balancing(directory, [instance.url], **settings) as balancer:
        with ExitStack() as stack:
            served = [
                stack.enter_context(handshake(balancer, authority.context())) for _ in range(3)
            ]
            silent = [stack.enter_context(connection(balancer.port)) for _ in range(3)]
            with connection(balancer.port) as one_more, suppress(ConnectionResetError):
                assert one_more.recv(1) == b"", "it is let go at once"
            for raw in silent[1:]:
                raw.close()
            for tls in served:
                tls.sendall(get)
                assert tls.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
            with handshake(balancer, authority.context()) as over:
                assert over.recv(65_536).startswith(b"HTTP/1.1 503 "), "who can be told, is told"
        wait_for(lambda: balancer_answers(balancer, authority, get), "all have gone")


def balancer_answers(balancer: BalancerProcess, authority: Authority, request: bytes) -> bool:
    with handshake(balancer, authority.context()) as tls:
        tls.sendall(request)
        return tls.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
