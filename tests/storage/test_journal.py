"""The journal's promises to the node while nothing goes wrong: order, numbers, group commit, checkpoints, limits."""

import os
import threading
from pathlib import Path

import pytest

from quorate.runtime.errors import JournalFailed, JournalLocked, StorageError
from quorate.runtime.files import Identity
from quorate.runtime.journal import FRAME_SIZE_BYTES_MAX, Journal, journal

from tests.storage.helpers import IDENTITY, WAIT_S, Recorder, recovered, segments


def test_frames_come_back_in_order_and_numbers_go_on(folder: Path) -> None:
    frames = [b"", b"a", b"bc" * 700, bytes(100_000)]
    with Recorder(folder) as recorder:
        assert recorder.frames == []
        assert [recorder.journal.append(frame) for frame in frames] == [1, 2, 3, 4]
    assert recorder.durable[-1] == 4
    assert recorder.durable == sorted(recorder.durable)
    with Recorder(folder) as recorder:
        assert recorder.frames == frames
        assert recorder.journal.append(b"next") == 5
    assert recovered(folder) == [*frames, b"next"]


def test_close_flushes_and_a_second_close_does_nothing(disk_folder: Path) -> None:
    recorder = Recorder(disk_folder)
    frames = [b"%d" % number for number in range(5000)]
    for frame in frames:
        recorder.journal.append(frame)
    recorder.journal.close()
    recorder.journal.close()
    assert recorder.durable[-1] == 5000
    assert recorder.journal.backlog_bytes == 0
    assert recovered(disk_folder) == frames


def test_queued_frames_share_one_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Recorder(folder) as recorder:
        writes = []
        pwritev = os.pwritev
        monkeypatch.setattr(os, "pwritev", lambda *arguments: writes.append(arguments) or pwritev(*arguments))
        recorder.append_as_one_write(*[b"%d" % number for number in range(100)])
        assert len(writes) == 2  # the frame that held the writer, then all others
        assert recorder.durable == [1, 101]


def test_a_group_larger_than_one_system_call_takes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [b"%d" % number for number in range(3000)]
    syncs = []
    fdatasync = os.fdatasync
    with Recorder(folder) as recorder:
        monkeypatch.setattr(os, "fdatasync", lambda fd: syncs.append(fd) or fdatasync(fd))
        recorder.append_as_one_write(*frames)
        assert len(syncs) == 1
    assert recovered(folder)[1:] == frames


def test_short_writes_are_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev

    def short(fd, buffers, offset, flags=0):
        return pwritev(fd, [b"".join(map(bytes, buffers))[:7]], offset, flags)

    frames = [b"a", b"", b"b" * 40]
    with Recorder(folder) as recorder:
        monkeypatch.setattr(os, "pwritev", short)
        recorder.append_as_one_write(*frames)
        recorder.checkpoint(b"c" * 20, b"")
        recorder.append(b"d")
    monkeypatch.undo()
    assert recovered(folder) == [b"c" * 20, b"", b"d"]


def test_a_write_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WRITE_SIZE_BYTES_MAX", 100)
    with Recorder(folder) as recorder:
        recorder.append_as_one_write(*[bytes(40)] * 4, bytes(400), b"z")
        assert recorder.durable == [1, 3, 5, 6, 7]
    assert recovered(folder)[1:] == [*[bytes(40)] * 4, bytes(400), b"z"]


def test_segments_rotate_by_size(folder: Path) -> None:
    frames = [bytes([number]) * 300 for number in range(20)]
    with Recorder(folder, segment_size_bytes=1000) as recorder:
        recorder.append(*frames)
    assert [path.name for path in segments(folder)] == [f"{number:08d}.journal" for number in range(1, 8)]
    assert recovered(folder) == frames


def test_a_checkpoint_replaces_what_was_before_it(folder: Path) -> None:
    with Recorder(folder, segment_size_bytes=1000) as recorder:
        recorder.append(*[bytes(300)] * 10)
        assert recorder.journal.checkpoint([b"state 1", b"state 2"]) == 13
        assert recorder.journal.append(b"after") == 14
        recorder.wait(14)
        recorder.settle()
        assert len(segments(folder)) == 2, "its own, and the one of what came after"
    with Recorder(folder) as recorder:
        assert recorder.frames == [b"state 1", b"state 2", b"after"]
        assert recorder.journal.last_sequence == 14


