"""All commands, and what becomes of their errors."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from taskflow.cli import (
    api,
    artifacts,
    balancer,
    bench,
    cluster,
    dead_letters,
    dev,
    logs,
    overview,
    provision,
    store,
    submit,
    tasks,
    worker,
)
from taskflow.core.errors import ConfigurationError, InvalidRequestError, TaskFlowError

EXIT_FAILED = 1
EXIT_USAGE = 2
_USAGE_ERRORS = (ConfigurationError, InvalidRequestError)


class Commands(TyperGroup):
    """Every TaskFlowError is one clear sentence on stderr; exit code 2 if the caller can mend it, else 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TaskFlowError as exc:
            print(f"taskflow: {exc.detail}", file=sys.stderr)
            code = EXIT_USAGE if isinstance(exc, _USAGE_ERRORS) else EXIT_FAILED
            raise typer.Exit(code) from exc


program = typer.Typer(
    cls=Commands,
    help="Background tasks that are never lost.",
    epilog="Settings come from TASKFLOW_… variables and .env. Exit codes: 0, 1 (failed), 2 (usage).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
program.callback()(overview.root)
program.command()(dev.dev)
program.command()(api.api)
program.command()(worker.worker)
program.command()(balancer.balancer)
program.command()(cluster.cluster)
program.command()(provision.provision)
program.command()(submit.submit)
program.command()(tasks.status)
program.command()(tasks.watch)
program.command()(artifacts.artifacts)
program.command("list")(tasks.list_tasks)
program.command()(tasks.cancel)
program.command()(tasks.retry)
program.add_typer(dead_letters.commands, name="dead-letters")
program.command()(overview.handlers)
program.command()(overview.workers)
program.command()(overview.stats)
program.command()(logs.logs)
program.command()(store.backup)
program.command()(store.restore)
program.command()(store.migrate)
program.command()(store.doctor)
program.command()(bench.bench)
program.command()(overview.version)
