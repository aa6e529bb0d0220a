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
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")
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
    from taskflow.aws import ignores_endpoints

    endpoint = environment.get("AWS_ENDPOINT_URL", "")
    if not endpoint:
        raise ConfigurationError(f"AWS_ENDPOINT_URL is not set. {_REFUSAL}")
    if ignores_endpoints():
        raise ConfigurationError(
            "ignore_configured_endpoint_urls (AWS_IGNORE_CONFIGURED_ENDPOINT_URLS, or the profile in ~/.aws/config) "
            f"makes boto3 go to AWS itself. {_REFUSAL}"
        )
    for variable in _VARIABLES:
        if not (address := environment.get(variable, "")):
            continue
        host = _host(address)
        if not host:
            raise ConfigurationError(f"{variable} is not an address: {address!r}")
        if f".{host.rstrip('.')}".endswith(_AWS_HOSTS):
            raise ConfigurationError(f"{variable} is AWS itself ({host}). {_REFUSAL}")
    return endpoint


def _host(address: str) -> str:
    """Empty for what is no address."""
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in {"http", "https"} and parts.port != 0
    except ValueError:
        return ""
    return (parts.hostname or "") if is_one else ""
