"""The user's code and ours, packaged and where the stack will find it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from cdk.profiles import Profile
from deployment.artifacts import ArtifactBucket
from deployment.database_tls import ENCRYPTED, VERIFIED
from deployment.errors import UsageError
from deployment.packaging import build, runtime_of
from deployment.packaging.own_code import Kind
from deployment.reporter import Reporter

_PARAMETERS: Mapping[Kind, str] = {"worker": "WorkerCodeKey", "api": "ApiCodeKey"}


@dataclass(frozen=True)
class CodeOptions:
    """``requirements``: None if the tasks need nothing. ``out`` keeps packages that were built. ``database_ca``: see
    `deployment.database_tls`."""

    root: Path
    task_modules: Sequence[str]
    requirements: Path | None
    out: Path
    database_ca: bytes | None = None

    @property
    def database_tls(self) -> str:
        return VERIFIED if self.database_ca else ENCRYPTED


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def package(
    profile: Profile,
    options: CodeOptions,
    bucket: ArtifactBucket,
    reporter: Reporter,
    *,
    uploading: bool,
) -> dict[str, str]:
    """The template's parameters about code. Without ``uploading`` they are only computed: keys are content hashes."""
    version = python_version()
    parameters = {
        "CodeBucket": bucket.name,
        "LambdaRuntime": runtime_of(version),
        "TaskModules": ",".join(options.task_modules),
        "DatabaseTls": options.database_tls,
    }
    for kind in _kinds(profile):
        reporter.say(f"packaging the {kind} for {runtime_of(version)}")
        built = build(
            kind,
            root=options.root,
            task_modules=options.task_modules,
            requirements=options.requirements,
            python_version=version,
            out=options.out,
            database_ca=options.database_ca,
        )
        if uploading:
            bucket.upload(built.path, kind=kind, sha256_hex=built.sha256_hex)
        parameters[_PARAMETERS[kind]] = bucket.key(
            built.path.suffix, kind=kind, sha256_hex=built.sha256_hex
        )
    return parameters


def task_modules(named: Sequence[str] | None, remembered: str | None) -> tuple[str, ...]:
    """Of `--tasks` (each may be a list with commas), else those that the stack has. Raises UsageError."""
    text = ",".join(named) if named is not None else remembered or ""
    modules = tuple(part.strip() for part in text.split(",") if part.strip())
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise UsageError(
                f"{module!r} is not the name of a module.", "Example: --tasks myshop.tasks"
            )
    return modules


def _kinds(profile: Profile) -> Sequence[Kind]:
    return [kind for kind in get_args(Kind) if kind == "worker" or not profile.has_containers]
