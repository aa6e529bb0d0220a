"""Tests that share something costly run in one process of pytest-xdist's."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("groups")
def test_a_test_is_sent_to_the_process_of_its_group(request: pytest.FixtureRequest) -> None:
    """By the end of its id; alone, without other processes, it has no such end."""
    is_distributed = "PYTEST_XDIST_WORKER" in os.environ
    assert request.node.nodeid.endswith("@groups") == is_distributed
