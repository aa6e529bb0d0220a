"""Lambda's Python runtimes: which there are, and which wheels run on them."""

from __future__ import annotations

from typing import Literal

from deployment.packaging.errors import PackagingError

Architecture = Literal["x86_64", "arm64"]

# Lambda Developer Guide, "Lambda runtimes": 3.11 runs on Amazon Linux 2 (glibc 2.26), the others on 2023 (2.34).
_WHEELS = {
    "3.11": "manylinux_2_17",
    "3.12": "manylinux_2_34",
    "3.13": "manylinux_2_34",
    "3.14": "manylinux_2_34",
}
_MACHINES: dict[Architecture, str] = {"x86_64": "x86_64", "arm64": "aarch64"}

PYTHON_VERSIONS = tuple(_WHEELS)
TASK_ROOT = "/var/task"  # where Lambda unpacks the zip


def runtime_of(python_version: str) -> str:
    """Lambda's name: ``python3.13`` for ``3.13``. Raises PackagingError when Lambda has no such runtime."""
    if python_version not in _WHEELS:
        raise PackagingError(
            f"Lambda has no runtime for Python {python_version}, and a package holds bytecode of one version.",
            f"Run deploy.py with one of Python {', '.join(PYTHON_VERSIONS)}.",
        )
    return f"python{python_version}"


def platform_of(python_version: str, architecture: Architecture) -> str:
    """The same in uv's words for `--python-platform`."""
    runtime_of(python_version)
    return f"{_MACHINES[architecture]}-{_WHEELS[python_version]}"
