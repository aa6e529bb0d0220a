"""The SQS clients of a process."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.config import Config
from botocore.exceptions import BotoCoreError

from taskflow.adapters.queue.sqs.limits import LONG_POLL_SECONDS
from taskflow.aws import session
from taskflow.core.errors import ConfigurationError

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 5.0  # a send may wait for three of these
_SPARE_SECONDS = 10.0  # of a long poll
_ATTEMPTS = 3
_OTHER_THREADS = 4  # the relay, the committer, who asks for depths


class Clients(NamedTuple):
    """Two, because one setting differs: ``polls`` waits for messages, ``calls`` must answer soon. Who receives none has
    one."""

    calls: Any
    polls: Any

    def close(self) -> None:
        """Closes idle connections; both stay usable."""
        self.calls.close()
        self.polls.close()


def sqs_clients(*, region: str | None, threads: int = 0, receivers: int = 4) -> Clients:
    """Made once per process, at some 100 ms. Thread safe, with a connection for each of ``threads`` that work
    and send, and of ``receivers``. Endpoint and credentials: AWS's own variables.

    Raises ConfigurationError when boto3 cannot be configured.
    """

    def config(read_seconds: float, connections: int) -> Config:
        return Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=read_seconds,
            # Pinned: the default mode is about to change, and adaptive slows down one tenant for another.
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=connections,
            tcp_keepalive=True,
            parameter_validation=False,  # they are ours, not a user's: it would cost a tenth of a call's time
        )

    try:
        aws = session(region)
        calls = aws.create_client("sqs", config=config(_ANSWER_SECONDS, threads + _OTHER_THREADS))
        if not receivers:
            return Clients(calls, calls)
        polls = config(LONG_POLL_SECONDS + _SPARE_SECONDS, receivers)
        return Clients(calls, aws.create_client("sqs", config=polls))
    except (BotoCoreError, ValueError) as exc:
        raise ConfigurationError(f"SQS cannot be used as AWS's variables are set: {exc}") from exc


def sqs_client(*, region: str | None, threads: int = 0) -> Any:
    """A single one, for short calls."""
    return sqs_clients(region=region, threads=threads, receivers=0).calls
