"""Settings out of arguments, environment and `.env`, with errors that name the variable."""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError

from taskflow.core.errors import ConfigurationError
from taskflow.settings.process import Settings


def environment() -> dict[str, str]:
    """A copy of this process's environment: for processes it starts, and for variables that are AWS's."""
    return dict(os.environ)


def load(**values: Any) -> Settings:
    """Settings from arguments, environment and `.env`. Raises ConfigurationError naming each wrong variable."""
    try:
        return Settings(**values)
    except ValidationError as exc:
        fields = [
            {
                "field": f"TASKFLOW_{str(error['loc'][0]).upper()}" if error["loc"] else "",
                "message": error["msg"],
            }
            for error in exc.errors(include_url=False, include_input=False)
        ]
        summary = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        raise ConfigurationError(f"settings: {summary}", fields=fields) from None
