"""The handlers every app has: `echo`, `http_request`, `compute`, `email`, `simulate`. See docs/handlers.md."""

from __future__ import annotations

from taskflow.core.registry import Registry, TaskOptions
from taskflow.handlers.compute import compute_handler
from taskflow.handlers.echo import echo
from taskflow.handlers.email import email_handler
from taskflow.handlers.http_request import http_request_handler
from taskflow.handlers.simulate import simulate_handler
from taskflow.handlers.waiting import Wait, wait
from taskflow.ports.clock import Clock
from taskflow.ports.http import HttpSender
from taskflow.ports.mail import MailSender


def register_builtin_handlers(
    registry: Registry,
    *,
    http: HttpSender,
    http_max_redirects: int,
    mail: MailSender,
    email_from: str,
    clock: Clock,
    wait: Wait = wait,
) -> None:
    """Add them to ``registry``, which should be an app's own: `Registry(parent)`.

    They close over their ports; a handler of the same name in the parent takes their place.
    """
    plain = TaskOptions()
    registry.add(echo, name="echo", declared=plain)
    registry.add(
        http_request_handler(http, max_redirects=http_max_redirects),
        name="http_request",
        declared=plain,
    )
    registry.add(compute_handler(wait), name="compute", declared=plain)
    registry.add(
        email_handler(mail, email_from=email_from, clock=clock), name="email", declared=plain
    )
    registry.add(simulate_handler(wait), name="simulate", declared=plain)
