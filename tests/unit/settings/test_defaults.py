"""Requirement C12, word by word: what a process runs with when nobody has set anything."""

from __future__ import annotations

from pathlib import Path

import pytest

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
