"""`echo`: gives back what it was given."""

from __future__ import annotations

from pydantic import JsonValue


def echo(*echoed: JsonValue, **fields: JsonValue) -> JsonValue:
    """Return the arguments: by name as an object, one by position as it is, several as a list.

    Given both ways: ``{"args": […], "kwargs": {…}}``.
    """
    if fields:
        return {"args": list(echoed), "kwargs": fields} if echoed else fields
    return echoed[0] if len(echoed) == 1 else list(echoed)
