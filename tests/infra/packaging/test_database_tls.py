"""What deploy.py does about the certificates of the database, by where it deploys to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from deployment import database_tls
from deployment.account import Account
from deployment.database_tls import certificates_for
from deployment.errors import DeployError


class Terminal:
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    """Of AWS itself; nothing is asked of it here. Its trust store cannot be reached."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return Account("eu-west-1")


def test_without_certificates_it_is_said_that_the_database_is_not_verified(
    account: Account, tmp_path: Path
) -> None:
    terminal: Any = Terminal()
    assert certificates_for(account, None, tmp_path, terminal, required=False) is None
    assert "--database-ca FILE" in terminal.warned[0]
    with pytest.raises(DeployError, match="verifies its database") as caught:
        certificates_for(account, None, tmp_path, terminal, required=True)
    assert "--database-ca FILE" in caught.value.next_step


def test_a_file_or_what_was_downloaded_before_is_enough(account: Account, tmp_path: Path) -> None:
    terminal: Any = Terminal()
    given = tmp_path / "ca.pem"
    given.write_bytes(trustme.CA().cert_pem.bytes())
    found = certificates_for(account, given, tmp_path, terminal, required=True)
    given.rename(tmp_path / "rds-eu-west-1.pem")
    assert certificates_for(account, None, tmp_path, terminal, required=True) == found
    assert terminal.warned == []
    assert database_tls.VERIFIED == "verify-full"


def test_an_emulator_has_no_database_of_rds(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    terminal: Any = Terminal()
    assert certificates_for(account, None, tmp_path, terminal, required=True) is None
    assert terminal.warned == []
