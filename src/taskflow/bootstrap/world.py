"""Time, HTTP, mail, and who is told what was measured."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from taskflow.ports.clock import Clock
from taskflow.ports.http import HttpSender
from taskflow.ports.mail import MailSender
from taskflow.ports.protection import Protection
from taskflow.settings import Settings

if TYPE_CHECKING:
    from taskflow.observability.metrics import Metrics


def build_clock() -> Clock:
    from taskflow.adapters.clock.system import SystemClock

    return SystemClock()


def build_metrics(settings: Settings, clock: Clock, *, service: str) -> Metrics | None:
    """For CloudWatch; None unless they are asked for."""
    if not settings.metrics_emf:
        return None
    from taskflow.observability.catalogue import namespace
    from taskflow.observability.metrics import Metrics

    return Metrics(
        namespace=namespace(settings.queue_prefix),
        service=service,
        most_tasks=settings.metrics_emf_tasks,
        now_us=clock.now_us,
        rng=random.Random(),
    )


def build_http_sender(settings: Settings) -> HttpSender:
    from taskflow.adapters.http.sender import VettedHttpSender

    return VettedHttpSender(
        allow_private=settings.http_allow_private, max_body_bytes=settings.http_max_response_bytes
    )


def build_protection(settings: Settings) -> Protection | None:
    """Against being scaled in while tasks run; None where nobody could give it."""
    if not settings.ecs_agent_uri:
        return None
    from taskflow.adapters.protection.ecs import ECSProtection

    return ECSProtection(settings.ecs_agent_uri)


def build_mail_sender(settings: Settings) -> MailSender:
    if settings.smtp_url:
        from taskflow.adapters.mail.smtp import SmtpMailSender

        return SmtpMailSender(settings.smtp_url)
    from taskflow.adapters.mail.folder import FolderMailSender

    return FolderMailSender(settings.home / "mailbox")
