"""What handlers report while they run, as it is stored."""

from __future__ import annotations

MAX_MESSAGE_CHARS = 500

Progress = tuple[float, str | None]


def checked_progress(percent: float, message: str | None) -> Progress:
    """Raises ValueError unless 0 to 100, with a message of at most `MAX_MESSAGE_CHARS` characters."""
    if not 0 <= percent <= 100:
        raise ValueError(f"progress must be from 0 to 100, not {percent!r}")
    if message is not None:
        if len(message) > MAX_MESSAGE_CHARS:
            raise ValueError(
                f"a progress message has at most {MAX_MESSAGE_CHARS} characters, not {len(message)}"
            )
        message = message.replace("\x00", "␀").encode("utf-8", "replace").decode()
    return float(percent), message
