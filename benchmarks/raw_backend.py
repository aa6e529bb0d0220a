"""The fastest instance Python has: answers every GET with the same bytes. `python -m benchmarks.raw_backend PORT`."""

from __future__ import annotations

import asyncio
import sys

import uvloop

_END = b"\r\n\r\n"
_BODY = b"Hello, world!"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        count = data.count(_END)
        self._rest = data.rpartition(_END)[2]
        path = data[4 : data.find(b" ", 4)]
        if path.startswith(b"/bytes/"):
            self._transport.write(_large(int(path[7:])))  # type: ignore[attr-defined]
        elif count:
            self._transport.write(_ANSWER * count)  # type: ignore[attr-defined]


def _large(count: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count + bytes(count)


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
