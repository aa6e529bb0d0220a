"""Sending mail on behalf of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import NamedTuple, Protocol


class MailReceipt(NamedTuple):
    """``refused``: recipients the server did not take, with its reason; all others have been taken."""

    delivered_to: str
    refused: Mapping[str, str]


class MailSender(Protocol):
    """Hands a message over to whoever delivers it. Thread safe."""

    def send(self, message: EmailMessage, *, sender: str, recipients: Sequence[str]) -> MailReceipt:
        """Raises InvalidRequestError when it was refused for good, ConnectionError or TimeoutError otherwise.

        A message with the ``Message-ID`` of an earlier one is the same message sent again.
        """
        ...
