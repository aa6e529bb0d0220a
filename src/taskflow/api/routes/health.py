"""For balancers and orchestrators."""

from __future__ import annotations

from fastapi import APIRouter

from taskflow import __version__
from taskflow.api.dependencies import Instance, ThisInstance
from taskflow.api.errors import NotReadyError
from taskflow.api.openapi import problems
from taskflow.api.views import Health, Readiness
from taskflow.core.errors import TaskFlowError

router = APIRouter(prefix="/health", tags=["Operation"])


@router.get("", responses=problems(503))
async def health(instance: ThisInstance) -> Health:
    """What balancers ping: may this instance get requests? It asks no other system, so that one sick store does not
    make every instance disappear. 503 while it stops."""
    _refuse_when_draining(instance)
    return Health(status="ok", version=__version__)


@router.get("/live")
async def live() -> Health:
    """Is the process able to answer? If not, restart it."""
    return Health(status="ok", version=__version__)


@router.get("/ready", responses=problems(503))
def ready(instance: ThisInstance) -> Readiness:
    """Can it do its work: store, queue, and its own worker, if it has one. Names each that cannot."""
    _refuse_when_draining(instance)
    checks = {"store": _store(instance), "queue": _queue(instance), "workers": _workers(instance)}
    failed = [
        {"field": name, "message": found}
        for name, found in checks.items()
        if not found.startswith("ok")
    ]
    if failed:
        detail = "; ".join(f"{check['field']}: {check['message']}" for check in failed)
        raise NotReadyError(detail, fields=failed)
    return Readiness(status="ok", version=__version__, checks=checks)


def _refuse_when_draining(instance: Instance) -> None:
    if instance.draining.is_set():
        raise NotReadyError("draining: this instance is about to stop")


def _store(instance: Instance) -> str:
    try:
        instance.runtime.stores.maintenance.ping()
    except TaskFlowError as exc:
        return exc.detail
    return "ok"


def _queue(instance: Instance) -> str:
    try:
        depths = instance.runtime.queue.depths()
    except TaskFlowError as exc:
        return exc.detail
    return f"ok, {sum(depth.ready for depth in depths.values())} ready"


def _workers(instance: Instance) -> str:
    """An instance without a worker is ready without one: what it accepts is kept until somebody works."""
    runtime = instance.runtime
    try:
        records = runtime.insights.workers()
    except TaskFlowError as exc:
        return exc.detail
    oldest = runtime.clock.now_us() - int(runtime.settings.lease_seconds * 1_000_000)
    alive = {record.worker_id for record in records if record.seen_at >= oldest}
    if instance.worker is None:
        return f"ok, {len(alive)} alive"
    if runtime.worker_id not in alive:
        return "the worker of this process has given no sign of life within its lease"
    state = instance.worker.snapshot()
    return f"ok, {len(alive)} alive, {state['busy']} of {state['total']} busy here"
