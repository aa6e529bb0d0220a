"""The distributions of a package: TaskFlow's in the versions of requirements.lock, the user's beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployment.packaging.errors import PackagingError
from deployment.packaging.indexes import uv_environment

_UNREACHABLE = ("Failed to fetch", "error sending request", "network was disabled", "dns error")
_NO_WHEEL = re.compile(r"Because (?:only )?(\S+?) (?:has|have) no (?:usable )?wheels")
_NOT_SAID = re.compile(r"\w+://[^\s/@]+@")  # a password in the address of an index
_SECONDS = 600


def install(
    own: Sequence[str],
    requirements: Path | None,
    target: Path,
    *,
    lock: Path,
    python_version: str,
    platform: str,
) -> None:
    """Into the empty directory ``target``, as wheels for ``platform``; nothing is built or compiled.

    Only what TaskFlow needs is pinned by ``lock``: what else is in it (tools of its developers) binds nobody.
    Raises PackagingError for a dependency without a wheel, a conflict with the pinned versions, no network.
    """
    environment = uv_environment()
    options = [
        *("--quiet", "--no-build", "--color", "never", "--python", sys.executable),
        *("--python-version", python_version, "--python-platform", platform),
    ]
    asked, pinned = target.with_suffix(".in"), target.with_suffix(".pins")
    asked.write_text("\n".join(own))
    _uv(
        [
            *("pip", "compile", *options, "--no-header", "--no-annotate"),
            *("--constraints", str(lock), "--output-file", str(pinned), str(asked)),
        ],
        environment,
        f"TaskFlow's own dependencies cannot be had for Python {python_version} on {platform}",
        "Deploy for another architecture, or run deploy.py with another version of Python.",
    )
    users = ["--requirements", str(requirements.resolve())] if requirements else []
    _uv(
        [
            *("pip", "install", *options, "--link-mode", "copy", "--target", str(target)),
            *("--requirements", str(pinned), *users),
        ],
        environment,
        f"What {requirements or 'TaskFlow'} asks for cannot be installed for Python {python_version} on {platform}",
        "Change the requirement: a package may use any version that has a wheel for Lambda "
        "and goes with the versions TaskFlow is pinned to.",
    )


def _uv(
    arguments: Sequence[str], environment: Mapping[str, str], failure: str, next_step: str
) -> None:
    command = [_executable(), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - uv, and paths
            command,
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise PackagingError(
            f"Packages were still being downloaded after {_SECONDS} s.",
            "Look at the network, and run deploy.py again: what has arrived is kept.",
        ) from exc
    if done.returncode == 0:
        return
    said = _NOT_SAID.sub("…@", done.stderr.strip())
    if any(sign in said for sign in _UNREACHABLE):
        raise PackagingError(
            f"The package index cannot be reached: {_last_cause(said)}.",
            "Look at the network and the index that pip or uv is configured with, then run deploy.py again.",
        )
    if no_wheel := _NO_WHEEL.search(said):
        raise PackagingError(
            f"{failure}: there is no wheel of {no_wheel[1]} for it, and nothing is built from source.",
            next_step,
        )
    raise PackagingError(f"{failure}: {_causes(said)}", next_step)


def _executable() -> str:
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError) as exc:
        raise PackagingError(
            "uv is not installed, which fetches what functions depend on.",
            "Install it: pip install -c requirements.lock uv",
        ) from exc


def _causes(said: str) -> str:
    """uv's explanation on one line, without its hints."""
    explanation = said.partition("\n\nhint:")[0].removeprefix("error: ")
    return " ".join(explanation.replace("cause: ", "").split())


def _last_cause(said: str) -> str:
    lines = [line.partition("cause: ")[2] for line in said.splitlines() if "cause: " in line]
    return lines[-1] if lines else _causes(said)
