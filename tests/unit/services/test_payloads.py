"""Which payloads stay in their row, which go to the store, which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.adapters.payloads.files import FilePayloads
from taskflow.core.errors import PayloadTooLargeError, StoreUnavailableError
from taskflow.services.payloads import Payloads

ID = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"


@pytest.fixture
def payloads(tmp_path: Path) -> Payloads:
    return Payloads(FilePayloads(tmp_path), inline_bytes=10, max_bytes=20)


@pytest.mark.parametrize("text", ["", "x", "x" * 10, "é" * 5, "😀" * 2])
def test_up_to_the_inline_limit_in_bytes_a_text_stays_in_its_row(
    payloads: Payloads, text: str
) -> None:
    assert payloads.place("default", "input", ID, text) == (text, None, b"")


@pytest.mark.parametrize("text", ["x" * 11, "é" * 6, "😀" * 3, "x" * 20, "é" * 10])
def test_beyond_it_goes_to_the_store_and_comes_back_the_same(payloads: Payloads, text: str) -> None:
    inline, key, body = payloads.place("default", "result", ID, text)
    assert (inline, key) == (None, f"default/result/{ID}")
    assert key is not None
    payloads.put({key: body})
    assert payloads.load([key]) == {key: text}


@pytest.mark.parametrize("text", ["x" * 21, "é" * 11, "😀" * 6])
def test_beyond_the_limit_it_is_refused_with_the_setting_that_says_so(
    payloads: Payloads, text: str
) -> None:
    with pytest.raises(PayloadTooLargeError, match="TASKFLOW_MAX_PAYLOAD_BYTES") as refused:
        payloads.place("default", "input", ID, text)
    assert refused.value.fields[0]["field"] == "arguments"


def test_nothing_is_written_before_it_is_put(payloads: Payloads, tmp_path: Path) -> None:
    payloads.place("default", "input", ID, "x" * 15)
    assert list(tmp_path.iterdir()) == []


def test_forgetting_never_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    payloads = Payloads(FilePayloads(tmp_path / "file"), inline_bytes=10, max_bytes=20)
    with pytest.raises(StoreUnavailableError):
        payloads.put({f"default/input/{ID}": b"x"})
    payloads.forget([f"default/input/{ID}", f"default/input/{ID[:-1]}2"])
    payloads.forget([])
