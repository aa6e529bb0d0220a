"""The file that names instances: ``instances = ["http://10.0.0.5:8001", …]`` in TOML. Read again on SIGHUP."""

from __future__ import annotations

import tomllib
from pathlib import Path

from taskflow.balancer.address import parse_address
from taskflow.core.errors import ConfigurationError


def read_config(path: Path) -> tuple[str, ...]:
    """The instances. Raises ConfigurationError naming the file and what is wrong with it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{path}: {exc.strerror} (TASKFLOW_BALANCER_CONFIG_FILE)") from exc
    except ValueError as exc:
        raise ConfigurationError(f"{path} is not TOML: {exc}") from exc
    unknown = sorted(set(found) - {"instances"})
    if unknown:
        raise ConfigurationError(f"{path}: unknown: {', '.join(unknown)}; known: instances")
    instances = found.get("instances", [])
    if not isinstance(instances, list) or not all(isinstance(url, str) for url in instances):
        raise ConfigurationError(f"{path}: instances is not a list of addresses")
    for url in instances:
        try:
            parse_address(url)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{path}: {exc.detail}") from None
    return tuple(instances)
