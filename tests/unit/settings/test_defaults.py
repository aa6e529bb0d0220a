"""Requirement C12, word by word: what a process runs with when nobody has set anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.core.errors import ConfigurationError
from taskflow.settings import load


def test_the_defaults_are_those_that_were_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    settings = load()
    assert settings.num_workers == 4
    assert settings.max_queue_size == 0  # unlimited
    assert settings.default_max_retries == 3
    assert settings.default_timeout == 300
    assert settings.host == "127.0.0.1"  # 0.0.0.0 only when asked for
    assert settings.port == 8000


def test_the_log_level_is_understood_in_any_case() -> None:
    assert load(log_level="INFO").log_level == "info"


@pytest.mark.parametrize("amount", ["nan", "inf", "-1", "much"])
def test_workers_have_amounts_of_resources(amount: str) -> None:
    with pytest.raises(ConfigurationError, match="TASKFLOW_WORKER_RESOURCES"):
        load(worker_resources=f"gpu={amount}").resources  # noqa: B018 - reading is what is tested


def test_workers_serve_priorities_that_exist() -> None:
    assert load(worker_priorities="high, 3").priorities == {1, 3}
    with pytest.raises(
        ConfigurationError, match=r"TASKFLOW_WORKER_PRIORITIES: .*critical, high.*not 'urgent'"
    ):
        load(worker_priorities="high,urgent").priorities  # noqa: B018 - reading is what is tested


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("s3_prefix", "../other"),
        ("s3_prefix", "a/./b"),
        ("s3_public_endpoint_url", "localhost:4566"),
        ("s3_public_endpoint_url", "ftp://localhost"),
    ],
)
def test_what_would_spoil_every_address_of_s3_is_refused_by_name(name: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=f"TASKFLOW_{name.upper()}"):
        load(**{name: wrong})
    for right in ("", "tf/.hidden/a..b" if name == "s3_prefix" else "https://s3.localhost:4566/x"):
        load(**{name: right})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_commands_look_for_the_server_where_it_can_be_reached(host: str, url: str) -> None:
    assert load(host=host).resolved_url == url


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("queue_send_seconds", 0),
        ("queue_max_sends", 0),
        ("s3_max_transfers", 0),
        ("http_max_redirects", -1),
        ("http_max_redirects", 21),
    ],
)
def test_a_limit_that_could_not_work_is_refused_by_name(name: str, wrong: float) -> None:
    with pytest.raises(ConfigurationError, match=f"TASKFLOW_{name.upper()}: Input should be"):
        load(**{name: wrong})
