"""What handlers return, as it is stored."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from taskflow.core import jsontext
from taskflow.core.errors import InvalidJSONError, InvalidResultError


def result_text(value: Any) -> str:
    """JSON text of ``value``, which may be a Pydantic model. Raises InvalidResultError."""
    try:
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        return jsontext.checked_dumps(value)
    except InvalidJSONError as exc:
        raise InvalidResultError(f"the result: {exc.detail}") from None
    except Exception as exc:  # a model's own serializers may raise anything
        raise InvalidResultError(f"the result cannot be turned into JSON: {exc}") from exc
