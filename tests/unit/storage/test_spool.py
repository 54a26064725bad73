"""The spool of a worker: durable before it says so, bounded, relayed in order, adopted when its worker is no more."""

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.event_log import LogUnavailableError
from storage.spool import Spool, SpoolFullError
from storage.spool_file import frame_bytes

MAX_BYTES = 1 << 20


class Spools:
    """Workers of one folder. Names of files sort by their time, so no two are made at the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seconds = itertools.count(1_000)
        self._all: list[Spool] = []

    def new(self, max_bytes: int = MAX_BYTES) -> Spool:
        self._all.append(Spool(self.folder, max_bytes, lambda: float(next(self._seconds))))
        return self._all[-1]

    def close(self) -> None:
        for spool in self._all:
            spool.close()

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[Spools]:
    spools = Spools(tmp_path / "spool")
    yield spools
    spools.close()


def put(spool: Spool, *values: bytes) -> None:
    for value in values:
        spool.append("feedback", value).result(timeout=60)


def relay(spool: Spool, max_bytes: int = MAX_BYTES) -> list[bytes]:
    """All that waits, as it is relayed."""
    values: list[bytes] = []
    while frames := spool.read(max_bytes):
        values += [frame.value for frame in frames]
        spool.relayed(frames[-1])
    return values


@pytest.mark.parametrize("max_bytes", [1, 40, MAX_BYTES])
def test_what_was_appended_is_relayed_in_order_and_its_file_is_empty_then(spools: Spools, max_bytes: int) -> None:
    spool = spools.new()
    values = [b"[%d]" % n for n in range(20)]
    put(spool, *values)
    assert spool.num_bytes == sum(map(frame_bytes, values))
    assert relay(spool, max_bytes) == values
    assert (spool.num_bytes, [path.stat().st_size for path in spools.files()]) == (0, [0])
    put(spool, b"[21]")
    assert relay(spool) == [b"[21]"]


def test_it_reads_the_same_until_it_is_told_that_it_was_relayed(spools: Spools) -> None:
    spool = spools.new()
    put(spool, b"[1]", b"[2]", b"[3]")
    frames = spool.read(MAX_BYTES)
    assert spool.read(MAX_BYTES) == frames
    spool.relayed(frames[1])
    assert [frame.value for frame in spool.read(MAX_BYTES)] == [b"[3]"]


def test_all_that_waits_is_written_with_one_sync_and_none_is_acknowledged_before(
    spools: Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spools.new()
    put(spool, b"[0]")
    fsync, entered, go_on = os.fsync, threading.Semaphore(0), threading.Semaphore(0)

    def held(descriptor: int) -> None:
        entered.release()
        assert go_on.acquire(timeout=60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", held)
    first = spool.append("feedback", b"[1]")
    assert entered.acquire(timeout=60)
    others = [spool.append("feedback", b"[%d]" % n) for n in range(2, 50)]
    assert not first.done()
    go_on.release()
    first.result(timeout=60)
    assert entered.acquire(timeout=60)
    assert not any(future.done() for future in others)
    go_on.release()
    for future in others:
        future.result(timeout=60)
    assert relay(spool) == [b"[%d]" % n for n in range(50)]


def test_past_its_bound_it_refuses_at_once_and_has_room_when_all_was_relayed(spools: Spools) -> None:
    value = b"[" + b"1" * 300_000 + b"]"
    spool = spools.new()
    put(spool, value, value, value)
    with pytest.raises(SpoolFullError, match=r"900,0\d\d of 1,048,576 bytes"):
        put(spool, value)
    put(spool, b"[2]")
    assert relay(spool) == [value] * 3 + [b"[2]"]
    put(spool, value)


def test_when_the_disk_fails_the_append_fails_and_later_ones_are_kept(
    spools: Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = spools.new()
    put(spool, b"[1]")
    num_bytes = spool.num_bytes
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(LogUnavailableError, match="No space left"):
            put(spool, b"[2]")
    assert spool.num_bytes == num_bytes
    put(spool, b"[3]")
    assert relay(spool) == [b"[1]", b"[3]"]


def test_where_no_folder_can_be_made_appends_fail_and_nothing_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    spool = Spool(tmp_path / "file" / "spool", MAX_BYTES, time.time)
    with pytest.raises(LogUnavailableError, match="cannot be written"):
        put(spool, b"[1]")
    spool.adopt()
    assert (spool.read(MAX_BYTES), spool.num_bytes) == ([], 0)
    spool.close()


def test_one_whose_caller_gave_up_is_not_written(spools: Spools, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spools.new()
    put(spool, b"[0]")
    fsync, entered, go_on = os.fsync, threading.Event(), threading.Event()

    def held(descriptor: int) -> None:
        entered.set()
        assert go_on.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", held)
    first = spool.append("feedback", b"[1]")
    assert entered.wait(60)
    gone, stays = spool.append("feedback", b"[2]"), spool.append("feedback", b"[3]")
    assert gone.cancel()
    go_on.set()
    first.result(timeout=60)
    stays.result(timeout=60)
    assert relay(spool) == [b"[0]", b"[1]", b"[3]"]
    assert spool.num_bytes == 0


def test_what_a_worker_left_is_adopted_relayed_first_and_removed(spools: Spools) -> None:
    left, late = spools.new(), spools.new()
    put(left, b"[1]", b"[2]")
    put(late, b"[3]")
    left.close()
    late.close()
    spool = spools.new()
    put(spool, b"[4]")
    spool.adopt()
    assert relay(spool) == [b"[1]", b"[2]", b"[3]", b"[4]"]
    assert [path.stat().st_size for path in spools.files()] == [0]


def test_what_is_adopted_counts_towards_the_bound(spools: Spools) -> None:
    left = spools.new()
    put(left, b"[" + b"1" * 900_000 + b"]")
    left.close()
    spool = spools.new()
    spool.adopt()
    with pytest.raises(SpoolFullError):
        put(spool, b"[" + b"2" * 200_000 + b"]")
    relay(spool)
    put(spool, b"[" + b"2" * 200_000 + b"]")


def test_workers_of_one_folder_neither_share_nor_adopt_what_is_held(spools: Spools) -> None:
    one, other = spools.new(), spools.new()
    put(one, b"[1]")
    put(other, b"[2]")
    one.adopt()
    other.adopt()
    other.adopt()
    assert (relay(other), relay(one)) == ([b"[2]"], [b"[1]"])
    assert len(spools.files()) == 2


def test_a_worker_that_leaves_nothing_leaves_no_file(spools: Spools) -> None:
    spool = spools.new()
    put(spool, b"[1]")
    relay(spool)
    spool.close()
    assert spools.files() == []
    with pytest.raises(LogUnavailableError, match="closed"):
        put(spool, b"[2]")


@pytest.mark.parametrize("is_adopted", [True, False])
def test_a_damaged_file_is_relayed_as_far_as_it_can_be_read_and_set_aside(
    spools: Spools, caplog: pytest.LogCaptureFixture, is_adopted: bool
) -> None:
    spool = spools.new()
    put(spool, b"[1]", b"[2]", b"[3]")
    (path,) = spools.files()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"[2]", b"[x]"))
    if is_adopted:
        spool.close()
        spool = spools.new()
        spool.adopt()
    assert relay(spool) == [b"[1]", b"[3]"]
    (aside,) = spools.files()
    assert (aside.suffix, aside.read_bytes()) == (".damaged", whole.replace(b"[2]", b"[x]"))
    assert f"all is kept in {aside}" in caplog.messages[-1]
    put(spool, b"[4]")
    assert relay(spool) == [b"[4]"]
    spools.new().adopt()
    assert len(spools.files()) == 2


def test_a_torn_tail_alone_is_removed_without_a_word(spools: Spools, caplog: pytest.LogCaptureFixture) -> None:
    left = spools.new()
    put(left, b"[1]")
    left.close()
    (path,) = spools.files()
    path.write_bytes(path.read_bytes()[:-1])
    spool = spools.new()
    spool.adopt()
    assert relay(spool) == []
    assert (spools.files(), spool.num_bytes) == ([], 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_it_can_be_closed_while_something_is_being_relayed(spools: Spools) -> None:
    spool = spools.new()
    put(spool, b"[1]")
    frames = spool.read(MAX_BYTES)
    spool.close()
    spool.relayed(frames[-1])
    spool.adopt()
    assert spool.read(MAX_BYTES) == []
    again = spools.new()
    again.adopt()
    assert relay(again) == [b"[1]"]
