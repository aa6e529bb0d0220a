"""The HTTP sender against real servers: where it goes, what it says, and how it ends."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import pytest

from taskflow.adapters.http.sender import VettedHttpSender
from taskflow.core.errors import InvalidRequestError
from taskflow.ports.http import HttpAnswer
from tests.support.http_server import Reply, http_server

TLS = Path(__file__).parents[2] / "support" / "tls"


class Names:
    """A name service that says what it is told, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.addresses


def sender(
    names: Names | None = None, *, allow_private: bool = True, limit: int = 1_000
) -> VettedHttpSender:
    if names is None:
        return VettedHttpSender(allow_private=allow_private, max_body_bytes=limit)
    return VettedHttpSender(allow_private=allow_private, max_body_bytes=limit, resolve=names)


def get(via: VettedHttpSender, url: str, timeout_seconds: float = 10, **headers: str) -> HttpAnswer:
    return via.send("GET", url, headers=headers, body=None, timeout_seconds=timeout_seconds)


def test_a_request_arrives_as_it_was_given_and_so_does_the_answer() -> None:
    with http_server({"/a?b=1": Reply(201, {"X-Answer": "yes"}, b"hello")}) as server:
        answer = sender().send(
            "POST", f"{server.url}/a?b=1", headers={"X-Ask": "me"}, body=b"{}", timeout_seconds=10
        )
    [asked] = server.received
    assert (asked.method, asked.body, asked.headers["X-Ask"]) == ("POST", b"{}", "me")
    assert (answer.status_code, answer.headers["x-answer"], answer.body) == (201, "yes", b"hello")
    assert not answer.truncated


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
    ],
)
def test_no_spelling_of_a_private_address_is_reached(url: str) -> None:
    with (
        http_server({"/": Reply()}) as server,
        pytest.raises(InvalidRequestError, match="not on the public internet"),
    ):
        get(sender(allow_private=False), url.format(port=server.port))
    assert server.received == []


def test_a_name_is_refused_when_only_one_of_its_addresses_is_private() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        get(sender(Names("8.8.8.8", "10.0.0.1"), allow_private=False), "http://two-faced.example/")
    assert refused.value.fields == [{"field": "url", "message": "leads to a private address"}]


def test_the_name_is_looked_up_once_and_the_connection_goes_where_it_pointed() -> None:
    names = Names("127.0.0.1")
    with http_server({"/": Reply(200, {}, b"here")}) as server:
        answer = get(sender(names), f"http://service.example:{server.port}/")
    assert names.asked == ["service.example"]
    assert answer.body == b"here"
    assert server.received[0].headers["Host"] == f"service.example:{server.port}"


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with http_server({"/": Reply(200, {}, b"here")}) as server:
        # 127.0.0.2 belongs to this machine too, but nothing listens there.
        assert (
            get(
                sender(Names("127.0.0.2", "127.0.0.1")), f"http://x.example:{server.port}/"
            ).status_code
            == 200
        )


def test_https_is_verified_against_the_name_although_the_address_was_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "server.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    named: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    with http_server({"/": Reply(200, {}, b"secret")}, tls=context) as server:
        via = sender(Names("127.0.0.1"))
        assert get(via, f"https://service.example:{server.port}/").body == b"secret"
        with pytest.raises(ConnectionError, match="certificate"):
            get(via, f"https://other.example:{server.port}/")
    assert named == ["service.example", "other.example"]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server({"/": Reply(200, {}, b"direct")}) as server, http_server({}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert get(sender(), server.url + "/").body == b"direct"
    assert proxy.received == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http://user:password@example.com/",
        "http://exa\nmple.com/",
        "http://example.com:99999/",
        "http://" + "a" * 300 + ".example/",
    ],
)
def test_what_is_no_plain_http_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        get(sender(allow_private=False), url)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "inner.example"},
        {"content-length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Proxy-Authorization": "x"},
        {"X-A": "b\r\nX-C: d"},
        {"X A": "b"},
        {"X-A": "€"},
        {"": "b"},
    ],
)
def test_headers_that_could_change_the_request_are_refused(headers: dict[str, str]) -> None:
    with http_server({"/": Reply()}) as server, pytest.raises(InvalidRequestError):
        sender().send("GET", server.url + "/", headers=headers, body=None, timeout_seconds=10)
    assert server.received == []


def test_an_answer_is_cut_at_the_limit() -> None:
    with http_server(
        {"/": Reply(200, {}, b"x" * 100_000), "/fits": Reply(200, {}, b"x" * 1_000)}
    ) as server:
        cut, whole = get(sender(), server.url + "/"), get(sender(), server.url + "/fits")
    assert (len(cut.body), cut.truncated) == (1_000, True)
    assert (len(whole.body), whole.truncated) == (1_000, False)


def test_a_redirect_is_an_answer_like_any_other() -> None:
    with http_server({"/": Reply(302, {"Location": "/elsewhere"})}) as server:
        assert get(sender(), server.url + "/").status_code == 302
    assert [asked.path for asked in server.received] == ["/"]


def test_a_server_that_stops_talking_is_a_timeout() -> None:
    held = threading.Event()
    with http_server({"/": Reply(200, {}, b"late", until=held)}) as server:
        with pytest.raises(TimeoutError):
            get(sender(), server.url + "/", timeout_seconds=0.2)
        held.set()


def test_a_server_that_drips_cannot_hold_a_request_beyond_its_timeout() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not done.wait(0.02):
                        connection.sendall(b"X-Slow: yes\r\n")
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(TimeoutError):
            get(sender(), f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_seconds=0.3)
        done.set()
        thread.join()


def test_nobody_there_is_a_connection_error() -> None:
    with http_server({}) as server:
        pass
    with pytest.raises(ConnectionError):
        get(sender(), server.url)
    with pytest.raises(ConnectionError, match="cannot be resolved"):
        get(sender(), "http://no-such-host.invalid/")
