"""What payloads in files promise beyond the contract of the port."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from taskflow.adapters.payloads.files import FilePayloads
from taskflow.core.errors import (
    PayloadCorruptError,
    PayloadMissingError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from taskflow.core.ids import UUID7
from tests.unit.payloads import payload_writer

ID = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
KEY = f"default/input/{ID}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "payloads"


@pytest.fixture
def store(root: Path) -> FilePayloads:
    return FilePayloads(root)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


class TestPlaces:
    @pytest.mark.parametrize(
        ("key", "path"),
        [
            (KEY, f"default/input/11/{ID}"),
            (f"acme/artifacts/{ID}.json.gz", f"acme/artifacts/11/{ID}.json.gz"),
            (f"acme/artifacts/{ID}/report.pdf", f"acme/artifacts/{ID}/rt/report.pdf"),
            ("default/x", "default/x/x"),
        ],
    )
    def test_the_directory_is_the_end_of_the_name_before_its_first_dot(
        self, store: FilePayloads, root: Path, key: str, path: str
    ) -> None:
        store.put({key: b"x"})
        assert files(root) == [path]

    def test_ids_made_within_a_second_spread_evenly_over_the_directories(
        self, store: FilePayloads, root: Path
    ) -> None:
        ticks = count(1_760_000_000_000)
        new_id = UUID7(lambda: next(ticks), random.Random(7).randbytes)
        store.put({f"default/input/{new_id()}": b"" for _ in range(600)})
        spread = Counter(path.split("/")[2] for path in files(root))
        assert len(spread) > 200
        assert max(spread.values()) < 15

    def test_strange_files_are_not_listed_and_do_no_harm(
        self, store: FilePayloads, root: Path
    ) -> None:
        store.put({KEY: b"x"})
        for stray in ("README", "default/README", "default/input/zz/abc", "default/input/11/.hid"):
            (root / stray).parent.mkdir(exist_ok=True)
            (root / stray).write_text("not ours")
        (root / "link").symlink_to(root)
        assert list(store.list()) == [KEY]

    def test_a_file_in_the_way_of_a_directory_means_missing_or_unavailable(
        self, store: FilePayloads, root: Path
    ) -> None:
        root.mkdir()
        (root / "default").write_text("not ours")
        with pytest.raises(PayloadMissingError):
            store.get([KEY])
        store.delete([KEY])
        assert list(store.list("default/")) == []
        with pytest.raises(StoreUnavailableError, match="payloads"):
            store.put({KEY: b"x"})


class TestDamage:
    @pytest.fixture
    def path(self, store: FilePayloads, root: Path) -> Path:
        store.put({KEY: b'{"a": 1}'})
        return root / files(root)[0]

    def test_the_file_can_be_read_by_people(self, path: Path) -> None:
        header, body = path.read_text().split("\n")
        assert header.startswith("taskflow-payload 1 sha256=")
        assert body == '{"a": 1}'

    def test_any_changed_byte_is_noticed(self, store: FilePayloads, path: Path) -> None:
        content = path.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(PayloadCorruptError, match=KEY):
                store.get([KEY])

    def test_any_truncation_is_noticed(self, store: FilePayloads, path: Path) -> None:
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(PayloadCorruptError, match=KEY):
                store.get([KEY])

    def test_anything_appended_is_noticed(self, store: FilePayloads, path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"\n")
        with pytest.raises(PayloadCorruptError, match="9 bytes instead of 8"):
            store.get([KEY])

    def test_a_corrupt_object_can_be_replaced(self, store: FilePayloads, path: Path) -> None:
        path.write_bytes(b"")
        store.put({KEY: b"new"})
        assert store.get([KEY]) == {KEY: b"new"}


FAULTS = [
    (errno.ENOSPC, StoreFullError),
    (errno.EDQUOT, StoreFullError),
    (errno.EROFS, StoreReadOnlyError),
    (errno.EACCES, StoreReadOnlyError),
    (errno.EPERM, StoreReadOnlyError),
    (errno.EIO, StoreUnavailableError),
]


class TestFaults:
    """The operating system refuses: the object that was there stays, and nothing is left lying about."""

    @pytest.mark.parametrize(("code", "error"), FAULTS)
    @pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
    def test_a_write_that_fails_changes_nothing_and_says_why(
        self,
        store: FilePayloads,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: str,
        code: int,
        error: type[Exception],
    ) -> None:
        store.put({KEY: b"old"})
        before = files(root)

        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            if call in ("replace", "open"):
                patch.setattr(Path, call, fail)
            else:
                patch.setattr(os, call, fail)
            with pytest.raises(error) as raised:
                store.put({KEY: b"new", "default/input/other": b"new"})
        assert type(raised.value) is error
        assert os.strerror(code) in str(raised.value)
        assert store.get([KEY]) == {KEY: b"old"}
        assert files(root) == before

    def test_a_write_the_system_does_in_pieces_is_whole(
        self, store: FilePayloads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
        store.put({KEY: b"0123456789" * 10})
        assert store.get([KEY]) == {KEY: b"0123456789" * 10}

    def test_reading_what_may_not_be_read_is_not_taken_for_missing(
        self, store: FilePayloads, root: Path
    ) -> None:
        (root / "default" / "input" / "11" / ID).mkdir(parents=True)
        with pytest.raises(StoreUnavailableError, match="cannot be read"):
            store.get([KEY])

    def test_deleting_what_may_not_be_deleted_says_so(
        self, store: FilePayloads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.put({KEY: b"x"})

        def fail(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "immutable")

        monkeypatch.setattr(Path, "unlink", fail)
        with pytest.raises(StoreReadOnlyError, match="immutable"):
            store.delete([KEY])

    def test_new_files_and_their_directories_are_flushed_to_the_disk(
        self, store: FilePayloads, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flushed: list[str] = []
        fsync = os.fsync

        def note(descriptor: int) -> None:
            flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", note)
        store.put({KEY: b"x"})
        target = root / "default" / "input" / "11"
        parents = [root.parent, root, root / "default", root / "default" / "input"]
        assert flushed[:4] == [str(parent) for parent in parents]
        assert Path(flushed[4]).parent == target
        assert flushed[5:] == [str(target)]


class TestTemporaries:
    def test_only_temporary_files_older_than_an_hour_are_removed(
        self, store: FilePayloads, root: Path
    ) -> None:
        store.put({KEY: b"x"})
        shard = root / "default" / "input" / "11"
        old, young = shard / ".tmp-0123456789abcdef", root / ".tmp-fedcba9876543210"
        for path in (old, young):
            path.write_bytes(b"half")
        now = young.stat().st_mtime
        os.utime(old, (now - 3_700, now - 3_700))
        os.utime(young, (now - 3_500, now - 3_500))
        os.utime(shard / ID, (now - 9_999, now - 9_999))
        assert list(store.list()) == [KEY]
        assert store.unfinished() == [str(old)]
        assert old.exists()
        assert store.unfinished(remove=True) == [str(old)]
        assert files(root) == [".tmp-fedcba9876543210", f"default/input/11/{ID}"]

    def test_in_a_store_that_is_not_there_is_nothing_to_remove(
        self, store: FilePayloads, root: Path
    ) -> None:
        assert store.unfinished(remove=True) == []
        assert not root.exists()


def writer(root: Path, key: str, *, size: int, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, payload_writer.__file__, str(root), key, str(size), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class TestProcesses:
    def test_processes_that_write_one_object_at_once_never_mix_it(
        self, store: FilePayloads, root: Path
    ) -> None:
        """Each process reads back after every write, and gives up when it sees anything but a whole object."""
        processes = [writer(root, KEY, size=60_000, seed=seed) for seed in (0, 60, 120)]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.read(40) == b"w" * 40
            assert all(process.poll() is None for process in processes)
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        assert store.get([KEY])

    def test_a_writer_killed_at_any_moment_leaves_a_whole_object_or_none(
        self, store: FilePayloads, root: Path
    ) -> None:
        """`kill -9`, 40 times, at random moments of writes of half a mebibyte."""
        rng = random.Random(2026)
        size, left_behind = 512 * 1024, 0
        for round_ in range(40):
            key = f"default/input/{round_ % 3}-{ID}"
            process = writer(root, key, size=size, seed=rng.randrange(200))
            assert process.stdout is not None
            process.stdout.read(rng.randrange(1, 4))
            for _ in range(rng.randrange(2_000)):
                pass  # some part of a write
            process.kill()
            process.communicate()
            for listed in store.list():
                data = store.get([listed])[listed]
                assert data == data[:1] * (size + data[0])
            left_behind += sum(".tmp-" in name for name in files(root))
        assert left_behind > 0, "no write was ever interrupted: the test shows nothing"


def test_reading_takes_no_more_memory_than_what_is_read(store: FilePayloads) -> None:
    size = 8 * 2**20
    store.put({KEY: b"x" * size})
    tracemalloc.start()
    try:
        assert len(store.get([KEY])[KEY]) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * size
