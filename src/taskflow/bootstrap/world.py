"""Time, HTTP and mail."""

from __future__ import annotations

from taskflow.ports.clock import Clock
from taskflow.ports.http import HttpSender
from taskflow.ports.mail import MailSender
from taskflow.settings import Settings


def build_clock() -> Clock:
    from taskflow.adapters.clock.system import SystemClock

    return SystemClock()


def build_http_sender(settings: Settings) -> HttpSender:
    from taskflow.adapters.http.sender import VettedHttpSender

    return VettedHttpSender(
        allow_private=settings.http_allow_private, max_body_bytes=settings.http_max_response_bytes
    )


def build_mail_sender(settings: Settings) -> MailSender:
    if settings.smtp_url:
        from taskflow.adapters.mail.smtp import SmtpMailSender

        return SmtpMailSender(settings.smtp_url)
    from taskflow.adapters.mail.folder import FolderMailSender

    return FolderMailSender(settings.home / "mailbox")
