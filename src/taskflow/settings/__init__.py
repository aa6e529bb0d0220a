"""Every setting, its unit, default and limits. The only reader of the environment (prefix ``TASKFLOW_``).

`.env.example` lists the same settings; a test compares both.
"""

from __future__ import annotations

from taskflow.settings.loading import environment, load
from taskflow.settings.process import Settings

__all__ = ["Settings", "environment", "load"]
