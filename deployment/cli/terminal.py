"""What people see of a deployment, and what programs get: `--json` leaves stdout to one JSON document."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from deployment.changes import Action, Change
from deployment.cli.tables import plan_table
from deployment.errors import UsageError
from deployment.stacks import StackEvent, Watcher

_PIPE_WIDTH = 10_000
_STATUS_STYLES = (
    ("FAILED", "bold red"),
    ("ROLLBACK", "red"),
    ("DELETE", "yellow"),
    ("COMPLETE", "green"),
)


class Terminal:
    """A Reporter. ``json``: everything but the answer goes to stderr."""

    def __init__(self, *, json: bool, yes: bool) -> None:
        self._json = json
        self._yes = yes
        stream = sys.stderr if json else sys.stdout
        width = (
            None if stream.isatty() else _PIPE_WIDTH
        )  # what reads a pipe does not want lines folded
        self.console = Console(file=stream, highlight=False, width=width, soft_wrap=True)
        self._live: Progress | None = None

    def say(self, text: str) -> None:
        self._print(Text(text))

    def warn(self, text: str) -> None:
        self._print(Text.assemble(("note: ", "bold yellow"), text))

    def show(self, renderable: Any) -> None:
        """A table; into a pipe without the blanks that fill up columns."""
        if self.console.file.isatty():
            self.console.print(renderable)
            return
        with self.console.capture() as captured:
            self.console.print(renderable)
        for line in captured.get().splitlines():
            print(line.rstrip(), file=self.console.file)

    def plan(self, changes: Sequence[Change]) -> None:
        if not changes:
            self.say("No changes: the stack is as it should be.")
            return
        self.show(plan_table(changes, wide=self.console.width >= 100))
        counts = [(action, sum(change.action is action for change in changes)) for action in Action]
        self.say(", ".join(f"{number} to {action}" for action, number in counts if number))
        losing = [change.logical_id for change in changes if change.loses_data]
        if losing:
            self.warn(f"data could be lost: {', '.join(losing)}")

    def watching(self, what: str, *, resources: int | None) -> AbstractContextManager[Watcher]:
        return self._watching(what, resources)

    def confirm(self, question: str) -> bool:
        if self._yes:
            return True
        if self._json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                f"Nobody can be asked here: {question}", "Add --yes if the answer is yes."
            )
        self.console.print(Text.assemble((question, "bold"), " [y/N] "), end="")
        return input().strip().lower() in {"y", "yes"}

    @contextmanager
    def _watching(self, what: str, resources: int | None) -> Iterator[Watcher]:
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn() if resources else TextColumn(""),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.file.isatty(),
        )
        with progress:
            self._live = progress
            try:
                bar = progress.add_task(what, total=resources)
                yield _Events(self, lambda number: progress.update(bar, completed=number))
            finally:
                self._live = None

    def _print(self, text: Text) -> None:
        (self._live.console if self._live else self.console).print(text)

    def event(self, event: StackEvent) -> None:
        line = Text(f"{event.at.astimezone():%H:%M:%S}  ", style="dim")
        line.append(f"{event.status:<36}", style=style_of(event.status))
        line.append(f"{event.logical_id}  ", style="default")
        line.append(event.resource_type.removeprefix("AWS::"), style="dim")
        if event.status.endswith("_FAILED") and event.reason:
            line.append(f"\n          {event.reason}", style="red")
        self._print(line)


class _Events:
    """Counts the resources that are done, for the bar."""

    def __init__(self, terminal: Terminal, done: Any) -> None:
        self._terminal = terminal
        self._done = done
        self._finished: set[str] = set()

    def stack_event(self, event: StackEvent) -> None:
        self._terminal.event(event)
        if event.status.endswith("_COMPLETE") and not event.is_of_the_stack:
            self._finished.add(event.logical_id)
            self._done(len(self._finished))


def style_of(status: str) -> str:
    if status.endswith("_IN_PROGRESS"):
        return "cyan"
    return next((style for word, style in _STATUS_STYLES if word in status), "")
