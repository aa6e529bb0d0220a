"""The command line of deploy.py: Typer for commands, Rich for what people see; `--json` for programs."""
