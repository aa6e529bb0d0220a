"""A proxy before PostgreSQL that breaks a connection at its next COMMIT: before that arrives, or before its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Cut = Literal["commit", "answer"]
_COMMIT = b"COMMIT"


class CuttingProxy:
    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut: Cut | None = None
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def cut_next(self, what: Cut) -> None:
        """Once: the commit never arrives, or is done without an answer."""
        self._cut = what

    def close(self) -> None:
        for open_socket in (self._listener, *self._open):
            try:
                open_socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            open_socket.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._open += [client, server]
            self._start(self._to_server, client, server)
            self._start(_forward, server, client)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        while data := _read(client):
            if self._cut is not None and _COMMIT in data:
                cut, self._cut = self._cut, None
                self.cuts += 1
                _break(client)  # whatever the server says, nobody hears it
                if cut == "answer":
                    server.sendall(data)
                    # It ends the session after the commit: then both are over.
                    server.shutdown(socket.SHUT_WR)
                else:
                    _break(server)
                return
            try:
                server.sendall(data)
            except OSError:
                break
        _break(server)


def _forward(source: socket.socket, target: socket.socket) -> None:
    while data := _read(source):
        try:
            target.sendall(data)
        except OSError:
            continue  # the commit is still on its way
    _break(target)


def _read(source: socket.socket) -> bytes:
    try:
        return source.recv(65_536)
    except OSError:
        return b""


def _break(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
