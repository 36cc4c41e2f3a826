"""A disk that hangs in silence below a journal: what it says of it, and how it is closed all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.runtime.errors import DiskHangs, JournalLocked
from quorate.runtime.journal import checkpoint, journal

from tests.hanging import HangingDisk, hanging_disk
from tests.storage.helpers import Recorder, recovered


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    monkeypatch.setattr(journal, "CLOSE_S_MAX", 0.2)
    with hanging_disk(tmp_path / "journal", monkeypatch) as made:
        yield made


def test_it_says_what_it_waits_for_and_for_how_long(disk: HangingDisk) -> None:
    with Recorder(disk.folder) as recorder:
        recorder.append(b"before")
        assert recorder.journal.doing.endswith("nothing")
        disk.hang()
        recorder.journal.append(bytes(1000))
        assert disk.entered.wait(5)
        text = recorder.journal.doing
        assert text.startswith(f"{disk.folder}: a write of 1024 bytes at offset 286 of segment 1 has taken 0.")
        assert recorder.stalls == [], "the thread cannot tell"
        disk.release()
        recorder.wait(2)


def test_close_gives_up_and_says_what_was_not_written(disk: HangingDisk) -> None:
    recorder = Recorder(disk.folder)
    recorder.append(b"kept")
    disk.hang()
    recorder.journal.append(b"hangs")
    assert disk.entered.wait(5)
    recorder.journal.append(b"never written")
    with pytest.raises(DiskHangs, match=r"29 bytes at offset.*: 66 bytes up to frame 3 were not written"):
        recorder.journal.close()
    recorder.journal.close()  # a second call does nothing
    with pytest.raises(JournalLocked):  # the thread may still write
        Recorder(disk.folder)
    disk.release()
    recorder.journal._thread.join(5)
    assert recovered(disk.folder) == [b"kept", b"hangs"], "what it was in is done, and nothing after it"


def test_a_checkpoint_that_hangs_holds_up_what_comes_after_it_and_says_so(disk: HangingDisk) -> None:
    with Recorder(disk.folder) as recorder:
        recorder.append(b"before")
        disk.hang()
        recorder.journal.checkpoint([b"state"])
        assert disk.entered.wait(5)
        recorder.journal.append(b"after")
        assert recorder.durable == [1]
        assert "the start of segment 3 has taken 0." in recorder.journal.doing
        disk.release()
        recorder.settle()
        recorder.wait(4)
    assert recovered(disk.folder) == [b"state", b"after"]


def test_close_gives_up_a_checkpoint_on_a_disk_that_hangs(disk: HangingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 1)
    recorder = Recorder(disk.folder)
    recorder.append(b"before")
    reached = journal.threading.Event()

    def encode(number: int) -> bytes:
        if number == 2:
            disk.hang()
            reached.set()
        return b"%d" % number

    recorder.journal.checkpoint(range(9), encode)
    assert reached.wait(5)
    assert disk.entered.wait(5)
    with pytest.raises(DiskHangs, match="a piece of the checkpoint in segment 2"):
        recorder.journal.close()
    disk.release()
    recorder.journal._thread.join(5)
    assert not list(disk.folder.glob("*.aside"))
    assert recovered(disk.folder) == [b"before"]


def test_close_waits_for_a_disk_that_gets_on(disk: HangingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WRITE_SIZE_BYTES_MAX", 1)
    recorder = Recorder(disk.folder)
    slow = recorder.journal._writer.append

    def append(frames: list[bytes]) -> None:
        recorder.journal._closing.wait(5)
        pause.wait(0.15)
        slow(frames)

    pause = journal.threading.Event()
    monkeypatch.setattr(recorder.journal._writer, "append", append)
    for number in range(4):
        recorder.journal.append(b"%d" % number)
    recorder.journal.close()  # three times as long as it waits for one that does not
    assert recovered(disk.folder) == [b"0", b"1", b"2", b"3"]
