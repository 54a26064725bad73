"""One file of the spool, as it is after every kind of death."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from storage.event_log import Topic
from storage.spool_file import SpoolFile, frame_bytes

RECORDS: list[tuple[Topic, bytes]] = [
    ("feedback", b'[{"event_id":"a"}]'),
    ("decisions", b'[{"decision_id":"b"}]'),
    ("feedback", '["é"]'.encode()),
]


def made(folder: Path, *records: tuple[Topic, bytes]) -> SpoolFile:
    file = SpoolFile.make(folder, time.time)
    if records:
        file.append(records)
    return file


def reopened(path: Path) -> SpoolFile:
    file = SpoolFile.take(path)
    assert file is not None
    return file


def content(file: SpoolFile) -> list[tuple[Topic, bytes]]:
    return [(frame.topic, frame.value) for frame in file.read(1 << 30)]


def test_what_was_appended_is_read_in_order_by_whoever_holds_it_next(tmp_path: Path) -> None:
    file = made(tmp_path, *RECORDS[:1])
    file.append(RECORDS[1:])
    assert content(file) == RECORDS
    file.close()
    again = reopened(file.path)
    assert (content(again), again.is_damaged) == (RECORDS, False)
    again.close()


def test_it_is_read_in_portions_and_goes_on_behind_what_was_relayed(tmp_path: Path) -> None:
    file = made(tmp_path, *RECORDS)
    assert len(file.read(1)) == 1
    two = file.read(frame_bytes(RECORDS[0][1]) + 1)
    assert [frame.value for frame in two] == [value for _, value in RECORDS[:2]]
    assert not file.relayed(two[0])
    assert content(file) == RECORDS[1:]
    assert file.relayed(file.read(1 << 30)[-1])
    assert content(file) == []
    file.append(RECORDS[:1])
    assert content(file) == RECORDS[:1]
    file.close()


def test_a_tail_cut_off_anywhere_is_ignored(tmp_path: Path) -> None:
    file = made(tmp_path, *RECORDS)
    file.close()
    whole = file.path.read_bytes()
    last = frame_bytes(RECORDS[-1][1])
    for num in range(1, last + 1):
        file.path.write_bytes(whole[:-num])
        torn = reopened(file.path)
        assert (content(torn), torn.is_damaged) == (RECORDS[:-1], False), num
        torn.close()


def test_of_a_frame_with_any_bad_byte_followed_by_others_only_it_is_missing(tmp_path: Path) -> None:
    file = made(tmp_path, *RECORDS)
    file.close()
    whole = file.path.read_bytes()
    start = frame_bytes(RECORDS[0][1])
    for at in range(start, start + frame_bytes(RECORDS[1][1])):
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        bad = reopened(file.path)
        assert (content(bad), bad.is_damaged) == ([RECORDS[0], RECORDS[2]], True), at
        bad.close()


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"something else"])
def test_a_tail_that_is_no_frame_makes_it_a_damaged_one(tmp_path: Path, tail: bytes) -> None:
    """As after a loss of power: the file had grown, and what should be there had not arrived."""
    file = made(tmp_path, *RECORDS)
    file.close()
    with file.path.open("ab") as stream:
        stream.write(tail)
    odd = reopened(file.path)
    assert (content(odd), odd.is_damaged) == (RECORDS, True)
    odd.close()


def test_a_last_frame_that_is_whole_and_wrong_makes_it_a_damaged_one(tmp_path: Path) -> None:
    file = made(tmp_path, *RECORDS)
    file.close()
    file.path.write_bytes(file.path.read_bytes()[:-1] + b"x")
    wrong = reopened(file.path)
    assert (content(wrong), wrong.is_damaged) == (RECORDS[:-1], True)
    wrong.close()


def test_when_the_disk_is_full_nothing_of_the_append_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(tmp_path, *RECORDS[:1])
    size, pwrite = file.path.stat().st_size, os.pwrite

    def half(descriptor: int, view: Any, offset: int) -> int:
        if offset > size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, view[: len(view) // 2], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space"):
            file.append(RECORDS[1:2])
        assert file.path.stat().st_size == size
    file.append(RECORDS[2:])
    assert content(file) == [RECORDS[0], RECORDS[2]]
    file.close()


def test_what_was_not_synced_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    file = made(tmp_path, *RECORDS[:1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input"):
            file.append(RECORDS[1:2])
    assert content(file) == RECORDS[:1]
    file.close()
    assert file.path.stat().st_size == frame_bytes(RECORDS[0][1])


LIMITED = """
import resource, sys, time
from pathlib import Path
from storage.spool_file import SpoolFile
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
file = SpoolFile.make(Path(sys.argv[1]), time.time)
file.append([("feedback", b"[1]")])
try:
    file.append([("feedback", b"[%s]" % (b"2" * 2_000))])
except OSError as error:
    print(error.strerror)
file.append([("feedback", b"[3]")])
"""


def test_the_system_s_own_limit_tears_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    run = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert run.stdout == "File too large\n"
    (path,) = tmp_path.iterdir()
    file = reopened(path)
    assert (content(file), file.is_damaged) == ([("feedback", b"[1]"), ("feedback", b"[3]")], False)
    file.close()


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    file = made(tmp_path, *RECORDS)
    assert SpoolFile.take(file.path) is None
    file.close()
    reopened(file.path).remove()
    assert SpoolFile.take(file.path) is None
    assert list(tmp_path.iterdir()) == []


def test_one_that_goes_while_it_is_being_locked_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(tmp_path, *RECORDS)
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        """Who had it relays, removes and lets go of it just before we get the lock."""
        file.remove()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert SpoolFile.take(file.path) is None


def test_one_that_is_adopted_before_it_was_locked_is_left_and_another_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, adopted = fcntl.flock, list[int]()

    def late(descriptor: int, operation: int) -> None:
        if not adopted:
            adopted.append(os.open(next(tmp_path.iterdir()), os.O_RDWR))
            flock(adopted[0], operation)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    file = made(tmp_path, *RECORDS)
    assert content(file) == RECORDS
    assert len(list(tmp_path.iterdir())) == 2
    file.close()
    os.close(adopted[0])


def test_its_folder_is_synced_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = list[int](), os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    made(tmp_path / "spool").close()
    assert synced == [folder.stat().st_ino for folder in (tmp_path / "spool", tmp_path)]


def test_where_its_folder_cannot_be_synced_it_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input"):
        made(tmp_path)
    assert list(tmp_path.iterdir()) == []
