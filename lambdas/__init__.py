"""Entry points of the Lambda functions; what they do is in `taskflow.serverless`. See docs/lambda.md."""

from __future__ import annotations

import gc
from typing import TypeVar

Handler = TypeVar("Handler")

# Until the handler is made: a start leaves no garbage, and looking for it again and again takes a tenth of the time.
gc.disable()


def started(handler: Handler) -> Handler:
    """Collects garbage from here on, without looking through what the start has left: it stays."""
    gc.freeze()
    gc.enable()
    return handler
