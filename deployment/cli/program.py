"""All commands of deploy.py, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from deployment.aws_errors import explained
from deployment.cli import change, look
from deployment.errors import DeployError, UsageError
from taskflow.cli.output import print_json

EXIT_FAILED = 1
EXIT_USAGE = 2


class Commands(TyperGroup):
    """Every failure is one sentence and the next step, on stderr; with ``--json`` also on stdout, as JSON."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with explaining():
                return super().invoke(ctx)
        except DeployError as exc:
            _show(exc)
            raise typer.Exit(EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED) from exc


@contextmanager
def explaining() -> Iterator[None]:
    """AWS's errors, and Ctrl-C, as DeployErrors."""
    try:
        yield
    except (ClientError, BotoCoreError) as exc:
        raise explained(exc) from exc
    except ResponseParserError as exc:
        raise DeployError(
            "Something between here and AWS answered in its place.",
            "Check the proxy (HTTPS_PROXY) and AWS_ENDPOINT_URL, then run the same command again.",
            code="aws_unavailable",
        ) from exc
    except (KeyboardInterrupt, EOFError) as exc:
        raise DeployError(
            "Interrupted. What AWS has begun goes on there.",
            "Run the same command again: it goes on where this one stopped.",
            code="interrupted",
        ) from exc


program = typer.Typer(
    cls=Commands,
    help="TaskFlow on AWS: one stack per stage, changed only after you have seen the changes.",
    epilog="Credentials are AWS's own (AWS_PROFILE, `aws sso login`, …). Exit codes: 0, 1 (failed), 2 (usage).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
program.command()(change.plan)
program.command()(change.up)
program.command()(look.status)
program.command()(look.logs)
program.command()(look.costs)
program.command()(change.pause)
program.command()(change.recover)
program.command()(change.destroy)


def main() -> None:
    program(prog_name="deploy.py")


def _show(exc: DeployError) -> None:
    # Typer has parsed the options by now; this is asked for where an error has no command to ask.
    if "--json" in sys.argv:
        failure = {"code": exc.code, "message": exc.message, "next_step": exc.next_step}
        print_json({"error": failure})
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("deploy.py: ", "bold red"), exc.message))
    console.print(Text.assemble(("→ ", "bold"), exc.next_step))
