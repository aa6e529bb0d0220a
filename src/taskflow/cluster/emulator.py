"""Emulators of SQS and S3 that run on this machine."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from taskflow.cluster.process import ProcessSpec
from taskflow.core.errors import ConfigurationError


class Emulator(StrEnum):
    MOTO = "moto"
    MINISTACK = "ministack"


REGION = "us-east-1"
_ACCOUNT_ID = "123456789012"
# MiniStack checks the signatures of presigned URLs, with these.
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
_ENTRIES = {Emulator.MOTO: "moto.server:main", Emulator.MINISTACK: "ministack.app:main"}
_INSTALL = {Emulator.MOTO: "taskflow[cluster]", Emulator.MINISTACK: "ministack"}


def check(emulator: Emulator) -> None:
    """Raises ConfigurationError that says what to install."""
    if find_spec(emulator) is None:
        raise ConfigurationError(
            f"the emulator {emulator} is not installed: pip install '{_INSTALL[emulator]}'"
        )


def clients(url: str) -> dict[str, str]:
    """AWS's variables for processes that are to use the emulator at ``url``, and nothing but it."""
    return {
        **_CREDENTIALS,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def spec(
    emulator: Emulator, port: int, directory: Path, *, repeats: tuple[str, ...]
) -> ProcessSpec:
    """The emulator on 127.0.0.1; what it keeps, it keeps in memory."""
    environment: Mapping[str, str] = {
        **_CREDENTIALS,
        "AWS_DEFAULT_REGION": REGION,
        "MOTO_ACCOUNT_ID": _ACCOUNT_ID,
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_ACCOUNT_ID": _ACCOUNT_ID,
        "HOME": str(directory),
        "TMPDIR": str(directory),
    }
    return ProcessSpec(
        name=emulator.value,
        entry=_ENTRIES[emulator],
        arguments=("-H", "127.0.0.1", "-p", str(port)) if emulator is Emulator.MOTO else (),
        environment=environment,
        is_ready=lambda: answers("127.0.0.1", port, "/"),
        log_file=directory / f"{emulator}.log",
        repeats=repeats,
    )


def answers(host: str, port: int, path: str, *, status: int | None = None) -> bool:
    """Whether somebody answers there over HTTP: with ``status``, or at all."""
    connection = http.client.HTTPConnection(host, port, timeout=1.0)
    try:
        connection.request("GET", path)
        answered = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return status is None or answered == status
