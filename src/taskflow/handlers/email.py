"""`email`: sends one message, by SMTP or into the local mailbox, whichever the app has."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from typing import Any

from taskflow.core.context import TaskContext
from taskflow.ports.clock import Clock
from taskflow.ports.mail import MailSender

MAX_RECIPIENTS = 100  # what every SMTP server takes (RFC 5321 §4.5.3.1.8)
MAX_SUBJECT_CHARS = 998  # a line of mail (RFC 5322 §2.1.1)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Addresses = str | list[str]


def email_handler(
    mail: MailSender, *, email_from: str, clock: Clock
) -> Callable[..., dict[str, Any]]:
    """The handler; messages go to ``mail`` and come from ``email_from``."""

    def email(
        ctx: TaskContext,
        to: Addresses,
        subject: str,
        body: str = "",
        html: str | None = None,
        cc: Addresses | None = None,
        bcc: Addresses | None = None,
        reply_to: str | None = None,
    ) -> dict[str, Any]:
        """Send ``body`` (and ``html`` as its alternative). Addresses: ``a@example.com`` or ``Ann <a@example.com>``.

        The Message-ID is the task's id, so that a message sent twice (a worker died between sending and saying so)
        can be recognised as one. ValueError for a wrong address or a line break in a header. Returns ``message_id``,
        ``delivered_to``, ``recipients`` and those that were ``refused``, with the reason.
        """
        shown_to, shown_cc, hidden = _parse("to", to), _parse("cc", cc), _parse("bcc", bcc)
        recipients = list(
            dict.fromkeys(address.addr_spec for address in [*shown_to, *shown_cc, *hidden])
        )
        if not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise ValueError(
                f"to, cc, bcc: needs 1 to {MAX_RECIPIENTS} recipients, not {len(recipients)}"
            )
        if _CONTROL.search(subject) or len(subject) > MAX_SUBJECT_CHARS:
            raise ValueError(f"subject: one line of at most {MAX_SUBJECT_CHARS} characters")
        [sender] = _parse("TASKFLOW_EMAIL_FROM", email_from)
        message = EmailMessage()
        message["From"] = sender
        message["To"] = shown_to
        if shown_cc:
            message["Cc"] = shown_cc
        if reply_to is not None:
            message["Reply-To"] = _parse("reply_to", reply_to)
        message["Subject"] = subject
        message["Date"] = format_datetime(datetime.fromtimestamp(clock.now_us() / 1_000_000, UTC))
        message["Message-ID"] = f"<{ctx.task_id}@{sender.domain or 'localhost'}>"
        message.set_content(body)
        if html is not None:
            message.add_alternative(html, subtype="html")
        receipt = mail.send(message, sender=sender.addr_spec, recipients=recipients)
        return {
            "message_id": str(message["Message-ID"]),
            "delivered_to": receipt.delivered_to,
            "recipients": [address for address in recipients if address not in receipt.refused],
            "refused": dict(receipt.refused),
        }

    return email


def _parse(field: str, given: Addresses | None) -> list[Address]:
    """One address per string. ValueError names the field and the string."""
    texts = [given] if isinstance(given, str) else given or []
    parsed = []
    for text in texts:
        found = getaddresses([text])
        try:
            if _CONTROL.search(text) or len(found) != 1 or "@" not in found[0][1]:
                raise ValueError("not one address")
            parsed.append(Address(display_name=found[0][0], addr_spec=found[0][1]))
        except (ValueError, IndexError) as exc:  # the parser of the standard library raises both
            raise ValueError(f"{field}: {text[:200]!r} is not a mail address") from exc
    return parsed
