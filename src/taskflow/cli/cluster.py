"""`taskflow cluster`: as on AWS, on this machine."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Host, Tasks, given

_BUCKET = "taskflow-cluster"
_POLL, _POLL_SECONDS = "TASKFLOW_QUEUE_POLL_SECONDS", "2"
_DRAIN = "TASKFLOW_DRAIN_SECONDS"


class Emulated(StrEnum):
    """`cluster.emulator.Emulator`, which `taskflow --help` need not import."""

    MOTO = "moto"
    MINISTACK = "ministack"


def cluster(
    tasks: Tasks = None,
    instances: Annotated[
        int, typer.Option(help="API instances, on consecutive ports.", min=1, max=100)
    ] = 3,
    workers: Annotated[
        int,
        typer.Option(
            help="Worker processes, each with TASKFLOW_NUM_WORKERS attempts at once.",
            min=0,
            max=100,
        ),
    ] = 2,
    host: Host = None,
    port: Annotated[
        int,
        typer.Option(help="Port of the first API instance; 0: any free ones.", min=0, max=65_535),
    ] = 8001,
    balancer_port: Annotated[
        int,
        typer.Option(
            help="Port of the load balancer in front of them; 0, or with --port 0: a free one.",
            min=0,
            max=65_535,
        ),
    ] = 8000,
    https: Annotated[
        bool, typer.Option("--https", help="HTTPS, with a certificate made for this machine.")
    ] = False,
    emulator: Annotated[Emulated, typer.Option(help="What stands for SQS and S3.")] = Emulated.MOTO,
    home: Annotated[
        Path | None,
        typer.Option(help="Directory of local data. Default: TASKFLOW_HOME.", file_okay=False),
    ] = None,
) -> None:
    """Run TaskFlow as on AWS, on this machine: balancer, API instances, workers, PostgreSQL, emulated SQS and S3.

    Each is a process of its own; one that dies is started again. Ctrl-C stops all in order, a second one at once.
    Every run starts empty: the emulator keeps queues and bucket in memory, and the database is made anew.
    """
    from taskflow.bootstrap import import_tasks
    from taskflow.cluster.emulator import Emulator
    from taskflow.cluster.run import SERVER_URL, Wishes, run
    from taskflow.settings import environment

    settings = settings_here(**given(tasks=tasks, host=host, home=home))
    # The likeliest mistake: its processes would find it once all the others run.
    import_tasks(settings)
    queue, payloads = settings.queue_backend or "sqs", settings.payload_backend or "s3"
    variables = environment()
    wishes = Wishes(
        home=settings.home,
        host=settings.host,
        port=port,
        instances=instances,
        workers=workers,
        emulator=Emulator(emulator) if queue == "sqs" or payloads == "s3" else None,
        balancer_port=balancer_port,
        https=https,
        server_url=variables.get(SERVER_URL, ""),
        grace_seconds=settings.shutdown_grace_seconds,
        settings={
            "TASKFLOW_BACKEND": "aws",
            "TASKFLOW_QUEUE_BACKEND": queue,
            "TASKFLOW_PAYLOAD_BACKEND": payloads,
            "TASKFLOW_S3_BUCKET": settings.s3_bucket or _BUCKET,
            "TASKFLOW_TASKS": ",".join(settings.tasks),
            # A worker that stops waits for its long polls, and requests to an emulator cost nothing.
            _POLL: variables.get(_POLL, _POLL_SECONDS),
            # Two health checks, and a little: an instance can be restarted without a failed request.
            _DRAIN: variables.get(_DRAIN, f"{2 * settings.balancer_health_interval_seconds + 1:g}"),
        },
        environment=variables,
    )
    colour = sys.stdout.isatty() and not variables.get("NO_COLOR")
    code = run(wishes, sys.stdout, colour=colour, as_json=settings.log_format == "json")
    raise typer.Exit(code)
