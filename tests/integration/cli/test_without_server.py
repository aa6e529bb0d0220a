"""Commands on the store itself, while no server runs."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from taskflow import __version__
from taskflow.app import TaskFlow
from taskflow.core.ids import is_uuid
from taskflow.ports.metadata import WorkerRecord
from tests.integration.cli.conftest import PATIENCE_SECONDS, Cli


def work_off(directory: Path) -> None:
    """What a worker would do now."""
    with TaskFlow(home=directory / ".taskflow", tasks=("cli_tasks",)) as app:
        for task in app.list(limit=100).items:
            app.wait(task.task_id, PATIENCE_SECONDS)


def test_help_and_version(cli: Cli) -> None:
    assert cli.ok("version") == f"{__version__}\n"
    for command in ("submit", "dev", "dead-letters", "restore"):
        assert command in cli.ok("--help")
    assert "--idempotency-key" in cli.ok("submit", "--help")


@pytest.mark.parametrize(
    "command",
    ["dev", "api", "worker", "balancer", "cluster", "provision", "submit", "logs", "doctor"],
)
def test_names_of_settings_are_whole_in_a_terminal_of_80_columns(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = cli.ok(command, "--help")
    assert max(map(len, said.splitlines())) <= 80
    assert re.findall(r"TASKFLOW_\w*[A-Z]…", said) == []


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["status", "x"],
        ["cancel", "x"],
        ["stats"],
        ["workers"],
        ["backup"],
        ["dead-letters", "list"],
    ],
)
def test_without_server_and_store_there_is_nothing_to_ask(cli: Cli, command: list[str]) -> None:
    said = cli.fails(*command, code=2)

    assert "no server answers at" in said
    assert "taskflow dev" in said
    assert not (cli.directory / ".taskflow").exists()


def test_a_submission_waits_for_a_worker(cli: Cli) -> None:
    result = cli.run("submit", "greet", "name=Ann")
    task_id = result.stdout.strip()

    assert is_uuid(task_id)
    assert "No worker is running" in result.stderr
    assert cli.json("status", task_id)["status"] == "pending"

    work_off(cli.directory)
    assert cli.json("status", task_id)["result"] == "Hello Ann 1"


def test_waiting_for_a_task_without_a_worker_says_so_at_once_and_goes_on(cli: Cli) -> None:
    command = [sys.executable, "-m", "taskflow", "submit", "greet", "name=Ann", "--wait"]
    with subprocess.Popen(
        command, cwd=cli.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as waiting:
        try:
            assert waiting.stdout is not None
            assert waiting.stderr is not None
            assert any("No worker is running" in line for line in waiting.stderr)
            assert [task["status"] for task in cli.json("list")] == ["pending"]
            work_off(cli.directory)
            assert waiting.stdout.read() == '"Hello Ann 1"\n'
            assert waiting.wait() == 0
        finally:
            waiting.kill()


def test_waiting_ends_when_it_has_taken_as_long_as_it_may(cli: Cli) -> None:
    for more in ([], ["--json"]):
        result = cli.run("submit", "greet", "name=Ann", "--wait-timeout", "0.1s", *more)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "No worker is running" in result.stderr
        assert "is still pending after 0.1 s; it goes on" in result.stderr
    work_off(cli.directory)
    assert {task["status"] for task in cli.json("list")} == {"completed"}


def test_a_worker_that_was_killed_is_no_worker(cli: Cli) -> None:
    record = WorkerRecord("w1", "elsewhere", 1, 0, 0, "running", {"total": 4, "busy": 0})
    with TaskFlow(home=cli.directory / ".taskflow", num_workers=0, tasks=()) as app:
        app.runtime.stores.workers.report(record)
    assert "No worker" not in cli.run("submit", "greet", "name=Ann").stderr
    with closing(sqlite3.connect(cli.directory / ".taskflow" / "taskflow.db")) as store:
        store.execute("UPDATE workers SET seen_at = seen_at - 61000000")
        store.commit()
    assert "No worker is running" in cli.run("submit", "greet", "name=Ann").stderr
    assert [worker["status"] for worker in cli.json("workers")] == ["silent"]


@pytest.mark.parametrize(
    ("words", "kwargs"),
    [
        (["name=Ann", "zip=01234", "n=3"], {"name": "Ann", "zip": "01234", "n": 3}),
        (["name=42"], {"name": "42"}),
        (["name=true", "n=2"], {"name": "true", "n": 2}),
        (['name="quoted"'], {"name": '"quoted"'}),
        (["name=a=b c", "zip="], {"name": "a=b c", "zip": ""}),
        (["--json-args", '{"name": "Ann", "n": 2}'], {"name": "Ann", "n": 2}),
        (["--json-args", '{"name": "Ann"}', "n=5"], {"name": "Ann", "n": 5}),
    ],
)
def test_arguments_are_what_the_task_wants(
    cli: Cli, words: list[str], kwargs: dict[str, object]
) -> None:
    assert cli.json("submit", "greet", *words)["kwargs"] == kwargs


def test_arguments_of_any_type_are_json_where_they_can_be(cli: Cli) -> None:
    task = cli.json("submit", "echo", "n=3", "flag=true", "list=[1,2]", "text=hello", "huge=1e999")

    assert task["kwargs"] == {
        "n": 3,
        "flag": True,
        "list": [1, 2],
        "text": "hello",
        "huge": "1e999",
    }
    assert cli.json("submit", "echo", "--json-args", "[[1], 2]")["args"] == [[1], 2]


def test_options_of_a_submission(cli: Cli) -> None:
    blocker = cli.json("submit", "greet", "name=A", "--delay", "2h")["task_id"]
    options = ["--priority", "high", "--max-retries", "7", "--timeout", "90s", "--tag", "a"]
    more = ["--tag", "b", "--label", "nightly", "--expires-in", "1d", "--depends-on", blocker]

    task = cli.json("submit", "greet", "name=B", *options, *more, "--idempotency-key", "k")
    again = cli.json("submit", "greet", "name=B", *options, *more, "--idempotency-key", "k")

    assert again["task_id"] == task["task_id"]
    assert (task["priority"], task["max_retries"], task["timeout"]) == (1, 7, 90.0)
    assert (task["tags"], task["name"], task["depends_on"]) == (["a", "b"], "nightly", [blocker])
    assert task["expires_at"] is not None
    assert cli.json("submit", "greet", "name=C", "--run-at", "2090-01-01T00:00:00Z")[
        "run_at"
    ].startswith("2090-01-01T00:00:00")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["submit", "gret", "name=x"], "did you mean 'greet'"),
        (["submit", "greet"], "name: is missing"),
        (["submit", "greet", "name=x", "m=1"], "m: is not an argument"),
        (["submit", "greet", "name=x", "--priority", "urgent"], "priority must be one of"),
        (["submit", "greet", "name=x", "--run-at", "2090-01-01"], "needs a time zone"),
        (["list", "--status", "done"], "status: 'done'"),
        (["dead-letters", "redrive"], "choose dead letters"),
        (["dead-letters", "discard", "x", "--all"], "choose dead letters"),
        (["restore", "missing.json"], "cannot read the backup missing.json"),
    ],
)
def test_what_the_caller_can_mend_is_a_usage_error(cli: Cli, command: list[str], says: str) -> None:
    cli.ok("migrate")

    assert says in cli.fails(*command, code=2)
    assert cli.json("list") == []


@pytest.mark.parametrize(
    "command",
    [
        ["nonsense"],
        ["submit"],
        ["submit", "greet", "name"],
        ["submit", "greet", "name=Ann", "name=Bob"],
        ["submit", "greet", "--delay", "soon"],
        ["submit", "greet", "--json-args", "{"],
        ["submit", "greet", "--json-args", "3"],
        ["list", "--limit", "0"],
        ["dev", "--port", "70000"],
    ],
)
def test_what_cannot_be_read_is_a_usage_error(cli: Cli, command: list[str]) -> None:
    result = cli.run(*command)

    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_what_fails_is_told_in_one_sentence(cli: Cli) -> None:
    cli.ok("migrate")

    assert "there is no task 'x'" in cli.fails("status", "x", code=1)
    (cli.directory / "bad.json").write_text("{}")
    assert "bad.json, line 1: " in cli.fails("restore", "bad.json", code=1)


def test_a_wrong_setting_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLOW_NUM_WORKERS", "many")

    assert "TASKFLOW_NUM_WORKERS" in cli.fails("list", code=2)


def test_a_module_of_tasks_that_is_broken_keeps_only_submissions(cli: Cli) -> None:
    cli.ok("submit", "greet", "name=x")
    (cli.directory / "cli_tasks.py").write_text("import no_such_module")
    sys.modules.pop("cli_tasks")

    assert len(cli.json("list")) == 1
    assert "no_such_module" in cli.fails("submit", "greet", "name=x", code=2)


def test_lists_are_filtered_paged_and_readable(cli: Cli) -> None:
    ids = [cli.json("submit", "echo", f"n={n}", "--tag", f"t{n % 2}")["task_id"] for n in range(3)]

    assert [task["task_id"] for task in cli.json("list")] == ids[::-1]
    assert len(cli.json("list", "--limit", "2")) == 2
    assert [task["task_id"] for task in cli.json("list", "--tag", "t1")] == [ids[1]]
    assert cli.json("list", "--status", "failed", "--status", "completed") == []
    assert len(cli.json("list", "--since", "1h", "--task", "echo", "--priority", "normal")) == 3
    header, *rows = cli.ok("list").splitlines()
    assert header.split()[:3] == ["ID", "TASK", "STATUS"]
    assert [row.split()[0] for row in rows] == ids[::-1]
    assert cli.run("list", "--q", "nothing").stderr == "no tasks\n"


def test_more_than_a_page_is_fetched(cli: Cli) -> None:
    with TaskFlow(home=cli.directory / ".taskflow", num_workers=0, tasks=()) as app:
        app.submit_many([("echo", (n,), {}) for n in range(450)])

    assert len({task["task_id"] for task in cli.json("list", "--limit", "420")}) == 420
    assert len(cli.json("list", "--limit", "1000")) == 450


def test_a_failed_task_is_shown_with_its_error(cli: Cli) -> None:
    task_id = cli.json("submit", "boom")["task_id"]
    work_off(cli.directory)

    shown = cli.ok("status", task_id, "--history")

    assert re.search(r"^status +failed$", shown, re.MULTILINE)
    assert "ValueError: bad\n" in shown
    assert "raise ValueError(reason)" in shown
    assert "task.started" in shown
    assert re.search(r"task\.failed +attempt 1, .*error ValueError: bad\n", shown)
    events = cli.json("status", task_id, "--history")["history"]
    assert [event["type"] for event in events][-1] == "task.failed"


def test_text_of_tasks_cannot_play_with_the_terminal(cli: Cli) -> None:
    task_id = cli.json("submit", "boom", "reason=\x1b[31m[bold]red[/bold]")["task_id"]
    work_off(cli.directory)

    for shown in (cli.ok("status", task_id), cli.ok("list"), cli.ok("dead-letters", "groups")):
        assert "\x1b" not in shown
        assert "[bold]red[/bold]" in shown


def test_watch_tells_how_a_task_ended(cli: Cli) -> None:
    done, failed = (cli.json("submit", name)["task_id"] for name in ("steps", "boom"))
    work_off(cli.directory)

    assert cli.ok("watch", done) == "steps completed 60 % more than half\n"
    assert json.loads(cli.ok("watch", done, "--json"))["result"] == "done"
    result = cli.run("watch", failed)
    assert (result.exit_code, result.stdout) == (1, "boom failed ValueError: bad\n")


def test_cancel_and_retry_do_what_they_can(cli: Cli) -> None:
    waiting = cli.json("submit", "echo", "--delay", "1h")["task_id"]

    result = cli.run("cancel", waiting, "x")
    assert (result.exit_code, result.stdout) == (1, f"{waiting} cancelled\n")
    assert result.stderr == "taskflow: x: there is no task 'x'\n"
    assert "already" in cli.run("cancel", waiting).stderr

    assert cli.json("retry", waiting)[0]["status"] == "pending"
    assert cli.run("retry", waiting).exit_code == 1


def test_dead_letters(cli: Cli) -> None:
    ids = [cli.json("submit", "boom", f"reason=order {n}")["task_id"] for n in range(3)]
    work_off(cli.directory)

    [group] = cli.json("dead-letters", "groups")
    assert (group["task"], group["count"], group["error_type"]) == ("boom", 3, "ValueError")
    assert group["fingerprint"] in cli.ok("dead-letters", "groups")
    assert len(cli.json("dead-letters", "list", "--fingerprint", group["fingerprint"])) == 3
    assert cli.json("dead-letters", "redrive", ids[0]) == {"redriven": 1}
    assert cli.ok("dead-letters", "redrive", "--task", "boom", "--rate", "10") == "2 redriven\n"
    work_off(cli.directory)
    assert cli.ok("dead-letters", "discard", "--all") == "3 discarded\n"
    assert cli.run("dead-letters", "list").stderr == "no dead letters\n"


def test_handlers_stats_and_workers(cli: Cli) -> None:
    known = {handler["name"]: handler for handler in cli.json("handlers")}
    assert known["greet"]["description"] == "Say hello."
    assert re.search(
        r"^greet +name \[zip\] \[n\] +normal +thread +Say hello", cli.ok("handlers"), re.M
    )

    cli.ok("submit", "echo")
    assert cli.json("stats")["queue"]["pending_count"] == 1
    assert re.search(r"^queue.pending_count +1\s*$", cli.ok("stats"), re.M)
    work_off(cli.directory)
    assert [worker["status"] for worker in cli.json("workers")] in ([], ["stopped"])
