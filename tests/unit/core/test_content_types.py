"""What a name says about its content, which is the same on every machine."""

from __future__ import annotations

import mimetypes

import pytest

from taskflow.core.artifacts import checked_content_type


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("report.csv", "text/csv"),
        ("REPORT.CSV", "text/csv"),
        ("rows.parquet", "application/vnd.apache.parquet"),
        ("2026.01.report.json", "application/json"),
        ("report.csv.gz", "application/gzip"),
        ("all.tar.gz", "application/gzip"),
        ("report", "application/octet-stream"),
        ("csv", "application/octet-stream"),
        ("report.", "application/octet-stream"),
        ("report.unheard-of", "application/octet-stream"),
    ],
)
def test_the_last_ending_counts(name: str, content_type: str) -> None:
    assert checked_content_type(None, name) == content_type


def test_the_machine_s_own_tables_do_not() -> None:
    """As they do in a container without /etc/mime.types, or with another one."""
    mimetypes.add_type("text/strange", ".csv")
    try:
        assert checked_content_type(None, "report.csv") == "text/csv"
    finally:
        mimetypes.init()
