"""The factory: builds everything from settings. The only package that names adapters.

Imports are local, so that one backend never pays for another.
"""

from taskflow.bootstrap.payloads import build_payload_store, provision_bucket
from taskflow.bootstrap.queues import build_event_queue, build_queue, provision_queues
from taskflow.bootstrap.runtime import Runtime, build
from taskflow.bootstrap.stores import Stores, build_database, build_stores, migrate_store
from taskflow.bootstrap.task_modules import import_tasks
from taskflow.bootstrap.world import build_clock, build_protection

__all__ = [
    "Runtime",
    "Stores",
    "build",
    "build_clock",
    "build_database",
    "build_event_queue",
    "build_payload_store",
    "build_protection",
    "build_queue",
    "build_stores",
    "import_tasks",
    "migrate_store",
    "provision_bucket",
    "provision_queues",
]
