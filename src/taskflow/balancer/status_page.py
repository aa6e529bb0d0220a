"""How it stands: one object for programs, one page for people."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from taskflow import __version__
from taskflow.balancer.metrics import InstanceCounts

if TYPE_CHECKING:
    from taskflow.balancer.balancer import Balancer

_COLUMNS = ("instance", "state", "active", "idle", "requests", "errors", "mean ms", "reason")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1a1f27;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #d8dee6}
td.number{text-align:right;font-variant-numeric:tabular-nums}.up,.unchecked{color:#0a6b3b}.down{color:#b3261e}
.draining{color:#7a5200}@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14171c}
th,td{border-color:#333a45}.up,.unchecked{color:#5dd39e}.down{color:#ff8a80}.draining{color:#ffca6e}}
"""


def status(shared: Balancer) -> dict[str, Any]:
    instances = []
    for one in shared.instances:
        counts = shared.metrics.by_instance.get(one.name) or InstanceCounts()
        total = sum(counts.by_status.values())
        instances.append(
            {
                "instance": one.name,
                "state": "draining" if one.drain_asked else one.state,
                "available": one.available,
                "reason": "an operator asked" if one.drain_asked else one.reason,
                "weight": round(shared.instances.weight(one), 3),
                "active": one.active,
                "connections": one.connections,
                "idle_connections": len(one.idle),
                "requests_total": total,
                "errors_total": sum(n for code, n in counts.by_status.items() if code >= 500),
                "mean_duration_ms": round(counts.seconds / total * 1_000, 3) if total else None,
            }
        )
    return {
        "status": "draining" if shared.is_draining else "running",
        "version": __version__,
        "strategy": shared.options.strategy,
        "connections": len(shared.clients),
        "connections_accepted_total": shared.clients.accepted_total,
        "retries_total": sum(shared.metrics.retries.values()),
        "refused_total": sum(shared.metrics.refusals.values()),
        "instances": instances,
    }


def status_html(shared: Balancer) -> str:
    now = status(shared)
    rows = "".join(_row(one) for one in now["instances"])
    heads = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TaskFlow balancer</title>'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="2">'
        f"<style>{_STYLE}</style></head><body><h1>TaskFlow balancer</h1>"
        f"<p>{escape(now['status'])}, {escape(now['strategy'].replace('_', ' '))}, "
        f"{now['connections']} connections, {now['retries_total']} retries, {now['refused_total']} refused. "
        f"Version {escape(now['version'])}.</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></body></html>"
    )


def _row(one: dict[str, Any]) -> str:
    mean = one["mean_duration_ms"]
    numbers = (
        one["active"], one["idle_connections"], one["requests_total"], one["errors_total"],
        "" if mean is None else f"{mean:.1f}",
    )  # fmt: skip
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    return (
        f'<tr><th scope="row">{escape(one["instance"])}</th><td class="{one["state"]}">{one["state"]}</td>'
        f"{cells}<td>{escape(one['reason'])}</td></tr>"
    )
