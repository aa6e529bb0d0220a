"""The command line, `taskflow`. Modules here import at the top only what `taskflow --help` needs."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    from taskflow.cli.program import program

    program(prog_name="taskflow")
