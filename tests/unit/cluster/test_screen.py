"""The merged log: one line per event, behind the name of who wrote it."""

from __future__ import annotations

import io
import json
import threading

from taskflow.cluster.screen import Screen


def screen(*, colour: bool = False, as_json: bool = False) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(stream, ["api-1", "worker-10"], colour=colour, as_json=as_json), stream


def test_events_are_readable_and_names_are_aligned() -> None:
    there, stream = screen()
    there.line(
        "api-1",
        json.dumps(
            {"ts": "bad", "level": "info", "event": "task.completed", "task": "echo", "n": 7}
        ),
    )
    there.line("worker-10", "plain words")
    there.say("two\nlines")
    first, second, third, fourth = stream.getvalue().splitlines()
    assert first.startswith("api-1     | ")
    assert first.endswith(" task.completed       task=echo n=7")
    assert second == "worker-10 | plain words"
    assert (third, fourth) == ("cluster   | two", "cluster   | lines")
    assert "\x1b" not in stream.getvalue()


def test_fields_that_say_nothing_are_left_out() -> None:
    there, stream = screen()
    there.line("api-1", json.dumps({"event": "x", "reason": "", "code": None, "n": 0}))
    assert stream.getvalue().rstrip().endswith(" n=0")
    assert "reason" not in stream.getvalue()


def test_a_traceback_stays_below_its_event() -> None:
    there, stream = screen()
    there.line("api-1", json.dumps({"event": "boom", "level": "error", "exception": "A\n  B"}))
    lines = stream.getvalue().splitlines()
    assert [line.partition("| ")[0] for line in lines] == ["api-1     "] * 3
    assert "error boom" in lines[0]
    assert lines[2].endswith("      B")


def test_colours_tell_processes_and_levels_apart() -> None:
    there, stream = screen(colour=True)
    there.line("api-1", "a")
    there.line("worker-10", "b")
    there.line("api-1", json.dumps({"event": "x", "level": "error"}))
    one, other, error = stream.getvalue().splitlines()
    assert one.partition("m")[0] != other.partition("m")[0]
    assert "\x1b[31merror\x1b[0m" in error


def test_what_processes_print_moves_no_cursor() -> None:
    there, stream = screen()
    there.line("api-1", "\x1b[2Jgone\x07")
    there.line("api-1", json.dumps({"event": "x", "said": "\x1b[2J"}))
    assert "\x1b" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()


def test_nor_do_events_that_look_like_ours() -> None:
    there, stream = screen()
    evil = "\x1b[2J\x9b2J"
    there.line(
        "api-1", json.dumps({"event": evil, "level": evil, evil: [evil], "n": "a\nb" + evil})
    )
    assert not {"\x1b", "\x9b"} & set(stream.getvalue())
    assert len(stream.getvalue().splitlines()) == 1


def test_nobody_s_json_names_another_process() -> None:
    there, stream = screen(as_json=True)
    there.line("api-1", json.dumps({"event": "x", "process": "worker-10"}))
    assert json.loads(stream.getvalue()) == {"process": "api-1", "event": "x"}


def test_programs_get_json_that_names_the_process() -> None:
    there, stream = screen(as_json=True)
    there.line("api-1", json.dumps({"event": "x", "n": 1}))
    there.line("api-1", "not {json")
    there.say("ours", level="warning")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["process"], line["event"]) for line in lines] == [
        ("api-1", "x"),
        ("api-1", "not {json"),
        ("cluster", "ours"),
    ]
    assert lines[2]["level"] == "warning"


def test_lines_of_many_threads_stay_whole() -> None:
    there, stream = screen()
    text = "x" * 500
    threads = [
        threading.Thread(target=lambda: [there.line("api-1", text) for _ in range(200)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.getvalue().splitlines() == [f"api-1     | {text}"] * 1_600


def test_when_nobody_reads_any_more_the_cluster_is_told_once() -> None:
    there, stream = screen()
    told: list[bool] = []
    there.on_closed = lambda: told.append(True)
    stream.close()
    there.line("api-1", "a")
    there.say("b")
    assert told == [True]
