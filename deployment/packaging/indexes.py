"""Where uv finds packages when only pip has been told: a company's index is in pip's configuration more often."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

_TOLD = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_LINE = re.compile(r"^(?P<section>[^.]*)\.(?P<name>[a-z-]+)='(?P<value>.*)'$", re.MULTILINE)
_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def uv_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``environment`` for uv, with pip's indexes unless uv has been told of its own."""
    if any(name in environment for name in (*_TOLD, "UV_NO_CONFIG", "UV_CONFIG_FILE")):
        return dict(environment)
    told = _pip_configuration(environment)
    found = {_NAMES[name]: value for name, value in told.items() if name in _NAMES}
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's way: the best of all indexes
    return found | dict(environment)


def _pip_configuration(environment: Mapping[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(  # noqa: S603 - this Python
        command, env=dict(environment), capture_output=True, text=True, check=False
    )
    # A later section wins: pip lists the files from general to special, and the environment last.
    rows = [match for match in _LINE.finditer(done.stdout) if match["section"] != "install"]
    rows.sort(key=lambda match: match["section"] == ":env:")
    return {match["name"]: " ".join(match["value"].split("\\n")) for match in rows}
