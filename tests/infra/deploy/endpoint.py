"""The way from deploy.py to the load balancer: a proxy that takes every HTTPS address to one program on this machine,
behind TLS with the certificate that was last imported into ACM."""

from __future__ import annotations

import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.aws_proxy import Answer, Request

_PIECE = 65_536


class LoadBalancer:
    """``asked``: the addresses to which connections came; ``named``: whose certificate they wanted. Without one of its
    own nothing answers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.named: list[str | None] = []
        self.certificates: list[bytes] = []
        self._directory = tempfile.TemporaryDirectory(prefix="taskflow-balancer-")
        self._files = (
            Path(self._directory.name, "cert.pem"),
            Path(self._directory.name, "key.pem"),
        )
        self.proxy_url = ""

    def watch(self, request: Request) -> Answer | None:
        """An interceptor: sees certificates being imported."""
        if request.operation == "ImportCertificate":
            import base64

            for path, name in zip(self._files, ("Certificate", "PrivateKey"), strict=True):
                path.write_bytes(base64.b64decode(request.json[name]))
            self.certificates.append(self._files[0].read_bytes())
        return None

    def close(self) -> None:
        self._directory.cleanup()

    def carry(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := client.recv(_PIECE)):
                return
            head += piece
        method, address, _ = head.split(b" ", 2)
        assert method == b"CONNECT", head
        self.asked.append(address.decode())
        client.sendall(b"HTTP/1.1 200 here it is\r\n\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        context.sni_callback = lambda _, name, __: self.named.append(name)
        with (
            context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection(("127.0.0.1", self.port)) as server,
        ):
            back = threading.Thread(target=_copy, args=[server, secure], daemon=True)
            back.start()
            _copy(secure, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def load_balancer(port: int) -> Iterator[LoadBalancer]:
    """Before the program that listens on ``port``."""
    balancer = LoadBalancer(port)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # whoever does not trust us breaks the connection
                balancer.carry(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        balancer.proxy_url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield balancer
        finally:
            server.shutdown()
            balancer.close()
