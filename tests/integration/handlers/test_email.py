"""`email` through both real senders: a folder, and an SMTP server."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.mail.folder import FolderMailSender
from taskflow.adapters.mail.smtp import SmtpMailSender
from taskflow.core import jsontext
from taskflow.core.classification import classify
from taskflow.core.errors import ConfigurationError, InvalidRequestError
from taskflow.core.task import ErrorClass
from taskflow.handlers.email import email_handler
from taskflow.ports.mail import MailSender
from tests.support.context import PlainContext
from tests.support.smtp_server import smtp_server

Send = Callable[..., dict[str, Any]]


class NoonClock:
    def now_us(self) -> int:
        return 1_800_000_000_000_000  # 2027-01-15 08:00:00 UTC

    def monotonic(self) -> float:
        return 0.0


def mailer(mail: MailSender) -> Send:
    handler = email_handler(mail, email_from="TaskFlow <noreply@example.com>", clock=NoonClock())

    def send(*args: Any, **kwargs: Any) -> dict[str, Any]:
        result = handler(PlainContext(), *args, **kwargs)
        jsontext.check(result)
        return result

    return send


@pytest.fixture
def send(tmp_path: Path) -> Send:
    return mailer(FolderMailSender(tmp_path / "mailbox"))


def read(path: str) -> EmailMessage:
    message = email.message_from_bytes(Path(path).read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_without_a_server_the_message_lies_in_the_mailbox(send: Send, tmp_path: Path) -> None:
    result = send(
        "Ann Ä <ann@example.com>", "Grüße", "Hallo\nAnn", html="<p>Hallo</p>", cc="bob@example.com"
    )
    message = read(result["delivered_to"])
    assert Path(result["delivered_to"]).parent == tmp_path / "mailbox"
    assert message["To"] == "Ann Ä <ann@example.com>"
    assert message["From"] == "TaskFlow <noreply@example.com>"
    assert (message["Subject"], message["Cc"]) == ("Grüße", "bob@example.com")
    assert message["Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
    body, html = message.get_body(("plain",)), message.get_body(("html",))
    assert body is not None
    assert html is not None
    assert body.get_content().splitlines() == ["Hallo", "Ann"]
    assert html.get_content().strip() == "<p>Hallo</p>"
    assert result["recipients"] == ["ann@example.com", "bob@example.com"]


def test_the_same_task_again_replaces_its_message(send: Send, tmp_path: Path) -> None:
    assert send("a@example.com", "one")["message_id"] == send("a@example.com", "one")["message_id"]
    assert [path.suffix for path in (tmp_path / "mailbox").iterdir()] == [".eml"]


def test_hidden_recipients_are_in_the_envelope_only(send: Send) -> None:
    message = read(send("a@example.com", "x", bcc=["b@example.com"])["delivered_to"])
    assert message["Bcc"] is None
    assert message["X-Envelope-To"] == "a@example.com, b@example.com"


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        mailer(FolderMailSender(tmp_path))("a@example.com", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"to": "a@example.com", "subject": "x\r\nBcc: victim@example.com"}, "subject"),
        ({"to": "a@example.com", "subject": "x\ny"}, "subject"),
        ({"to": "a@example.com\r\nBcc: victim@example.com", "subject": "x"}, "to"),
        ({"to": "a@example.com", "subject": "x", "reply_to": "b@example.com\nX-A: b"}, "reply_to"),
        ({"to": "a@example.com", "subject": "x", "cc": ["nobody"]}, "cc"),
        ({"to": "a@example.com, b@example.com", "subject": "x"}, "to"),
        ({"to": "<a@example.com> trailing, ", "subject": "x"}, "to"),
        ({"to": "", "subject": "x"}, "to"),
        ({"to": "a b@example.com", "subject": "x"}, "to"),
        ({"to": [], "subject": "x"}, "to"),
        ({"to": [f"a{n}@example.com" for n in range(101)], "subject": "x"}, "to"),
        ({"to": "a@example.com", "subject": "x" * 999}, "subject"),
    ],
)
def test_wrong_addresses_and_injected_headers_are_refused(
    send: Send, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}") as refused:
        send(**arguments)
    assert classify(refused.value) is ErrorClass.PERMANENT


def test_with_a_server_the_message_goes_there() -> None:
    with smtp_server() as server:
        result = mailer(SmtpMailSender(f"smtp://127.0.0.1:{server.port}"))(
            ["a@example.com", "b@example.com"], "Hi", "text", bcc="c@example.com"
        )
    [mailed] = server.messages
    assert mailed.sender == "noreply@example.com"
    assert mailed.recipients == ["a@example.com", "b@example.com", "c@example.com"]
    assert b"c@example.com" not in mailed.content
    assert b"Subject: Hi" in mailed.content
    assert result["delivered_to"] == f"smtp://127.0.0.1:{server.port}"


def test_user_and_password_are_used() -> None:
    with smtp_server() as server:
        mailer(SmtpMailSender(f"smtp://us%40er:pass@127.0.0.1:{server.port}"))(
            "a@example.com", "Hi"
        )
    assert any(command.startswith("AUTH PLAIN") for command in server.commands)


def test_one_refused_recipient_does_not_stop_the_others() -> None:
    with smtp_server({"RCPT TO:<gone@": "550 no such user"}) as server:
        result = mailer(SmtpMailSender(f"smtp://127.0.0.1:{server.port}"))(
            ["gone@example.com", "b@example.com"], "Hi"
        )
    assert result["recipients"] == ["b@example.com"]
    assert result["refused"] == {"gone@example.com": "550 no such user"}


@pytest.mark.parametrize(
    ("replies", "error", "kind"),
    [
        ({"RCPT": "550 no such user"}, InvalidRequestError, ErrorClass.PERMANENT),
        ({"RCPT": "451 later"}, ConnectionError, ErrorClass.TRANSIENT),
        ({"MAIL": "550 not you"}, InvalidRequestError, ErrorClass.PERMANENT),
        ({"MAIL": "421 busy"}, ConnectionError, ErrorClass.TRANSIENT),
        ({"DATA": "554 spam"}, InvalidRequestError, ErrorClass.PERMANENT),
        ({"AUTH": "535 wrong"}, ConnectionError, ErrorClass.TRANSIENT),
    ],
)
def test_the_servers_no_is_permanent_or_transient_as_it_says(
    replies: dict[str, str], error: type[Exception], kind: ErrorClass
) -> None:
    with smtp_server(replies) as server, pytest.raises(error) as failed:
        mailer(SmtpMailSender(f"smtp://user:pass@127.0.0.1:{server.port}"))("a@example.com", "Hi")
    assert classify(failed.value) is kind


def test_a_server_that_is_not_there_is_transient() -> None:
    with smtp_server() as server:
        pass
    with pytest.raises(ConnectionError) as failed:
        mailer(SmtpMailSender(f"smtp://127.0.0.1:{server.port}"))("a@example.com", "Hi")
    assert classify(failed.value) is ErrorClass.TRANSIENT


@pytest.mark.parametrize("url", ["mail.example.com", "http://x", "smtp://", "smtp://x:port"])
def test_a_wrong_server_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TASKFLOW_SMTP_URL"):
        SmtpMailSender(url)
