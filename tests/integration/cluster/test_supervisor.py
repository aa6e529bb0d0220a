"""Start in order, restart what dies, stop in order: with small real processes."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow.cluster.lock import ClusterRunningError, locked
from taskflow.cluster.process import ProcessSpec
from taskflow.cluster.screen import Screen
from taskflow.cluster.supervisor import Supervisor

ROOT = Path(__file__).parents[3]
PROGRAMS = "tests.support.cluster_programs"


class Stage:
    """Runs supervisors over processes whose files are in ``directory``."""

    def __init__(self, directory: Path, life: int) -> None:
        self.directory = directory
        self.stopped = directory / "stopped"
        self.output = io.StringIO()
        self._life = life
        self.supervisor: Supervisor

    def steady(self, name: str, program: str = "steady", **options: Any) -> ProcessSpec:
        ready = self.directory / f"{name}.ready"
        words = (name, str(ready), str(self.stopped)) if program == "steady" else (str(ready),)
        return ProcessSpec(
            name,
            f"{PROGRAMS}:{program}",
            words,
            is_ready=ready.exists,
            **options,
        )

    def step(self, name: str) -> ProcessSpec:
        return ProcessSpec(name, f"{PROGRAMS}:counts", (str(self.directory / name),))

    def run(self, *groups: list[ProcessSpec], then: Callable[[], None] | None = None) -> int:
        """``then`` is called in another thread once all is ready; by default it stops the cluster."""
        names = [spec.name for group in groups for spec in group]
        self.supervisor = Supervisor(
            groups,
            Screen(self.output, names, colour=False, as_json=False),
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
            inherited=(self._life,),
        )
        act = then or self.supervisor.request_stop
        return self.supervisor.run(lambda: threading.Thread(target=act).start())

    def until_said(self, text: str, *, times: int = 1) -> None:
        while self.output.getvalue().count(text) < times:
            threading.Event().wait(0.01)

    def pid_of(self, name: str) -> int:
        child = self.supervisor._members[name].child
        assert child is not None
        return child.pid


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    reading, writing = os.pipe()
    yield Stage(tmp_path, reading)
    os.close(reading)
    os.close(writing)


def test_groups_start_one_after_the_other_and_stop_in_the_opposite_order(stage: Stage) -> None:
    groups = [[stage.steady("base")], [stage.step("step")], [stage.steady("top")]]
    assert stage.run(*groups) == 0
    said = stage.output.getvalue()
    assert said.index("base runs") < said.index("top runs")
    assert (stage.directory / "step").read_text() == "once\n"
    assert stage.stopped.read_text() == "top\nbase\n"


def test_one_that_fails_at_the_start_stops_everything_and_says_why(stage: Stage) -> None:
    log = stage.directory / "log"
    broken = ProcessSpec("broken", f"{PROGRAMS}:fails", is_ready=lambda: False, log_file=log)
    assert stage.run([stage.steady("base")], [broken], [stage.steady("never")]) == 1
    said = stage.output.getvalue()
    assert "broken ended while it started: exit code 3" in said
    assert "the reason why" in said
    assert "never runs" not in said
    assert stage.stopped.read_text() == "base\n"


def test_one_that_dies_is_started_again_with_the_steps_it_needs(stage: Stage) -> None:
    def kill_and_look() -> None:
        os.kill(stage.pid_of("base"), signal.SIGKILL)
        stage.until_said("base is back")
        while (stage.directory / "step").read_text() != "once\nonce\n":
            threading.Event().wait(0.01)
        stage.supervisor.request_stop()

    groups = [[stage.steady("base", repeats=("step",))], [stage.step("step")]]
    assert stage.run(*groups, then=kill_and_look) == 0
    assert "base has died: killed by SIGKILL; it is started again in 0.5 s" in (
        stage.output.getvalue()
    )
    assert stage.stopped.read_text() == "base\n"


def test_the_back_off_grows(stage: Stage) -> None:
    def kill_twice() -> None:
        for times, delay in enumerate(("0.5", "1"), start=1):
            (stage.directory / "base.ready").unlink()
            os.kill(stage.pid_of("base"), signal.SIGKILL)
            stage.until_said(f"started again in {delay} s")
            stage.until_said("base is back", times=times)
        stage.supervisor.request_stop()

    assert stage.run([stage.steady("base")], then=kill_twice) == 0


def test_one_that_does_not_stop_in_time_is_killed(stage: Stage) -> None:
    assert stage.run([stage.steady("mule", "stubborn", stop_seconds=0.2)]) == 1
    assert "killed, not gone in time: mule" in stage.output.getvalue()


def test_a_third_request_kills_at_once(stage: Stage) -> None:
    def insist() -> None:
        for _ in range(3):
            stage.supervisor.request_stop()

    mule = stage.steady("mule", "stubborn", stop_seconds=1_000.0)
    assert stage.run([mule], then=insist) == 1


def test_a_home_is_for_one_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskflow.cluster.lock._PATIENCE_SECONDS", 0.0)
    with (
        locked(tmp_path),
        pytest.raises(ClusterRunningError, match=rf"process {os.getpid()}\)"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass
