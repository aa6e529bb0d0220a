"""cdk-nag (AwsSolutions): every finding is fixed, or stands in cdk/acknowledged.py with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from cdk.acknowledged import FINDINGS
from tests.infra.cdk.synthesis import synthesis


def _paths(violation: dict[str, Any]) -> list[str]:
    return [found["constructPath"] for found in violation["violatingConstructs"]]


@pytest.mark.slow  # whoever needs the synthesis first
def test_nothing_is_found_that_is_not_acknowledged() -> None:
    found = [
        (violation["ruleName"], _paths(violation)) for violation in synthesis().nag["violations"]
    ]
    assert found == []


def test_nothing_is_acknowledged_that_is_not_found() -> None:
    acknowledged = {
        (finding["acknowledgedId"].removeprefix("AwsSolutions::AwsSolutions-"), profile)
        for finding in synthesis().nag["suppressedViolations"]
        for profile in [_paths(finding)[0].partition("/")[0]]
    }
    rules = {rule for rule, _ in acknowledged}
    assert {finding.rule for finding in FINDINGS} == rules
    for finding in FINDINGS:
        if len(finding.profiles) < 3:
            assert {(finding.rule, profile) for profile in finding.profiles} <= acknowledged


def test_each_reason_is_a_sentence() -> None:
    assert all(len(finding.reason) > 20 for finding in FINDINGS)
