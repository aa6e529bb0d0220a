"""Estimates of what a profile costs, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from cdk.profiles import Profile
from deployment.costs import RATES, Estimate, assumptions, estimate
from deployment.template import Template


def estimates(profile: Profile) -> list[Estimate]:
    """At each rate. Alarms are paid for by the series that those of the template watch."""
    alarms = Template.of(profile).alarm_metrics
    return [estimate(profile, tasks_per_second=rate, alarms=alarms) for rate in RATES]


def cost_json(found: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "estimates": [{**asdict(one), "dollars": round(one.dollars, 2)} for one in found],
        "assumptions": assumptions(),
    }


def cost_table(found: Sequence[Estimate]) -> Table:
    """A row per part, a column per rate."""
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=True)
    table.add_column("PART", footer="a month", overflow="fold")
    for one in found:
        name = "IDLE" if one.tasks_per_second == 0 else f"{one.tasks_per_second:,.0f}/s"
        table.add_column(
            name, justify="right", footer=Text(f"${one.dollars:,.0f}", style="bold"), no_wrap=True
        )
    table.add_column("AT THE HIGHEST RATE", style="dim", overflow="fold")
    parts = list(dict.fromkeys(line.item for one in found for line in one.lines))
    for part in parts:
        lines = [next((line for line in one.lines if line.item == part), None) for one in found]
        last = lines[-1]
        table.add_row(
            part,
            *(f"${line.dollars:,.2f}" if line else "" for line in lines),
            last.quantity if last else "",
        )
    return table
