"""`taskflow provision`: the queues and the bucket, on an emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Json
from taskflow.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3")
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_REFUSAL = "`taskflow provision` is for emulators alone; on AWS `python deploy.py up` makes queues and bucket"


def provision(json: Json = False) -> None:
    """Make the queues and the bucket on the emulator at AWS_ENDPOINT_URL, or set them right. Safe to repeat.

    Refuses without AWS_ENDPOINT_URL: AWS itself is deploy.py's.
    """
    from taskflow.bootstrap import provision_bucket, provision_queues
    from taskflow.cli import output
    from taskflow.settings import environment

    endpoint = emulator_endpoint(environment())
    settings = settings_here()
    if not settings.s3_bucket and settings.resolved_payload_backend == "s3":
        raise ConfigurationError(
            "TASKFLOW_S3_BUCKET is not set: which bucket should payloads go to?"
        )
    queues = provision_queues(settings)
    buckets = {settings.s3_bucket: provision_bucket(settings)} if settings.s3_bucket else {}
    if json:
        kinds = {"queues": queues, "buckets": buckets}
        output.print_json(
            {"endpoint": endpoint}
            | {
                kind: [{"name": name, "is_new": is_new} for name, is_new in made.items()]
                for kind, made in kinds.items()
            }
        )
        return
    output.print_table(
        ["KIND", "NAME", ""],
        (
            [kind, name, "made" if is_new else "was there"]
            for kind, made in (("queue", queues), ("bucket", buckets))
            for name, is_new in made.items()
        ),
        empty="nothing to make: the queues are given by URL",
    )
    if not buckets:
        output.note("no bucket: TASKFLOW_S3_BUCKET is not set")


def emulator_endpoint(environment: Mapping[str, str]) -> str:
    """Where AWS's variables send our requests. Raises ConfigurationError when that is, or may be, AWS itself."""
    endpoint = environment.get("AWS_ENDPOINT_URL", "")
    if not endpoint:
        raise ConfigurationError(f"AWS_ENDPOINT_URL is not set. {_REFUSAL}")
    if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        raise ConfigurationError(
            f"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS makes boto3 go to AWS itself. {_REFUSAL}"
        )
    for variable in _VARIABLES:
        host = urlsplit(environment.get(variable, "")).hostname or ""
        if f".{host}".endswith(_AWS_HOSTS):
            raise ConfigurationError(f"{variable} is AWS itself ({host}). {_REFUSAL}")
    if urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).hostname:
        raise ConfigurationError(f"AWS_ENDPOINT_URL is not an address: {endpoint!r}")
    return endpoint
