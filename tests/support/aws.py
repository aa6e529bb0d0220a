"""The emulators of AWS of this test run, and clients for them: one server of each kind, started when asked for."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from tests.support import run

REGION = "us-east-1"
CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
ANYBODY = "tests"  # may do everything
_SERVER = "tests.support.emulator_server"

Emulator = Literal["moto", "ministack", "moto-cloudformation"]


def endpoint(emulator: Emulator) -> str:
    """Raises RuntimeError when it does not start: it comes with `pip install -r requirements.lock`."""
    url: str = run.shared(emulator, _SERVER, emulator)["url"]
    return url


def client(service: str, url: str) -> Any:
    """A plain boto3 client, to look at what TaskFlow did."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        config=Config(user_agent_appid=ANYBODY),
        **CREDENTIALS,
    )


def environment(url: str, identity: str = ANYBODY) -> dict[str, str]:
    """AWS's own variables for a process that is to use the emulator at ``url``, in the role of ``identity``
    (`tests.support.guard`)."""
    return {
        "AWS_SDK_UA_APP_ID": identity,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def unique(name: str) -> str:
    """A name nobody else in this run uses."""
    return f"{name}-{uuid.uuid4().hex[:12]}"
