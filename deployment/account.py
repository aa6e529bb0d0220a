"""Clients for one region of one account."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from deployment.errors import DeployError
from taskflow.settings import environment

INVOCATION_SECONDS = 900  # the longest a function may run
_ATTEMPTS = 10  # a throttled call is repeated for about a minute before the reader hears of it


@dataclass(frozen=True)
class Identity:
    account: str
    partition: str  # aws, aws-cn, aws-us-gov
    arn: str


class Account:
    """Makes each client once. Errors of its clients are botocore's: `aws_errors.explained` puts them into words."""

    def __init__(self, region: str | None) -> None:
        here = environment()
        # boto3 by itself does not know AWS_REGION, which Lambda, ECS and CloudShell set.
        self._session = boto3.Session(region_name=region or here.get("AWS_REGION") or None)
        if not self._session.region_name:
            raise DeployError(
                "No AWS region is chosen.",
                "Add --region (e.g. --region eu-central-1), or set AWS_REGION.",
                code="no_region",
            )
        self.region: str = self._session.region_name
        self._attempts = int(here.get("AWS_MAX_ATTEMPTS") or _ATTEMPTS)  # AWS's own variable

    @functools.cache  # noqa: B019 - one per process
    def client(self, service: str, *, invoking: bool = False) -> Any:
        """``invoking``: waits for functions, and never sends an invocation again behind our back."""
        config = Config(
            retries={
                "mode": "standard",
                "total_max_attempts": 1 if invoking else self._attempts,
            },
            connect_timeout=10,
            read_timeout=INVOCATION_SECONDS + 30 if invoking else 60,
            tcp_keepalive=True,
            user_agent_extra="taskflow-deploy",
        )
        return self._session.client(service, region_name=self.region, config=config)

    @functools.cached_property
    def identity(self) -> Identity:
        """Who we are: the first call of every command, so that wrong credentials are told before anything is done."""
        answer = self.client("sts").get_caller_identity()
        arn: str = answer["Arn"]
        return Identity(answer["Account"], arn.split(":")[1], arn)

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[Any]:
        """All answers of an operation that comes in pages."""
        return iter(self.client(service).get_paginator(operation).paginate(**arguments))
