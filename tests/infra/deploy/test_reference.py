"""docs/deploy-reference.md has every command with all of its options, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from deployment.cli.program import program
from deployment.outputs import variables

PAGE = (Path(__file__).parents[3] / "docs" / "deploy-reference.md").read_text()


def test_the_page_has_every_command() -> None:
    commands = typer.main.get_command(program).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE)) == set(commands)


def test_the_page_has_every_option_with_the_commands_that_take_it() -> None:
    commands = typer.main.get_command(program).commands  # type: ignore[attr-defined]
    taken: dict[str, set[str]] = {}
    for name, command in commands.items():
        for option in command.params:
            for flag in option.opts:
                if flag.startswith("--") and flag != "--help":
                    taken.setdefault(flag, set()).add(name)
    listed: dict[str, set[str]] = {}
    for flags, of in re.findall(r"^\| (`--[^|]+) \| ([^|]+) \|", PAGE, re.MULTILINE):
        users = set(re.findall(r"`([a-z]+)`", of))
        if of.startswith("all"):
            users = set(commands) - users
        for flag in re.findall(r"`(--[a-z-]+)`", flags):
            listed[flag] = users
    assert listed == taken


def test_the_page_has_every_variable_of_the_env_file() -> None:
    assert [name for name in variables({}) if f"`{name}`" not in PAGE] == []
