"""Estimates of what a profile costs, for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from cdk.profiles import Profile
from deployment.costs import RATES, estimate
from deployment.template import Template

_SHOWN = 100.0


def alarms_of(profile: Profile) -> int:
    """How many series they watch."""
    return Template.of(profile).alarm_metrics


def cost_line(profile: Profile) -> str:
    """One sentence, after a plan."""
    alarms = alarms_of(profile)
    idle = estimate(profile, alarms=alarms).dollars
    busy = estimate(profile, tasks_per_second=_SHOWN, alarms=alarms).dollars
    return (
        f"Profile {profile.name} costs about ${idle:,.0f} a month idle, ${busy:,.0f} at {_SHOWN:.0f} tasks a second "
        "(list prices; `deploy.py costs` has the parts)."
    )


def cost_table(profile: Profile) -> Table:
    """A row per part, a column per rate."""
    alarms = alarms_of(profile)
    estimates = [estimate(profile, tasks_per_second=rate, alarms=alarms) for rate in RATES]
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=True)
    table.add_column("PART", footer="a month", overflow="fold")
    for one in estimates:
        name = "IDLE" if one.tasks_per_second == 0 else f"{one.tasks_per_second:,.0f}/s"
        table.add_column(
            name, justify="right", footer=Text(f"${one.dollars:,.0f}", style="bold"), no_wrap=True
        )
    table.add_column("AT THE HIGHEST RATE", style="dim", overflow="fold")
    parts = list(dict.fromkeys(line.item for one in estimates for line in one.lines))
    for part in parts:
        found = [next((line for line in one.lines if line.item == part), None) for one in estimates]
        last = found[-1]
        table.add_row(
            part,
            *(f"${line.dollars:,.2f}" if line else "" for line in found),
            last.quantity if last else "",
        )
    return table