def test_an_empty_checkpoint_has_a_number_and_forgets_all(folder: Path) -> None:
    with Recorder(folder) as recorder:
        recorder.append(b"a", b"b")
        assert recorder.journal.checkpoint([]) == 3
        recorder.wait(3)
        assert recorder.journal.append(b"c") == 4
    assert recovered(folder) == [b"c"]


def test_a_checkpoint_keeps_its_place_between_appends(folder: Path) -> None:
    with Recorder(folder) as recorder:
        for round_number in range(50):
            recorder.journal.append(b"lost")
            recorder.journal.checkpoint([b"round %d" % round_number])
            recorder.journal.append(b"kept")
        recorder.settle()
    assert recorder.durable[-1] == 200
    assert recovered(folder) == [b"round 49", b"kept"]


def test_limits(folder: Path) -> None:
    with Recorder(folder) as recorder:
        too_large = bytes(FRAME_SIZE_BYTES_MAX + 1)
        with pytest.raises(ValueError, match="67108865 bytes; the limit is 67108864"):
            recorder.journal.append(too_large)
        with pytest.raises(ValueError, match="the limit"):
            recorder.journal.checkpoint([b"", too_large])
        with pytest.raises(TypeError, match="bytearray"):
            recorder.journal.append(bytearray(3))
        assert recorder.journal.last_sequence == recorder.journal.backlog_bytes == 0
    with pytest.raises(StorageError, match="closed"):
        recorder.journal.append(b"")
    with pytest.raises(ValueError, match="segment_size_bytes"):
        Recorder(folder, segment_size_bytes=10)


def test_the_backlog_counts_what_is_not_durable(folder: Path) -> None:
    gate, entered = threading.Event(), threading.Event()

    def hold(sequence: int) -> None:
        entered.set()
        gate.wait(WAIT_S)

    with Journal.open(folder, identity=IDENTITY, on_durable=hold)[0] as opened:
        opened.append(b"first")
        assert entered.wait(WAIT_S)
        assert opened.backlog_bytes == 0
        opened.append(bytes(1000))
        opened.checkpoint([bytes(500)])
        assert opened.backlog_bytes == 1000 + 24, "a checkpoint is what is there already"
        gate.set()
    assert opened.backlog_bytes == 0


def test_a_callback_that_fails_stops_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(sequence: int) -> None:
        raise RuntimeError("Event loop is closed")

    with Journal.open(folder, identity=IDENTITY, on_durable=fail)[0] as opened:
        opened.append(b"a")
    assert opened.failure is None
    assert "Event loop is closed" in caplog.text
    assert recovered(folder) == [b"a"]


def test_one_folder_serves_one_journal(folder: Path) -> None:
    with Recorder(folder):
        with pytest.raises(JournalLocked, match=f"process {os.getpid()}") as caught:
            Recorder(folder)
        assert caught.value.pid == os.getpid()
    assert recovered(folder) == []


def test_identities_have_limits() -> None:
    Identity("é" * 88, 2**64 - 1)
    for cluster, node in (("", 1), ("é" * 89, 1), ("c", -1), ("c", 2**64)):
        with pytest.raises(ValueError, match=r"cluster name|node id"):
            Identity(cluster, node)


def test_a_checkpoint_is_encoded_by_the_thread_and_once(folder: Path) -> None:
    encoded: list[tuple[int, bool]] = []

    def encode(number: int) -> bytes:
        encoded.append((number, threading.current_thread() is threading.main_thread()))
        return b"state %d" % number

    with Recorder(folder) as recorder:
        recorder.append(b"old")
        recorder.wait(recorder.journal.checkpoint(range(3), encode))
        assert encoded == [(0, False), (1, False), (2, False)]
        assert recorder.journal.size_bytes == len(b"state 0") * 3
        recorder.append(b"new")
    assert recovered(folder) == [b"state 0", b"state 1", b"state 2", b"new"]


def test_a_checkpoint_that_cannot_be_encoded_is_a_failure(folder: Path) -> None:
    def encode(_: int) -> bytes:
        raise TypeError("not a record")

    recorder = Recorder(folder)
    recorder.append(b"kept")
    recorder.journal.checkpoint([1], encode)
    recorder.until(lambda: recorder.stalls)
    with pytest.raises(JournalFailed, match="not a record"):
        recorder.journal.close()
    assert recovered(folder) == [b"kept"]
