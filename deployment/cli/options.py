"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="standard, serverless or dev. Default: that of the stack there is; else dev for the stage dev; else "
        "standard.",
    ),
]
Stage = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which installation: its stack is taskflow-NAME. Default: dev for --profile dev, else prod.",
    ),
]
Region = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="AWS region. Default: AWS's own settings (AWS_REGION, …)."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON document on stdout, for programs; the rest goes to stderr."
    ),
]
EnvFile = Annotated[
    Path,
    typer.Option(
        metavar="FILE", help="Where the addresses of the stack are written.", dir_okay=False
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        help="Module that registers tasks, found from this directory. Repeatable, or with commas. Default: those the "
        "stack has.",
    ),
]
Requirements = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What the tasks need, in pip's format; `none`: nothing any more. Default: the file of the last run.",
    ),
]
Image = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="Image of API and long worker that somebody built. Default: built here with Docker, kept in ECR.",
    ),
]
DatabaseCA = Annotated[
    Path | None,
    typer.Option(
        "--database-ca",
        metavar="FILE",
        help="Certificates that the database is verified by. Default: AWS's for RDS, downloaded.",
    ),
]
CertificateArn = Annotated[
    str | None,
    typer.Option(
        metavar="ARN", help="Certificate in ACM. Default: one for --domain, else a self-signed one."
    ),
]
Domain = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Name of the API in a zone of Route 53, e.g. tasks.example.com."
    ),
]
AlarmEmail = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who is told of alarms.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter of the template, e.g. DatabaseInstanceClass=db.t4g.small. Repeatable; kept until set anew.",
    ),
]
AllowReplacement = Annotated[
    bool,
    typer.Option(
        "--allow-replacement",
        help="Go on although database, queues, buckets or secrets are replaced or removed.",
    ),
]
BuildDirectory = Annotated[
    Path,
    typer.Option(metavar="DIRECTORY", help="Where packages are built and kept.", file_okay=False),
]

ENV_FILE = Path(".env")
BUILD_DIRECTORY = Path("build/deploy")
