"""The image of API and long worker: what Docker is asked for, and what ECR holds afterwards."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deployment.account import Account
from deployment.code import CodeOptions
from deployment.errors import DeployError
from deployment.image import ImageBuilder
from deployment.target import ROOT
from tests.support import aws, packages

# Stands where Docker would: writes down what it was asked, and keeps the context of a build for the test to look into.
_DOCKER = """#!{python}
import json, pathlib, shutil, sys
home = pathlib.Path({home!r})
arguments = sys.argv[1:]
text = sys.stdin.read() if "--password-stdin" in arguments else ""
with (home / "calls").open("a") as calls:
    print(json.dumps([arguments, text]), file=calls)
if arguments[0] == "build" and "--target" not in arguments:
    shutil.copytree(arguments[-1], home / "context", dirs_exist_ok=True)
fails = home / "fails"
if fails.exists() and fails.read_text() == arguments[0]:
    print("Cannot connect to the Docker daemon")
    sys.exit(1)
"""


_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Docker:
    home: Path

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        file = self.home / "calls"
        return (
            [tuple(json.loads(line)) for line in file.read_text().splitlines()]
            if file.exists()
            else []
        )  # type: ignore[misc]

    @property
    def commands(self) -> list[str]:
        return [arguments[0] for arguments, _ in self.calls]


class Said:
    """A reporter that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "docker"
    program.write_text(_DOCKER.format(python=sys.executable, home=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return Docker(tmp_path)


@pytest.fixture
def account(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, value in aws.environment(moto_url).items():
        monkeypatch.setenv(name, value)
    return Account(aws.REGION)


@pytest.fixture
def ecr(moto_url: str) -> Iterator[Any]:
    with closing(aws.client("ecr", moto_url)) as client:
        yield client


@pytest.fixture
def options(tmp_path: Path) -> CodeOptions:
    requirements = tmp_path / "needed.txt"
    requirements.write_text("cronsim==2.8\n")
    return CodeOptions(
        packages.PROJECT,
        packages.TASKS,
        requirements,
        tmp_path / "out",
        b"-----BEGIN CERTIFICATE-----",
    )


def test_it_is_built_of_this_checkout_and_the_users_tasks_and_pushed(
    docker: Docker, account: Account, ecr: Any, options: CodeOptions
) -> None:
    stack = aws.unique("image")
    image = ImageBuilder(account, stack, Said()).make(options, pushing=True)  # type: ignore[arg-type]
    [repository] = ecr.describe_repositories(repositoryNames=[stack])["repositories"]
    assert image.uri.rpartition(":")[0] == repository["repositoryUri"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"]["scanOnPush"]
    assert docker.commands == ["build", "build", "login", "push"]
    (base, _), (build, _), (login, password), (push, _) = docker.calls
    where = "linux/arm64" if platform.machine() in {"arm64", "aarch64"} else "linux/amd64"
    assert base[base.index("--platform") + 1] == where
    assert (base[base.index("--target") + 1], base[-1]) == ("taskflow", str(ROOT))
    assert build[build.index("--tag") + 1] == image.uri
    assert push == ["push", image.uri]
    assert password
    assert not [word for word in login if password in word]  # it is nobody else's to read
    context = docker.home / "context"
    recipe = (context / "Dockerfile").read_text().splitlines()
    assert recipe[0] == f"FROM {base[base.index('--tag') + 1]}"
    assert "USER 10001:10001" in recipe  # not root any more
    assert "COPY tasks /app" in recipe
    assert "COPY rds-ca-bundle.pem /opt/taskflow/rds-ca-bundle.pem" in recipe
    assert (context / "requirements.txt").read_text() == "cronsim==2.8\n"
    assert (context / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()
    assert (context / "tasks" / "shop" / "tasks.py").exists()


def test_one_that_is_there_is_not_built_again_and_a_changed_task_makes_another(
    docker: Docker, account: Account, ecr: Any, options: CodeOptions, tmp_path: Path
) -> None:
    stack = aws.unique("image")
    builder = ImageBuilder(account, stack, Said())  # type: ignore[arg-type]
    planned = builder.make(options, pushing=False)
    assert docker.calls == []
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_repositories(repositoryNames=[stack])  # a plan makes nothing
    ecr.create_repository(repositoryName=stack)
    ecr.put_image(
        repositoryName=stack,
        imageManifest=json.dumps({"schemaVersion": 2, "mediaType": _MANIFEST}),
        imageTag=planned.uri.rpartition(":")[2],
    )
    assert (
        builder.make(options, pushing=True).uri.rpartition(":")[2] == planned.uri.rpartition(":")[2]
    )
    assert docker.calls == []
    mine = tmp_path / "mine"
    subprocess.run(["cp", "-r", packages.PROJECT, mine], check=True)
    changed = replace(options, root=mine)
    assert builder.make(changed, pushing=False) == planned  # where it lies makes no difference
    with (mine / "shop" / "tasks.py").open("a") as file:
        file.write("\n# changed\n")
    assert builder.make(changed, pushing=False) != planned


@pytest.mark.parametrize("command", ["build", "login", "push"])
def test_what_docker_says_is_told(
    docker: Docker, account: Account, options: CodeOptions, command: str
) -> None:
    (docker.home / "fails").write_text(command)
    with pytest.raises(DeployError, match=f"`docker {command}` failed") as refused:
        ImageBuilder(account, aws.unique("image"), Said()).make(options, pushing=True)  # type: ignore[arg-type]
    assert "Cannot connect to the Docker daemon" in refused.value.message
    assert "--image URI" in refused.value.next_step
    assert docker.commands[-1] == command


def test_without_docker_there_is_a_way_out(
    account: Account, options: CodeOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    builder = ImageBuilder(account, aws.unique("image"), Said())  # type: ignore[arg-type]
    assert not builder.has_docker
    with pytest.raises(DeployError, match="no Docker here") as refused:
        builder.make(options, pushing=True)
    assert "--profile serverless" in refused.value.next_step


def test_a_repository_goes_with_its_images(account: Account, ecr: Any) -> None:
    stack = aws.unique("image")
    ecr.create_repository(repositoryName=stack)
    builder = ImageBuilder(account, stack, Said())  # type: ignore[arg-type]
    assert builder.delete_repository()
    assert not builder.delete_repository()
