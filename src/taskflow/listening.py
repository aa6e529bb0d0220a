"""Sockets to listen on. Opened before anything else: a port that is taken is the likeliest mistake."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from taskflow.core.addresses import url_of
from taskflow.core.errors import TaskFlowError

_OTHER_HOST = "choose another host: an address of this machine"
_BACKLOG = 2_048  # connections that may wait to be accepted


class CannotListenError(TaskFlowError):
    """The address is taken, not this machine's, or not allowed."""

    code = "cannot_listen"


def listen(host: str, port: int, *, option: str = "--port, TASKFLOW_PORT") -> socket.socket:
    """The socket to serve on; port 0 takes any free one. Raises CannotListenError: one clear sentence.

    ``option`` is what it tells to change.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise CannotListenError(f"cannot listen on {host}: {exc.strerror}; {_OTHER_HOST}") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        is_elsewhere = exc.errno == errno.EADDRNOTAVAIL
        advice = _OTHER_HOST if is_elsewhere else f"choose another port ({option})"
        raise CannotListenError(
            f"cannot listen on {host}:{port}: {exc.strerror}; {advice}"
        ) from exc
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """``http://host:port`` as a client would write it."""
    host, port = listener.getsockname()[:2]
    return url_of(host, port)


def free_ports(count: int) -> list[int]:
    """Different ones that nobody listened on a moment ago, on this machine's loopback address."""
    with ExitStack() as held:
        listeners = [held.enter_context(listen("127.0.0.1", 0)) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
