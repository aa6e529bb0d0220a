"""A real SMTP server in a thread, speaking just enough of RFC 5321, that keeps every message."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Mailed:
    sender: str
    recipients: list[str]
    content: bytes


@dataclass
class SmtpServer:
    port: int = 0
    messages: list[Mailed] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@contextmanager
def smtp_server(replies: Mapping[str, str] | None = None) -> Iterator[SmtpServer]:
    """``replies`` replaces the answer to a command line that starts with a key, e.g. ``{"RCPT TO:<x@": "550 no"}``."""
    state = SmtpServer()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

        def handle(self) -> None:
            self.say("220 test")
            sender, recipients = "", list[str]()
            while line := self.rfile.readline().decode().strip():
                state.commands.append(line)
                verb = line.upper()
                planned = next(
                    (
                        reply
                        for start, reply in (replies or {}).items()
                        if verb.startswith(start.upper())
                    ),
                    "",
                )
                if planned:
                    self.say(planned)
                    continue
                match verb.split()[0].split(":")[0]:
                    case "EHLO":
                        self.say("250-test\r\n250 AUTH PLAIN")
                    case "AUTH":
                        self.say("235 ok")
                    case "MAIL":
                        sender, recipients = line.split("<")[1].split(">")[0], []
                        self.say("250 ok")
                    case "RCPT":
                        recipients.append(line.split("<")[1].split(">")[0])
                        self.say("250 ok")
                    case "DATA":
                        self.say("354 go on")
                        content = b""
                        while not content.endswith(b"\r\n.\r\n"):
                            content += self.rfile.readline()
                        state.messages.append(Mailed(sender, recipients, content[:-5]))
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 ok")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
