"""MailSender that keeps every message as a file: what a development machine sends instead of mail."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from taskflow.ports.mail import MailReceipt


class FolderMailSender:
    """Writes ``<Message-ID>.eml`` into ``directory``, whole or not at all; any mail program opens it.

    The same message sent again replaces its file. Recipients that no header shows are kept in ``X-Envelope-To``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def send(self, message: EmailMessage, *, sender: str, recipients: Sequence[str]) -> MailReceipt:
        self._directory.mkdir(parents=True, exist_ok=True)
        envelope = (
            f"X-Envelope-From: {sender}\r\nX-Envelope-To: {', '.join(recipients)}\r\n".encode()
        )
        path = self._directory / f"{_file_name(message)}.eml"
        _write(path, envelope + message.as_bytes(policy=SMTP))
        return MailReceipt(str(path), {})


def _file_name(message: EmailMessage) -> str:
    return re.sub(
        r"[^A-Za-z0-9._-]", "_", str(message["Message-ID"]).strip("<>").partition("@")[0]
    )[:200]


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
