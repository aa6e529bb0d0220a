"""What tasks there are."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from taskflow.api.dependencies import RuntimeParts
from taskflow.api.routes import PREFIX
from taskflow.api.views import HandlerView, Page, page_response

router = APIRouter(prefix=PREFIX, tags=["Tasks"])


@router.get("/handlers", response_model=Page[HandlerView])
async def list_handlers(runtime: RuntimeParts) -> Response:
    """Registered handlers, by name, with the JSON Schema of their arguments."""
    return page_response([HandlerView.of(handler) for handler in runtime.registry.handlers()], None)
