"""For testing programs that use TaskFlow.

    with eager() as app:                      # no threads: submitting runs the handler at once, here
        handle = send_email.submit(to="a@example.com")
        assert handle.result() == "sent"

    pytest_plugins = ["taskflow.testing.plugin"]      # fixtures `taskflow_eager` and `taskflow_app`

`FakeClock` is a clock that only the test moves: `TaskFlow(clock=FakeClock())`.
"""

from taskflow.testing.clock import FakeClock
from taskflow.testing.eager import EagerTaskFlow, eager

__all__ = ["EagerTaskFlow", "FakeClock", "eager"]
