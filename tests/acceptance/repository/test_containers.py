"""Dockerfile and docker-compose.yml say what exists. There is no Docker here: what can be run is run without it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from taskflow.cli.program import program
from taskflow.settings import Settings
from tests.support.ports import free_port
from tests.support.server import ROOT, serving

COMMANDS = set(get_command(program).commands)  # type: ignore[attr-defined]
VARIABLES = {f"TASKFLOW_{name.upper()}" for name in Settings.model_fields}


class Stage:
    """The instructions of one ``FROM … AS name``."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.steps: list[tuple[str, str]] = []

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]

    def words(self, instruction: str) -> list[str]:
        """The last one, which must be in the form of JSON."""
        [*_, last] = self.all(instruction)
        words: list[str] = json.loads(last.partition("CMD ")[2] or last)
        return words


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\w+)", rest).groups()  # type: ignore[union-attr]
            stage = found[name] = Stage(base)
        elif instruction and instruction != "ARG":
            stage.steps.append((instruction, rest.strip()))
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def environment_of(stage: Stage) -> dict[str, str]:
    words = [word for text in stage.all("ENV") for word in shlex.split(text)]
    return dict(word.split("=", 1) for word in words)


def test_the_image_is_small_and_runs_without_privileges(stages: dict[str, Stage]) -> None:
    final = stages["taskflow"]
    assert list(stages)[-1] == "taskflow"  # what `docker build .` makes
    assert final.base.endswith("-slim")
    assert not [text for text in final.all("RUN") if "pip" in text or "apt" in text]
    assert final.all("COPY") == ["--from=build /opt/taskflow /opt/taskflow"]
    for name in ("taskflow", "emulator"):
        uid, _, gid = stages[name].all("USER")[-1].partition(":")
        assert int(uid) > 0
        assert int(gid) > 0
        assert stages[name].all("HEALTHCHECK")


def test_the_image_runs_commands_and_settings_that_exist(stages: dict[str, Stage]) -> None:
    final = stages["taskflow"]
    assert final.words("ENTRYPOINT") == ["taskflow"]
    assert set(final.words("CMD")) <= COMMANDS
    assert {"api", "worker", "migrate", "provision"} <= COMMANDS
    settings = {n: v for n, v in environment_of(final).items() if n.startswith("TASKFLOW_")}
    assert set(settings) <= VARIABLES
    loaded = Settings(**{n.removeprefix("TASKFLOW_").lower(): v for n, v in settings.items()})
    assert loaded.port == loaded.worker_health_port == int(final.all("EXPOSE")[0])


def test_one_health_check_fits_api_and_worker(stages: dict[str, Stage], tmp_path: Path) -> None:
    """Both answer where the image's variables say, here on another port."""
    _, *check = stages["taskflow"].words("HEALTHCHECK")

    def is_well(port: int) -> bool:
        words = [word.replace(":8000/", f":{port}/") for word in check]
        done = subprocess.run([sys.executable, *words], stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    assert not is_well(free_port())
    taskflow = Path(sys.executable).with_name("taskflow")
    for name, command in (
        ("api", (taskflow, "api")),
        ("worker", ("sh", "-c", f'exec "{taskflow}" worker --health-port "$TASKFLOW_PORT"')),
    ):
        (tmp_path / name).mkdir()
        with serving(
            tmp_path / name, command=command, environment={"TASKFLOW_HOST": "0.0.0.0"}
        ) as server:
            assert is_well(server.port), name


def test_what_is_copied_is_there_and_makes_a_complete_package(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied: set[str] = set()
    for text in stages["build"].all("COPY"):
        *sources, _target = text.split()
        copied |= set(sources)
        for source in sources:
            there = ROOT / source
            assert there.exists()
            if there.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(there, context / source, ignore=ignored)
            else:
                shutil.copy(there, context / source)
    assert copied == kept, "what .dockerignore lets through is what the image is made from"
    [install] = [text for text in stages["build"].all("RUN") if "pip install" in text]
    assert install.endswith("pip install -c requirements.lock '.[aws]'")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "."],
        cwd=context,
        check=True,
        timeout=100,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    [wheel] = context.glob("taskflow-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "src/taskflow"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {path.removeprefix("src/") for path in tracked if (ROOT / path).exists()} <= packed


def test_compose_runs_what_exists(compose: dict[str, Any], stages: dict[str, Stage]) -> None:
    services = compose["services"]
    assert {"postgres", "emulator", "migrate", "provision", "api", "worker"} <= set(services)
    for name, service in services.items():
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (ROOT / service["build"]["context"]).is_dir()
        for other, wanted in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}"
            waits_for_health = wanted["condition"] == "service_healthy"
            target = services[other].get("build", {}).get("target")
            checked = "test" in services[other].get("healthcheck", {}) or (
                target in stages and bool(stages[target].all("HEALTHCHECK"))
            )
            assert checked or not waits_for_health
        for mount in service.get("volumes", ()):
            assert (ROOT / mount.partition(":")[0]).is_dir()
        if service.get("image") == "taskflow":
            assert service["command"][0] in COMMANDS
            variables = {v for v in service["environment"] if v.startswith("TASKFLOW_")}
            assert variables <= VARIABLES


def test_composes_settings_are_accepted(compose: dict[str, Any]) -> None:
    given = compose["services"]["api"]["environment"]
    settings = Settings(
        **{
            name.removeprefix("TASKFLOW_").lower(): value
            for name, value in given.items()
            if name.startswith("TASKFLOW_")
        }
    )
    assert (settings.resolved_queue_backend, settings.resolved_payload_backend) == ("sqs", "s3")
    postgres = compose["services"]["postgres"]["environment"]
    assert settings.database_url == (
        f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{postgres['POSTGRES_DB']}"
    )
    assert given["AWS_ENDPOINT_URL"] == "http://emulator:5000"
    grace = compose["services"]["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > settings.shutdown_grace_seconds
