"""MailSender that hands messages to an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from taskflow.core.errors import ConfigurationError, InvalidRequestError
from taskflow.ports.mail import MailReceipt

_PORTS = {"smtp": 25, "smtps": 465}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SmtpMailSender:
    """``smtps://`` is encrypted from the start, ``smtp://`` as soon as the server offers STARTTLS.

    User and password of the URL (percent-encoded) never leave the machine unencrypted. One connection per message.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigurationError(f"TASKFLOW_SMTP_URL: {exc}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigurationError(
                "TASKFLOW_SMTP_URL must look like smtp://user:password@host:587 or smtps://…"
            )
        self._host = parts.hostname
        self._port = port or _PORTS[parts.scheme]
        self._encrypted = parts.scheme == "smtps"
        self._login = (
            (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        )
        self._timeout_seconds = timeout_seconds

    def send(self, message: EmailMessage, *, sender: str, recipients: Sequence[str]) -> MailReceipt:
        try:
            with self._connect() as server:
                refused = server.send_message(message, from_addr=sender, to_addrs=list(recipients))
        except smtplib.SMTPRecipientsRefused as exc:
            reasons = _reasons(exc.recipients)
            if all(code >= 500 for code, _ in exc.recipients.values()):
                raise InvalidRequestError(f"every recipient was refused: {reasons}") from exc
            raise ConnectionError(f"no recipient was taken: {reasons}") from exc
        except smtplib.SMTPAuthenticationError as exc:
            # Somebody has to correct the password; until then the task is better kept than lost.
            raise ConnectionError(f"{self._host} refused the login: {exc.smtp_code}") from exc
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError, smtplib.SMTPHeloError) as exc:
            kind = InvalidRequestError if exc.smtp_code >= 500 else ConnectionError
            raise kind(
                f"{self._host} refused the message: {exc.smtp_code} {_text(exc.smtp_error)}"
            ) from exc
        except smtplib.SMTPNotSupportedError as exc:
            raise InvalidRequestError(f"{self._host}: {exc}") from exc
        except TimeoutError as exc:
            raise TimeoutError(
                f"{self._host} did not answer within {self._timeout_seconds:g} s"
            ) from exc
        except (smtplib.SMTPException, OSError) as exc:
            raise ConnectionError(f"{self._host}:{self._port}: {exc}") from exc
        return MailReceipt(f"smtp://{self._host}:{self._port}", _reasons(refused))

    def _connect(self) -> smtplib.SMTP:
        tls = ssl.create_default_context()
        if self._encrypted:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout_seconds, context=tls
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_seconds)
        try:
            server.ehlo_or_helo_if_needed()
            encrypted = self._encrypted
            if not encrypted and server.has_extn("starttls"):
                server.starttls(context=tls)
                encrypted = True
            if self._login is not None:
                if not encrypted and self._host not in _LOOPBACK:
                    raise smtplib.SMTPException("offers no encryption, so the password is not sent")
                server.login(*self._login)
        except BaseException:
            server.close()
            raise
        return server


def _reasons(refused: dict[str, tuple[int, bytes]]) -> dict[str, str]:
    return {address: f"{code} {_text(reason)}" for address, (code, reason) in refused.items()}


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
