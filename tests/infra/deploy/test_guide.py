"""Every command of docs/deploy.md is one that deploy.py understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from cdk.profiles import PROFILES
from deployment.cli.program import program
from deployment.template import Template, settings_of
from taskflow.cli.program import program as taskflow_program

PAGE = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text()
COMMANDS = sorted(
    set(re.findall(r'make deploy ARGS="([^"]+)"', PAGE))
    | set(re.findall(r"`deploy\.py ([^`]+)`", PAGE))
    | set(re.findall(r"`(up --[^`]+)`", PAGE))
)


def test_the_page_has_commands() -> None:
    assert {line.split()[0] for line in COMMANDS} >= {
        "plan",
        "up",
        "status",
        "logs",
        "pause",
        "destroy",
    }


@pytest.mark.parametrize("line", COMMANDS)
def test_deploy_py_understands(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = typer.main.get_command(program).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, list(arguments)) as context:
        given = context.params.get("settings") or ()
    for profile in PROFILES.values():
        assert len(settings_of(given, Template.of(profile), decided_here={})) == len(given)


@pytest.mark.parametrize("line", re.findall(r"\.venv/bin/taskflow (.+)", PAGE))
def test_the_command_line_understands(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = typer.main.get_command(taskflow_program).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, list(arguments)):
        pass
