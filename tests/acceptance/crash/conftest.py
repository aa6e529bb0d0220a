"""One fork server per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.crash import processes


@pytest.fixture(scope="module")
def nursery() -> Iterator[processes.Nursery]:
    with processes.nursery() as started:
        yield started
