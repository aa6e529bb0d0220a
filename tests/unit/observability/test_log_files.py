"""Logs kept in files: bounded, shared by processes, and no reason for any of them to end."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskflow import logs
from taskflow.observability.log_files import LogFiles, lines_of

EVER = datetime(2000, 1, 1, tzinfo=UTC)


def numbers(directory: Path) -> list[int]:
    return sorted(int(json.loads(line)["n"]) for line in lines_of(directory, since=EVER))


def line(number: int, size: int = 100) -> str:
    text = json.dumps({"n": number})
    return f'{text[:-1]},"x":"{"x" * (size - len(text) - 8)}"}}'


def test_the_oldest_go_before_the_newest_and_all_stay_within_the_limit(tmp_path: Path) -> None:
    kept = LogFiles(tmp_path, "dev", keep_bytes=65_536)
    for number in range(2_000):
        kept.write(line(number))
    kept.close()
    found = numbers(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 65_536
    assert found == list(range(found[0], 2_000))
    assert 500 < len(found) < 700


def test_processes_share_the_limit(tmp_path: Path) -> None:
    early = LogFiles(tmp_path, "api", keep_bytes=65_536)
    late = LogFiles(tmp_path, "worker", keep_bytes=65_536)
    early.write(line(-1))
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    for number in range(2_000):
        late.write(line(number))
    assert -1 not in numbers(tmp_path)  # the oldest, whoever wrote it
    early.write(line(-2))  # into a new file: its own was taken for old
    assert -2 in numbers(tmp_path)
    early.close()
    late.close()


def test_a_line_longer_than_a_file_is_kept_whole(tmp_path: Path) -> None:
    kept = LogFiles(tmp_path, "dev", keep_bytes=65_536)
    kept.write(line(1, size=10_000))
    kept.write(line(2))
    kept.close()
    assert numbers(tmp_path) == [1, 2]


def test_a_process_with_the_id_of_an_earlier_one_leaves_its_lines_alone(tmp_path: Path) -> None:
    for number in (1, 2):
        kept = LogFiles(tmp_path, "dev", keep_bytes=65_536)
        kept.write(line(number))
        kept.close()
    assert numbers(tmp_path) == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_only_its_owner_may_read_them(tmp_path: Path) -> None:
    directory = tmp_path / "home" / "logs"
    kept = LogFiles(directory, "dev", keep_bytes=65_536)
    kept.write("{}")
    kept.close()
    [path] = directory.iterdir()
    assert (path.stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)


def test_files_that_were_last_written_before_are_not_read(tmp_path: Path) -> None:
    kept = LogFiles(tmp_path, "dev", keep_bytes=65_536)
    kept.write(line(1))
    kept.close()
    [path] = tmp_path.iterdir()
    old = datetime.now(UTC) - timedelta(hours=2)
    os.utime(path, (old.timestamp(), old.timestamp()))
    assert list(lines_of(tmp_path, since=datetime.now(UTC) - timedelta(hours=1))) == []
    assert numbers(tmp_path) == [1]


def test_a_directory_that_cannot_be_is_said_once_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("in the way")
    now = 0.0
    kept = LogFiles(tmp_path / "logs", "dev", keep_bytes=65_536, monotonic=lambda: now)
    logs.configure("info", "json", also=kept.write)
    log = logs.get_logger("taskflow.tests")
    log.info("first")
    log.info("second")
    printed = [json.loads(text)["event"] for text in capsys.readouterr().err.splitlines()]
    assert printed == ["logs.not_kept", "first", "second"]
    (tmp_path / "logs").unlink()
    now = 31.0
    log.info("third")
    kept.close()
    [found] = lines_of(tmp_path / "logs", since=EVER)
    assert json.loads(found)["event"] == "third"


def test_people_and_files_get_the_same_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = LogFiles(tmp_path, "dev", keep_bytes=65_536)
    logs.configure("info", "console", service="dev", also=kept.write)
    logs.get_logger("taskflow.tests").info("task.completed", task="echo")
    kept.close()
    assert "task.completed" in capsys.readouterr().err
    [found] = lines_of(tmp_path, since=EVER)
    assert (json.loads(found)["task"], json.loads(found)["service"]) == ("echo", "dev")
