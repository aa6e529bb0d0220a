"""`deploy.py logs PROCESS`: every line once, also those of a stream that comes late, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployment.account import Account
from deployment.log_tail import LogTail
from tests.infra.deploy.cloud import operation
from tests.infra.deploy.conftest import Small
from tests.support import aws
from tests.support.aws_proxy import Answer, Request

pytestmark = pytest.mark.timeout(600)


class Group:
    """The log group of a stack's API, with two streams."""

    def __init__(self, client: Any, stack: str) -> None:
        self._client = client
        self._name = f"/taskflow/{stack}/api"
        client.create_log_group(logGroupName=self._name)
        for stream in ("a", "b"):
            client.create_log_stream(logGroupName=self._name, logStreamName=stream)

    def write(self, stream: str, text: str, at: datetime) -> None:
        event = {"timestamp": int(at.timestamp() * 1_000), "message": f"{text}\n"}
        self._client.put_log_events(
            logGroupName=self._name, logStreamName=stream, logEvents=[event]
        )


@pytest.fixture
def group(stage: Small) -> Iterator[Group]:
    with closing(aws.client("logs", stage.proxy.url)) as client:
        yield Group(client, stage.stack)


def test_a_line_that_another_stream_brings_late_is_shown_and_none_twice(
    stage: Small, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment(stage.proxy.url).items():
        monkeypatch.setenv(name, value)
    now = datetime.now(UTC)
    group.write("a", "first", now - timedelta(seconds=20))
    group.write("a", "second", now - timedelta(seconds=5))
    rounds = iter(
        [
            [("b", "late", now - timedelta(seconds=15))],
            [],
            [("b", "later", now - timedelta(seconds=4)), ("a", "third", now)],
        ]
    )

    class Over(Exception):
        """Nothing more is to come."""

    def pause(_: float) -> None:
        following = next(rounds, None)
        if following is None:
            raise Over
        for stream, text, at in following:
            group.write(stream, text, at)

    tail = LogTail(Account(aws.REGION), stage.stack, "api", pause=pause)
    shown: list[str] = []
    lines = tail.lines(since=now - timedelta(minutes=1), following=True)
    with pytest.raises(Over):
        shown.extend(line.text for line in lines)
    assert shown[:3] == ["first", "second", "late"]
    assert sorted(shown[3:]) == ["later", "third"]


def test_the_lines_of_a_process_for_people_and_for_programs(stage: Small, group: Group) -> None:
    now = datetime.now(UTC)
    group.write("a", "old", now - timedelta(hours=2))
    group.write("b", "[one] task", now - timedelta(minutes=2))
    group.write("a", "another", now - timedelta(minutes=1))
    shown = stage.deploy.good("logs", "api", *stage.common).output.splitlines()
    assert [line.partition("  ")[2] for line in shown] == ["[one] task", "another"]
    lines = stage.deploy.good("logs", "api", *stage.common, "--since", "3h", "--json").json
    assert [line["text"] for line in lines] == ["old", "[one] task", "another"]
    assert datetime.fromisoformat(lines[0]["at"]) < now - timedelta(hours=1)
    missing = stage.deploy.run("logs", "worker", *stage.common)
    assert missing.code == 2
    assert "There is no log group" in missing.errors


def test_following_ends_quietly_with_ctrl_c(stage: Small, group: Group) -> None:
    group.write("a", "first", datetime.now(UTC) - timedelta(seconds=5))
    asked = 0

    def interrupt(request: Request) -> Answer | None:
        """At its second look, which shows what came meanwhile, somebody presses the keys at the third."""
        nonlocal asked
        if operation(request) == "logs:FilterLogEvents":
            asked += 1
            if asked == 2:
                group.write("b", "second", datetime.now(UTC) - timedelta(seconds=8))
            elif asked == 3:
                os.kill(stage.deploy.process_id, signal.SIGINT)
        return None

    with stage.proxy.intercepting(interrupt):
        done = stage.deploy.run("logs", "api", "--follow", *stage.common, "--json")
    assert done.code == 130
    assert [json.loads(line)["text"] for line in done.output.splitlines()] == ["first", "second"]
    assert done.errors == ""
