"""UUIDv7: sorted by creation, whatever the clock does."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.ids import UUID7, is_uuid


@given(clock=st.lists(st.integers(0, 2**47), min_size=1, max_size=50))
def test_ids_grow_and_are_valid_whatever_the_clock_says(clock: list[int]) -> None:
    moments = iter(clock)
    new_id = UUID7(lambda: next(moments))
    ids = [new_id() for _ in clock]
    assert ids == sorted(set(ids))
    for text in ids:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == text
        assert is_uuid(text)


def test_an_id_begins_with_its_milliseconds() -> None:
    [text] = [UUID7(lambda: 0x0199A3C15E2F)()]
    assert text.startswith("0199a3c1-5e2f-7000-")


def test_more_than_4096_ids_in_a_millisecond_run_ahead_of_the_clock() -> None:
    new_id = UUID7(lambda: 1_760_000_000_000)
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert int(ids[-1].replace("-", "")[:12], 16) - 1_760_000_000_000 == 2


def test_the_tail_is_random() -> None:
    new_id = UUID7(lambda: 0)
    assert len({new_id()[-12:] for _ in range(2_000)}) == 2_000
    assert len({UUID7(lambda: 0)()[-12:] for _ in range(100)}) == 100


def test_threads_never_get_the_same_id() -> None:
    new_id = UUID7(lambda: 1_760_000_000_000)
    start = threading.Barrier(8)
    found: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        start.wait()
        into.extend(new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({text for into in found for text in into}) == 16_000
    assert all(into == sorted(into) for into in found)


FORK = """
import os
from taskflow.core.ids import UUID7
new_id = UUID7(lambda: 1_760_000_000_000)
new_id()
new_id._lock.acquire()  # as if another thread were making an id just now
child = os.fork()
if not child:
    print(new_id(), flush=True)
    os._exit(0)
new_id._lock.release()
os.waitpid(child, 0)
print(new_id())
"""


def test_a_fork_makes_other_ids_than_its_parent() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=True
    )
    childs, parents = answer.stdout.split()
    assert childs != parents
    assert is_uuid(childs)


def test_only_the_usual_spelling_is_an_id() -> None:
    text = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
    assert is_uuid(text)
    for other in (text.upper(), text.replace("-", ""), f"{{{text}}}", text + "\n", "", text[:-1]):
        assert not is_uuid(other)
