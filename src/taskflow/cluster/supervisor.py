"""Starts the processes in order, restarts those that die, and stops them in order."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from taskflow.cluster.child import Child, how_it_ended
from taskflow.cluster.process import Group, ProcessSpec
from taskflow.cluster.screen import Screen

# Of one group: a worker imports much, and the machine may have much else to do.
START_SECONDS = 120.0
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0
_STEADY_SECONDS = 30.0  # after so long a life the next restart comes quickly again
_HURRY_SECONDS = 3.0  # from the second Ctrl-C to SIGKILL: workers give back what they run
_LOOK_SECONDS = 0.05  # between two looks at whether something is ready
_TAIL_LINES = 20


class _Member:
    """A specification and the process that runs it now, if any."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.child: Child | None = None
        self.started_at = 0.0
        self.restart_at: float | None = None
        self.is_ready = False
        self.was_ready = False
        self.backoff_seconds = _FIRST_BACKOFF_SECONDS

    def answers(self) -> bool:
        return self.spec.is_ready is not None and self.spec.is_ready()


class Supervisor:
    """``environment`` is that of every process, before what its specification adds; ``inherited``: see `Child`."""

    def __init__(
        self,
        groups: Sequence[Group],
        screen: Screen,
        *,
        environment: Mapping[str, str],
        inherited: tuple[int, ...],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._groups = [[_Member(spec) for spec in group] for group in groups]
        self._members = {member.spec.name: member for group in self._groups for member in group}
        self._screen = screen
        self._environment = environment
        self._inherited = inherited
        self._monotonic = monotonic
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._asked = 0  # how often to stop
        self._has_failed = False

    def run(self, on_started: Callable[[], None]) -> int:
        """Until a signal, or until something fails at the start; the exit code. Nothing runs any more afterwards."""
        with self._handling_signals():
            try:
                if self._start():
                    on_started()
                while not self._stopping:
                    self._turn()
            finally:
                is_clean = self._stop()
        return 0 if is_clean and not self._has_failed else 1

    def request_stop(self) -> None:
        """From any thread or signal handler; the second time it hurries, the third time it kills."""
        self._events.put(self._count)

    @property
    def _stopping(self) -> bool:
        return self._asked > 0 or self._has_failed

    def _count(self) -> None:
        self._asked += 1

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def ask(_number: int, _frame: Any) -> None:
            self.request_stop()

        signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else it was started by nohup
            signals.append(signal.SIGHUP)
        former = {number: signal.signal(number, ask) for number in signals}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _start(self) -> bool:
        """Whether all of it is ready."""
        for group in self._groups:
            for member in group:
                self._spawn(member)
            deadline = self._monotonic() + START_SECONDS
            while not all(member.is_ready for member in group):
                self._turn()
                if self._stopping:
                    return False
                if self._monotonic() > deadline:
                    late = ", ".join(m.spec.name for m in group if not m.is_ready)
                    self._fail(f"not ready after {START_SECONDS:.0f} s: {late}")
                    return False
        return True

    def _turn(self) -> None:
        """Wait for news, then see what has become ready and what is due to be restarted."""
        waits = any(not member.is_ready for member in self._members.values())
        self._take_event(_LOOK_SECONDS if waits else None)
        for member in self._members.values():
            if self._stopping:
                return
            if member.restart_at is not None and self._monotonic() >= member.restart_at:
                self._spawn(member)
            elif member.child is not None and not member.is_ready and member.answers():
                self._is_ready(member)

    def _take_event(self, timeout_seconds: float | None) -> None:
        try:
            self._events.get(timeout=timeout_seconds)()
        except queue.Empty:
            pass

    def _spawn(self, member: _Member) -> None:
        member.restart_at = None
        member.is_ready = False
        member.started_at = self._monotonic()
        member.child = Child(
            member.spec,
            environment=self._environment,
            inherited=self._inherited,
            on_line=self._screen.line,
            on_exit=lambda code: self._events.put(lambda: self._ended(member, code)),
        )

    def _is_ready(self, member: _Member) -> None:
        member.is_ready = True
        if member.was_ready and member.child is not None:
            self._screen.say(f"{member.spec.name} is back (process {member.child.pid})")
            for name in member.spec.repeats:
                self._spawn(self._members[name])
        member.was_ready = True

    def _ended(self, member: _Member, code: int) -> None:
        member.child = None
        spec = member.spec
        if self._stopping:
            return
        if spec.is_ready is None and code == 0:
            member.is_ready = member.was_ready = True
            return
        if not member.was_ready:
            self._fail(f"{spec.name} ended while it started: {how_it_ended(code)}{_tail(spec)}")
            return
        now = self._monotonic()
        if now - member.started_at > _STEADY_SECONDS:
            member.backoff_seconds = _FIRST_BACKOFF_SECONDS
        self._screen.say(
            f"{spec.name} has died: {how_it_ended(code)}; "
            f"it is started again in {member.backoff_seconds:g} s",
            level="warning",
        )
        member.is_ready = False
        member.restart_at = now + member.backoff_seconds
        member.backoff_seconds = min(2 * member.backoff_seconds, _LONGEST_BACKOFF_SECONDS)

    def _fail(self, why: str) -> None:
        self._has_failed = True
        self._screen.say(why, level="error")

    def _stop(self) -> bool:
        """One group after the other, the last first. Whether all had the time they wanted."""
        if self._asked:
            self._screen.say("stopping: what runs may finish; Ctrl-C again stops at once")
        is_clean = True
        for group in reversed(self._groups):
            is_clean &= self._stop_group([member for member in group if member.child is not None])
        return is_clean

    def _stop_group(self, members: list[_Member]) -> bool:
        began, asked = self._monotonic(), self._asked
        for member in members:
            self._signal(member, member.spec.stop_signal)
        is_clean = self._asked < 2
        patience = max((member.spec.stop_seconds for member in members), default=0.0)
        deadline = began + (patience if is_clean else _HURRY_SECONDS)
        is_killed = False
        while live := [member for member in members if member.child is not None]:
            if self._asked > asked:
                asked = self._asked
                is_clean = False
                deadline = self._monotonic() + (_HURRY_SECONDS if asked == 2 else 0.0)
                for member in live:
                    self._signal(member, signal.SIGTERM)
            left = deadline - self._monotonic()
            if left <= 0 and not is_killed:
                is_killed, is_clean = True, False
                names = ", ".join(member.spec.name for member in live)
                self._screen.say(f"killed, not gone in time: {names}", level="warning")
                for member in live:
                    if member.child is not None:
                        member.child.kill()
            self._take_event(None if is_killed else max(left, 0.0))
        return is_clean

    @staticmethod
    def _signal(member: _Member, number: signal.Signals) -> None:
        if member.child is not None:
            member.child.signal(number)


def _tail(spec: ProcessSpec) -> str:
    """The last lines of what it wrote into its file; others' are on the screen already."""
    if spec.log_file is None:
        return ""
    lines = spec.log_file.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "".join(f"\n{line}" for line in lines)
