"""An instance behind the balancer that answers in every way HTTP/1 knows, and remembers what reached it.

It reads with h11, a parser that shares nothing with the balancer's. As a program (``python -m tests.support.instance
PORT LOG``) it can be killed; LOG gets a line per request before it is answered.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import h11

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PIECE = bytes(65_536)


@dataclass
class Seen:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None


@dataclass
class Instance:
    """``port`` 0: any. Attributes may be set by tests while it runs."""

    port: int = 0
    log: Path | None = None
    seen: list[Seen] = field(default_factory=list)
    broken: list[str] = field(
        default_factory=list
    )  # what h11 refused: the balancer passed on something wrong
    health: tuple[int, bytes] = (200, b'{"status": "ok"}')
    connections: int = 0
    received_bytes: int = 0
    gone: threading.Event = field(
        default_factory=threading.Event
    )  # somebody hung up while being answered
    released: threading.Event = field(default_factory=threading.Event)  # for answers that wait
    arrived: threading.Event = field(
        default_factory=threading.Event
    )  # a request that waits is here

    resets: bool = False  # whoever connects, as a tunnel does whose other end is dead
    conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.conversations[task] = writer
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Not in `serve`: one that is cancelled before it began would leave its connection open.
        self.conversations.pop(task).transport.abort()

    async def end(self, server: asyncio.Server) -> None:
        """Nobody can connect any more; whoever is connected, or about to be, is let go."""
        for listener in server.sockets:
            # Before `close`: Python 3.11 forgets the sockets of those it is just accepting.
            asyncio.get_running_loop().remove_reader(listener.fileno())
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            writers = list(self.conversations.values())
            for task in self.conversations:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.gather(*(one.wait_closed() for one in writers), return_exceptions=True)
        server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.resets:
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        try:
            await _Connection(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError):
            self.gone.set()


class _Connection:
    def __init__(
        self, instance: Instance, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._instance = instance
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        while True:
            try:
                request = await self._next()
                if request is None:
                    return
                assert isinstance(request, h11.Request)
                seen = Seen(
                    request.method.decode(),
                    request.target.decode(),
                    [(name.decode(), value.decode("latin-1")) for name, value in request.headers],
                    b"",
                )
                path, _, query = seen.target.partition("?")
                if path == "/early":
                    await self._send(
                        b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
                    )
                    return
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
                if path == "/begins-early":
                    await self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")
                if path == "/reads-late":
                    self._instance.arrived.set()
                    await asyncio.to_thread(self._instance.released.wait, 60)
                seen.body = await self._body(keep=path not in {"/count", "/reads-late"})
            except h11.RemoteProtocolError as exc:
                if "peer unexpectedly closed" not in str(exc):
                    self._instance.broken.append(str(exc))
                return
            if path == "/health":
                status, body = self._instance.health
                await self._send(
                    b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
                )
            else:
                self._instance.seen.append(seen)
                if self._instance.log is not None:
                    with self._instance.log.open("a") as log:
                        log.write(f"{seen.method} {seen.target}\n")
                options = {name: values[0] for name, values in parse_qs(query).items()}
                if not await self._answer(path, seen, options):
                    return
            if self._http.their_state is not h11.DONE:
                return
            self._http = _next_cycle(self._http)

    async def _next(self) -> object | None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(65_536)
                self._instance.received_bytes += len(data)
                if not data and not self._http.trailing_data[0]:
                    return None
                self._http.receive_data(data)
            elif isinstance(event, h11.ConnectionClosed):
                return None
            else:
                return event

    async def _body(self, *, keep: bool) -> bytes:
        body, count = bytearray(), 0
        while True:
            event = await self._next()
            if event is None:
                raise h11.RemoteProtocolError("peer unexpectedly closed connection")
            if isinstance(event, h11.Data):
                if keep:
                    body += event.data
                else:
                    count += len(event.data)
            else:
                return bytes(body) if keep else str(count).encode()

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _whole(self, body: bytes, *, status: bytes = b"200 OK", extra: bytes = b"") -> None:
        await self._send(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), extra, body)
        )

    async def _answer(self, path: str, seen: Seen, options: dict[str, str]) -> bool:
        """Whether the connection goes on."""
        instance = self._instance
        match path:
            case "/begins-early":
                await self._send(b"ended")
            case "/echo" | "/count" | "/reads-late":
                await self._whole(seen.body)
            case "/headers":
                await self._whole(
                    json.dumps(seen.headers).encode(), extra=b"Content-Type: application/json\r\n"
                )
            case "/id":
                given = (seen.header("x-request-id") or "").encode()
                await self._whole(b"id", extra=b"X-Request-ID: " + given + b"\r\n")
            case "/head":
                await self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
                return seen.method == "HEAD"
            case "/chunked":
                await self._send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                    b"6;a=b\r\nhello \r\n5\r\nworld\r\n0\r\nX-Sum: 11\r\n\r\n"
                )
            case "/until-close":
                await self._send(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end"
                )
                return False
            case "/no-content":
                await self._send(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")
            case "/not-modified":
                await self._send(
                    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n"
                )
            case "/hints":
                await self._send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
                await self._whole(b"after hints")
            case "/hop":
                await self._whole(
                    b"hop",
                    extra=b"Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nX-Public: 2\r\n",
                )
            case "/big":
                left = int(options["bytes"])
                await self._send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
                while left:
                    piece = _PIECE[:left]
                    await self._send(piece)
                    left -= len(piece)
            case "/events":
                await self._send(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
                )
                await asyncio.to_thread(instance.released.wait, 30)
                await self._send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            case "/wait":
                instance.arrived.set()
                await asyncio.to_thread(instance.released.wait, 30)
                await self._whole(b"waited")
            case "/large-head":
                await self._whole(
                    b"", extra=b"X-A: " + bytes(70_000).replace(b"\0", b"b") + b"\r\n"
                )
            case "/half":
                await self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
                return False
            case "/half-then-wait":
                await self._send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
                await self._reader.read()
                return False
            case "/drop":
                return False  # as a process that dies after it has read the request
            case "/raw":
                await self._send(base64.b64decode(options["answer"]))
                return False
            case "/websocket" if seen.header("upgrade") == "websocket":
                await self._websocket(seen)
                return False
            case "/shout" if seen.header("upgrade") == "shout":
                await self._send(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nHI\n"
                )
                rest = self._http.trailing_data[0]
                while data := rest or await self._reader.read(65_536):
                    rest = b""
                    await self._send(data.upper())
                return False
            case _:
                await self._whole(str(instance.port).encode())
        return True

    async def _websocket(self, seen: Seen) -> None:
        """Echoes text frames, and answers a close frame."""
        key = (seen.header("sec-websocket-key") or "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET).digest())
        await self._send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        while True:
            first, second = await self._reader.readexactly(2)
            length = second & 0x7F
            if length >= 126:
                length = int.from_bytes(
                    await self._reader.readexactly(2 if length == 126 else 8), "big"
                )
            mask = await self._reader.readexactly(4)
            masked = await self._reader.readexactly(length)
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
            size = (
                bytes([length])
                if length < 126
                else b"\x7e" + length.to_bytes(2, "big")
                if length < 65_536
                else b"\x7f" + length.to_bytes(8, "big")
            )
            await self._send(bytes([first]) + size + payload)
            if first & 0x0F == 8:
                self._instance.seen.append(Seen("CLOSE", payload.hex(), [], b""))
                return


def _next_cycle(http: h11.Connection) -> h11.Connection:
    """A fresh parser with what it has read ahead: answers are written by hand, which h11 does not get to see."""
    following = h11.Connection(h11.SERVER)
    if http.trailing_data[0]:
        following.receive_data(http.trailing_data[0])
    return following


@contextmanager
def running(instance: Instance) -> Iterator[Instance]:
    """Serve it from a thread."""
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(instance.accept, "127.0.0.1", instance.port)
        instance.port = server.sockets[0].getsockname()[1]
        ready.set()
        await done.wait()
        await instance.end(server)

    def run() -> None:
        try:
            loop.run_until_complete(main())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="instance", daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield instance
    finally:
        instance.released.set()
        loop.call_soon_threadsafe(done.set)
        thread.join(60)
        assert not thread.is_alive()


async def _main(port: int, log: Path) -> None:
    server = await asyncio.start_server(Instance(port, log).accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2])))
