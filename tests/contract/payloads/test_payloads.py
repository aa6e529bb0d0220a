"""Bytes by key, whole or absent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskflow.core.errors import InvalidRequestError, PayloadMissingError
from taskflow.ports.payloads import PayloadStore

ID = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
KEY = f"default/input/{ID}"

NAMES = st.text("ABCabc019_-", min_size=1, max_size=12)
MIDDLE = st.text("ABCabc019_-.", min_size=2, max_size=12).map(lambda name: "k" + name)
KEYS = st.builds(lambda a, b, c: "/".join([a, *b, c]), NAMES, st.lists(MIDDLE, max_size=3), NAMES)


def test_what_was_put_can_be_got(store: PayloadStore) -> None:
    objects = {KEY: b"one", f"default/result/{ID}": b"", "acme/input/x.json": b"\x00\xff\n" * 9}
    store.put(objects)
    assert store.get(list(objects)) == objects


def test_objects_survive_the_store_that_wrote_them(
    open_store: Callable[[], PayloadStore],
) -> None:
    open_store().put({KEY: b"one"})
    assert open_store().get([KEY]) == {KEY: b"one"}


def test_megabytes_come_back_as_they_were(store: PayloadStore) -> None:
    data = bytes(range(256)) * 4 * 4_096
    store.put({KEY: data})
    assert store.get([KEY])[KEY] == data


def test_putting_again_replaces_the_whole_object(store: PayloadStore) -> None:
    store.put({KEY: b"a longer object"})
    store.put({KEY: b"short"})
    assert store.get([KEY]) == {KEY: b"short"}


def test_a_missing_object_is_an_error_that_names_it(store: PayloadStore) -> None:
    store.put({KEY: b"one"})
    with pytest.raises(PayloadMissingError, match="default/input/other"):
        store.get([KEY, "default/input/other"])


def test_a_deleted_object_is_gone_and_deleting_it_again_is_fine(store: PayloadStore) -> None:
    store.put({KEY: b"one", "default/input/other": b"two"})
    store.delete([KEY, "default/input/never"])
    store.delete([KEY])
    with pytest.raises(PayloadMissingError):
        store.get([KEY])
    assert list(store.list()) == ["default/input/other"]


def test_nothing_in_nothing_out(store: PayloadStore) -> None:
    store.put({})
    store.delete([])
    assert store.get([]) == {}
    assert list(store.list()) == []
    assert list(store.list("default/input/")) == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", {"acme/input/aa1", "acme/input/ab2", "acme/result/aa1", "other/input/aa1"}),
        ("acme/", {"acme/input/aa1", "acme/input/ab2", "acme/result/aa1"}),
        ("ac", {"acme/input/aa1", "acme/input/ab2", "acme/result/aa1"}),
        ("acme/input", {"acme/input/aa1", "acme/input/ab2"}),
        ("acme/input/a", {"acme/input/aa1", "acme/input/ab2"}),
        ("acme/input/ab", {"acme/input/ab2"}),
        ("acme/input/ab2", {"acme/input/ab2"}),
        ("acme/input/ab2/", set()),
        ("acme/input/a1/", set()),
        ("nobody/", set()),
        ("/", set()),
    ],
)
def test_listing_finds_the_keys_that_start_with_the_prefix(
    store: PayloadStore, prefix: str, expected: set[str]
) -> None:
    keys = ["acme/input/aa1", "acme/input/ab2", "acme/result/aa1", "other/input/aa1"]
    store.put(dict.fromkeys(keys, b"x"))
    assert sorted(store.list(prefix)) == sorted(expected)


BAD_KEYS = [
    "",
    "/",
    "lonely",
    "/etc/passwd",
    "default/../../etc/passwd",
    "default/input/..",
    "../default/input/x",
    "default//x",
    "default/input/",
    "default/./x",
    "default/.hidden/x",
    "default/input/.tmp-1",
    "default/input/a b",
    "default/input/a\x00b",
    "default/input/a\nb",
    "default/input/a\n",
    "default/input/ä",
    "default/input/a\\b",
    "default\\input/x",
    "C:/input/x",
    "default/in/x",
    "default/input/" + "x" * 201,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_lead_astray_is_refused_and_nothing_is_stored(
    store: PayloadStore, key: str
) -> None:
    for attempt in (
        lambda: store.put({KEY: b"one", key: b"two"}),
        lambda: store.get([key]),
        lambda: store.delete([KEY, key]),
    ):
        with pytest.raises(InvalidRequestError, match="payload key"):
            attempt()
    assert list(store.list()) == []


def test_a_prefix_that_could_lead_astray_is_refused(store: PayloadStore) -> None:
    for prefix in ("../", "default/../../", "default/.tmp/"):
        with pytest.raises(InvalidRequestError, match="payload key"):
            list(store.list(prefix))


def test_the_longest_names_are_possible(store: PayloadStore) -> None:
    key = "/".join(["t" * 200, "k" * 200, "n" * 200])
    store.put({key: b"one"})
    assert store.get([key]) == {key: b"one"}
    assert list(store.list()) == [key]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects=st.dictionaries(KEYS, st.binary(max_size=40), max_size=6))
def test_any_valid_keys_can_live_side_by_side(
    store: PayloadStore, objects: dict[str, bytes]
) -> None:
    store.put(objects)
    assert store.get(list(objects)) == objects
    assert sorted(store.list()) == sorted(objects)
    store.delete(list(objects))
    assert list(store.list()) == []


def test_readers_see_the_old_object_or_the_new_one_while_many_write(store: PayloadStore) -> None:
    versions = [bytes([n]) * (50_000 + n) for n in range(4)]
    store.put({KEY: versions[0]})
    start = threading.Barrier(8)
    finished: list[bytes] = []

    def write(data: bytes) -> None:
        start.wait()
        for _ in range(25):
            store.put({KEY: data})
        finished.append(data)

    def read() -> int:
        start.wait()
        seen = 0
        while len(finished) < len(versions):
            assert store.get([KEY])[KEY] in versions
            seen += 1
        return seen

    with ThreadPoolExecutor(8) as threads:
        writers = [threads.submit(write, data) for data in versions]
        readers = [threads.submit(read) for _ in range(4)]
        for future in writers:
            future.result()
        assert all(future.result() > 0 for future in readers)
    assert list(store.list()) == [KEY]


def test_many_threads_may_begin_with_an_empty_store_at_once(
    open_store: Callable[[], PayloadStore],
) -> None:
    for round_ in range(10):
        start = threading.Barrier(8)

        def write(number: int, start: threading.Barrier = start, round_: int = round_) -> str:
            key = f"tenant{round_}/input/{number}-aa"
            store = open_store()
            start.wait()
            store.put({key: b"x"})
            return key

        with ThreadPoolExecutor(8) as threads:
            keys = list(threads.map(write, range(8)))
        assert sorted(open_store().list(f"tenant{round_}/")) == sorted(keys)
