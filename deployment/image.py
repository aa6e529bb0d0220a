"""The image of API and long worker: built by Docker from this checkout and the user's tasks, kept in ECR."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code
from deployment.code import CodeOptions
from deployment.errors import DeployError
from deployment.packaging.package import DATABASE_CA
from deployment.packaging.task_code import TaskCode
from deployment.reporter import Reporter
from deployment.target import ROOT

_LOCK = "requirements.lock"
_CONTEXT = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    _LOCK,
    "README.md",
    "LICENSE",
    "src",
)
_IMAGE_DATABASE_CA = f"/opt/taskflow/{DATABASE_CA}"  # as the template says
_KEPT_IMAGES = 20
_ARCHITECTURES = {"x86_64": "X86_64", "amd64": "X86_64", "aarch64": "ARM64", "arm64": "ARM64"}
_PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}
_OUTPUT_LINES = 15


@dataclass(frozen=True)
class Image:
    uri: str
    architecture: str  # X86_64 or ARM64


class ImageBuilder:
    def __init__(self, account: Account, stack: str, reporter: Reporter) -> None:
        self._account = account
        self._repository = stack
        self.reporter = reporter

    @property
    def has_docker(self) -> bool:
        return shutil.which("docker") is not None

    def is_ours(self, uri: str) -> bool:
        """Whether it was built by this class: then it follows the code."""
        return f".dkr.ecr.{self._account.region}." in uri and f"/{self._repository}:" in uri

    def make(self, options: CodeOptions, *, pushing: bool) -> Image:
        """The image of this code: found in ECR by the hash of what it is made of, else built and pushed.

        Without ``pushing`` its address alone. Raises DeployError when there is no Docker, or it fails.
        """
        docker = shutil.which("docker")
        if docker is None:
            raise DeployError(
                "This profile's API runs in a container, and there is no Docker here to build its image.",
                "Install Docker, or name an image that somebody else built: --image URI (`docker build -t URI . && "
                "docker push URI`); --profile serverless needs no image.",
                code="no_docker",
            )
        architecture = _ARCHITECTURES.get(platform.machine().lower(), "X86_64")
        tag = self._tag(options, architecture)
        identity = self._account.identity
        suffix = "amazonaws.com.cn" if identity.partition == "aws-cn" else "amazonaws.com"
        registry = f"{identity.account}.dkr.ecr.{self._account.region}.{suffix}"
        if pushing:
            registry = self._ensure_repository()
        image = Image(f"{registry}/{self._repository}:{tag}", architecture)
        if not pushing or self._has(tag):
            return image
        self.reporter.say(f"building the image {image.uri}")
        self._build(docker, image, options)
        self._login(docker)
        self.reporter.say("pushing the image")
        self._docker([docker, "push", image.uri])
        return image

    def delete_repository(self) -> bool:
        """With all its images; whether there was one."""
        try:
            self._ecr.delete_repository(repositoryName=self._repository, force=True)
        except ClientError as exc:
            if error_code(exc) == "RepositoryNotFoundException":
                return False
            raise
        return True

    @property
    def _ecr(self) -> Any:
        return self._account.client("ecr")

    def _ensure_repository(self) -> str:
        """Returns the registry's name."""
        try:
            [there] = self._ecr.describe_repositories(repositoryNames=[self._repository])[
                "repositories"
            ]
        except ClientError as exc:
            if error_code(exc) != "RepositoryNotFoundException":
                raise
            there = self._ecr.create_repository(
                repositoryName=self._repository,
                imageScanningConfiguration={"scanOnPush": True},
                imageTagMutability="IMMUTABLE",
            )["repository"]
        self._ecr.put_lifecycle_policy(
            repositoryName=self._repository, lifecyclePolicyText=json.dumps(_lifecycle())
        )
        return str(there["repositoryUri"]).partition("/")[0]

    def _has(self, tag: str) -> bool:
        try:
            self._ecr.describe_images(repositoryName=self._repository, imageIds=[{"imageTag": tag}])
        except ClientError as exc:
            if error_code(exc) == "ImageNotFoundException":
                return False
            raise
        return True

    def _tag(self, options: CodeOptions, architecture: str) -> str:
        digest = hashlib.sha256(architecture.encode())
        for name, path in _inputs(options):
            content = path.read_bytes()
            digest.update(f"\n{name} {len(content)}\n".encode())
            digest.update(content)
        digest.update(options.database_ca or b"")
        return digest.hexdigest()[:32]

    def _build(self, docker: str, image: Image, options: CodeOptions) -> None:
        command = [docker, "build", "--platform", _PLATFORMS[image.architecture]]
        base = f"taskflow-base:{image.uri.rpartition(':')[2]}"
        self._docker([*command, "--target", "taskflow", "--tag", base, str(ROOT)])
        with tempfile.TemporaryDirectory() as directory:
            context = Path(directory)
            lines = [f"FROM {base}"]
            if options.requirements is not None:
                shutil.copy(options.requirements, context / "requirements.txt")
                shutil.copy(ROOT / _LOCK, context / _LOCK)
                lines += [
                    "USER root",
                    f"COPY requirements.txt {_LOCK} /tmp/",
                    # With our own versions, as in the functions: what asks for others is told here.
                    f"RUN python -m pip install --no-cache-dir -c /tmp/{_LOCK} -r /tmp/requirements.txt",
                    "USER 10001:10001",
                ]
            tasks = context / "tasks"
            tasks.mkdir()
            for name, path in TaskCode(options.task_modules, options.root).files():
                target = tasks / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            lines.append("COPY tasks /app")
            if options.database_ca:
                (context / DATABASE_CA).write_bytes(options.database_ca)
                lines.append(f"COPY {DATABASE_CA} {_IMAGE_DATABASE_CA}")
            (context / "Dockerfile").write_text("\n".join([*lines, ""]))
            self._docker([*command, "--tag", image.uri, str(context)])

    def _login(self, docker: str) -> None:
        [data] = self._ecr.get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        registry = data["proxyEndpoint"]
        # By stdin: what is an argument can be read by everybody on this machine.
        self._docker([docker, "login", "--username", user, "--password-stdin", registry], password)

    def _docker(self, command: Sequence[str], text: str | None = None) -> None:
        done = subprocess.run(  # noqa: S603 - a list of ours, no shell
            command, input=text, stdin=None if text else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            said = "\n".join(done.stdout.strip().splitlines()[-_OUTPUT_LINES:])
            raise DeployError(
                f"`docker {command[1]}` failed:\n{said}",
                "Mend what Docker says (is its daemon running?), or name an image that is there: --image URI.",
                code="docker_failed",
            )


def _inputs(options: CodeOptions) -> Iterator[tuple[str, Path]]:
    """What the image depends on, in an order that is always the same."""
    for name in _CONTEXT:
        path = ROOT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(ROOT)), file
    if options.requirements is not None:
        yield "requirements", options.requirements
    for place, path in TaskCode(options.task_modules, options.root).files():
        yield f"tasks/{place}", path


def _lifecycle() -> dict[str, Any]:
    return {
        "rules": [
            {
                "rulePriority": 1,
                "description": f"the last {_KEPT_IMAGES}: enough to roll back to",
                "selection": {
                    "tagStatus": "any",
                    "countType": "imageCountMoreThan",
                    "countNumber": _KEPT_IMAGES,
                },
                "action": {"type": "expire"},
            }
        ]
    }
