"""Commands that only look."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from cdk.profiles import PROFILES
from deployment.account import Account
from deployment.cli import options as opt
from deployment.cli.money import cost_json, cost_table, estimates
from deployment.cli.tables import facts, queue_table
from deployment.cli.terminal import Terminal, style_of
from deployment.costs import assumptions
from deployment.errors import UsageError
from deployment.log_tail import SERVICES, LogTail
from deployment.stack_states import Readiness, decision_needed
from deployment.status import Status, look
from deployment.target import DEFAULT_PROFILE, target
from taskflow.cli.output import print_json, print_json_line
from taskflow.cli.submit import duration

_INTERRUPTED = 130  # as shells have it


def status(
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    json: opt.Json = False,
) -> None:
    """The stack, its address, its queues, the alarms that ring, why its last change failed. Exit code 1 unless well."""
    terminal = Terminal(json=json, yes=False)
    aim = target(profile, stage, known_profiles=list(PROFILES))
    found = look(Account(region), aim.stack)
    if json:
        print_json(_as_json(found))
    else:
        _show(found, terminal)
    if not found.is_well:
        raise typer.Exit(1)


def logs(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PROCESS|QUERY",
            help=f"A process, whose lines are shown ({', '.join(SERVICES)}), or a saved query "
            "(`taskflow logs` lists them).",
        ),
    ] = "api",
    since: Annotated[
        Any,
        typer.Option(parser=duration, metavar="DURATION", help="How far back: 90s, 5m, 2h, 1d."),
    ] = "15m",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is logged next.")
    ] = False,
    task: Annotated[
        str | None, typer.Option(metavar="ID", help="For a query: about one task only.")
    ] = None,
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    json: opt.Json = False,
) -> None:
    """What a process of the stack has logged; or the answer of a saved query, as `taskflow logs` gives it."""
    aim = target(profile, stage, known_profiles=list(PROFILES))
    account = Account(region)
    if what not in SERVICES:
        from taskflow.cli.logs import logs as answer_query
        from taskflow.core.errors import TaskFlowError

        try:
            answer_query(
                query=what,
                since=since,
                task=task,
                stack=aim.stack,
                region=account.region,
                json=json,
            )
        except TaskFlowError as exc:
            raise UsageError(
                f"{exc.detail[:1].upper()}{exc.detail[1:].rstrip('.')}.",
                f"Name a process ({', '.join(SERVICES)}) or a query (`taskflow logs` lists them).",
            ) from exc
        return
    tail = LogTail(account, aim.stack, what)
    lines = tail.lines(since=datetime.now(UTC) - timedelta(seconds=since), following=follow)
    if json and not follow:
        print_json([{"at": line.at, "text": line.text} for line in lines])
        return
    terminal = Terminal(json=False, yes=False)
    try:
        for line in lines:
            if json:
                print_json_line({"at": line.at, "text": line.text})
            else:
                terminal.console.print(Text(f"{line.at.astimezone():%H:%M:%S}  {line.text}"))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None  # the usual end of --follow


def costs(profile: opt.Profile = None, json: opt.Json = False) -> None:
    """What a profile costs a month, part by part: idle and at 1, 100 and 1,000 tasks per second. Asks AWS nothing."""
    name = profile or DEFAULT_PROFILE
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}.", f"Choose one of: {', '.join(PROFILES)}.")
    found = estimates(PROFILES[name])
    if json:
        print_json(cost_json(found))
        return
    terminal = Terminal(json=False, yes=False)
    terminal.show(cost_table(found))
    for assumption in assumptions():
        terminal.console.print(Text(f"· {assumption}", style="dim"))


def _show(found: Status, terminal: Terminal) -> None:
    state = found.state
    if state is None:
        terminal.say(f"There is no stack {found.stack} in {found.region}. `deploy.py up` makes it.")
        return
    terminal.show(
        facts(
            {
                "stack": f"{found.stack} ({found.region})",
                "status": Text(state.status, style=style_of(state.status)),
                "changed": f"{state.changed_at.astimezone():%Y-%m-%d %H:%M:%S}",
                **({"reason": state.reason} if state.reason else {}),
                **({"address": found.outputs["ApiUrl"]} if "ApiUrl" in found.outputs else {}),
                **(
                    {"serving": state.parameters["Serving"]}
                    if "Serving" in state.parameters
                    else {}
                ),
                "protected": "yes" if state.is_protected else "no",
            }
        )
    )
    for failure in found.failures:
        terminal.say(f"failed: {failure}")
    if found.queues:
        terminal.show(queue_table(found))
    for alarm in found.alarms:
        terminal.warn(f"alarm {alarm.name}: {alarm.reason}")
    if state.readiness not in {Readiness.READY, Readiness.BUSY}:
        terminal.say(f"→ {decision_needed(found.stack, state.status, '').next_step}")


def _as_json(found: Status) -> dict[str, Any]:
    return {**asdict(found), "is_well": found.is_well}
