"""What recovery cuts, what it refuses, and what it says: every offset, every byte."""

import itertools
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from quorate.runtime.errors import JournalCorrupt, SegmentMissing, StorageError, UnknownFormat, WrongIdentity
from quorate.runtime.files import Identity
from quorate.runtime.journal.segment import FRAME_HEADER_SIZE, HEADER_SIZE, encode_frames

from tests.storage.helpers import Recorder, frame_offsets, read_state, recovered, segments, write_state

FRAMES = [b"first", b"", b"second " * 5, b"third", b"last" * 6]


def written(folder: Path, frames: list[bytes] = FRAMES) -> tuple[Path, bytes]:
    """A journal of one segment, one write a frame; its file and the bytes in it."""
    with Recorder(folder) as recorder:
        recorder.append(*frames)
    (path,) = segments(folder)
    return path, path.read_bytes()


def test_a_truncation_at_every_byte_leaves_the_whole_frames(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, data = written(folder)
    offsets = frame_offsets(FRAMES)
    assert offsets[-1] == len(data)
    for size in range(HEADER_SIZE, len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(offset <= size for offset in offsets) - 1
        caplog.clear()
        with Recorder(folder) as recorder:
            assert recorder.frames == FRAMES[:whole], size
            assert recorder.journal.recovered.cut_bytes == size - offsets[whole]
            assert ("cut" in caplog.text) == (size != offsets[whole])
            recorder.append(b"goes on")
        assert recovered(folder) == [*FRAMES[:whole], b"goes on"]


def test_a_flipped_byte_before_the_last_write_is_refused(folder: Path) -> None:
    path, data = written(folder)
    offsets = frame_offsets(FRAMES)
    before = read_state(folder)
    for position in range(HEADER_SIZE, offsets[-2]):
        damaged = bytearray(data)
        damaged[position] ^= 0x20
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupt, match=r"offset \d+: a frame is damaged .*Restore the file") as caught:
            Recorder(folder)
        assert caught.value.path == path
        assert caught.value.offset == max(offset for offset in offsets if offset <= position)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == damaged, "a refused file is left as it is"
    path.write_bytes(data)
    assert read_state(folder).keys() == before.keys()
    assert recovered(folder) == FRAMES


def test_a_flipped_byte_in_the_last_write_cannot_be_told_from_a_torn_one(folder: Path) -> None:
    path, data = written(folder)
    for position in range(frame_offsets(FRAMES)[-2], len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert recovered(folder) == FRAMES[:-1]


def test_a_flipped_byte_in_the_header_is_refused(folder: Path) -> None:
    path, data = written(folder)
    for position in range(HEADER_SIZE):
        damaged = bytearray(data)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises((JournalCorrupt, UnknownFormat), match=str(path)):
            Recorder(folder)


def test_a_hole_in_the_last_write_is_a_torn_write(folder: Path) -> None:
    """A file system may persist the later blocks of one write and not the earlier ones."""
    with Recorder(folder) as recorder:
        recorder.append(b"durable")
        recorder.append_as_one_write(*FRAMES)
    (path,) = segments(folder)
    data = path.read_bytes()
    before = [b"durable", b"the write before"]
    offsets = frame_offsets([*before, *FRAMES])
    for number, (start, end) in enumerate(itertools.pairwise(offsets[2:])):
        path.write_bytes(data[:start] + bytes(end - start) + data[end:])
        with Recorder(folder) as recorder:
            assert recorder.frames == before + FRAMES[:number]
            recorder.append(b"goes on", b"and on")
        assert recovered(folder) == [*before, *FRAMES[:number], b"goes on", b"and on"]
    path.write_bytes(data[: offsets[1]] + bytes(offsets[2] - offsets[1]) + data[offsets[2] :])
    with pytest.raises(JournalCorrupt):
        Recorder(folder)


def test_zeros_behind_the_last_frame_are_cut(folder: Path) -> None:
    path, data = written(folder)
    path.write_bytes(data + bytes(5000))
    with Recorder(folder) as recorder:
        assert recorder.frames == FRAMES
        assert recorder.journal.recovered.cut_bytes == 5000
    assert path.read_bytes() == data


def test_damage_in_a_segment_that_is_not_the_last_is_refused(folder: Path) -> None:
    with Recorder(folder, segment_size_bytes=500) as recorder:
        recorder.append(*[bytes([number]) * 150 for number in range(4)])
    first, last = segments(folder)
    data = first.read_bytes()
    for damaged in (data[:-1], data + b"\0", data[:-1] + b"x", data[:HEADER_SIZE], data[:100], b""):
        first.write_bytes(damaged)
        with pytest.raises(JournalCorrupt) as caught:
            Recorder(folder)
        assert caught.value.path in (first, last)
    first.write_bytes(data)
    assert len(recovered(folder)) == 4


def test_damage_inside_a_checkpoint_is_never_taken_for_a_torn_write(folder: Path) -> None:
    with Recorder(folder) as recorder:
        recorder.append(b"old")
        recorder.checkpoint(b"state 1", b"state 2")
    path, _ = segments(folder)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(JournalCorrupt):
            Recorder(folder)
    for position in range(HEADER_SIZE, len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(JournalCorrupt, match="the checkpoint is damaged"):
            Recorder(folder)


def test_a_missing_segment_is_named(folder: Path) -> None:
    with Recorder(folder, segment_size_bytes=300) as recorder:
        recorder.append(*[bytes(100)] * 4)
        recorder.checkpoint(b"state")
        recorder.append(*[bytes(100)] * 4)
    paths = segments(folder)
    assert len(paths) >= 4
    for path in paths[:-1]:
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(SegmentMissing, match="missing") as caught:
            Recorder(folder)
        assert caught.value.path == path
        path.write_bytes(data)
    assert len(recovered(folder)) == 5


@pytest.mark.parametrize("lost", [0, 1])
def test_without_a_checkpoint_that_was_under_way_only_the_segments_around_it_count(folder: Path, lost: int) -> None:
    """What follows it says how many numbers it takes, so that a frame that is lost before it is missed."""
    with Recorder(folder) as recorder:
        recorder.append(b"old 1", b"old 2")
        old = segments(folder)[0].read_bytes()
        recorder.checkpoint(b"state 1", b"state 2")
        recorder.append(b"after")
    checkpoint, after = segments(folder)
    checkpoint.unlink()
    with pytest.raises(SegmentMissing):
        Recorder(folder)
    first = folder / "00000001.journal"
    first.write_bytes(old[: len(old) - lost * (FRAME_HEADER_SIZE + len(b"old 2"))])
    if lost:
        with pytest.raises(JournalCorrupt, match="begins with frame 6; frame 5 comes next") as caught:
            Recorder(folder)
        assert caught.value.path == after
    else:
        assert recovered(folder) == [b"old 1", b"old 2", b"after"]


def test_a_renamed_segment_is_refused(folder: Path) -> None:
    path, _ = written(folder)
    path.rename(path.with_name("00000002.journal"))
    shutil.copy(path.with_name("00000002.journal"), path)
    with pytest.raises(JournalCorrupt, match="header says segment 1"):
        Recorder(folder)


def test_segments_of_two_histories_do_not_join(tmp_path: Path) -> None:
    for name, size in (("a", 100), ("b", 10)):
        with Recorder(tmp_path / name, segment_size_bytes=300) as recorder:
            recorder.append(*[bytes(size)] * 4)
    shutil.copy(segments(tmp_path / "b")[1], segments(tmp_path / "a")[1])
    with pytest.raises(JournalCorrupt, match="begins with frame"):
        Recorder(tmp_path / "a")


def test_stale_blocks_of_other_files_are_never_frames(tmp_path: Path) -> None:
    """The file system gave a dead segment's blocks to this one, and a crash left them in place of a write."""
    path, data = written(tmp_path / "now")
    _, stale = written(tmp_path / "then", [*FRAMES, b"six", b"seven"])
    path.write_bytes(data + stale[len(data) :])
    assert recovered(tmp_path / "now") == FRAMES
    path.write_bytes(data + data[HEADER_SIZE:])  # its own frames, at another offset
    assert recovered(tmp_path / "now") == FRAMES


def test_a_payload_that_holds_a_journal_confuses_nothing(tmp_path: Path) -> None:
    _, inner = written(tmp_path / "inner")
    path, data = written(tmp_path / "outer", [inner, inner])
    path.write_bytes(data[:-1])
    assert recovered(tmp_path / "outer") == [inner]


def test_a_gap_in_the_numbers_is_refused(folder: Path) -> None:
    path, data = written(folder)
    buffers, _ = encode_frames([b"nine"], len(data), 9, data[44:48])
    path.write_bytes(data + b"".join(buffers))
    with pytest.raises(JournalCorrupt, match="frame 9 is where frame 6 belongs"):
        Recorder(folder)


@pytest.mark.parametrize("other", [Identity("other", 1), Identity("test", 2)])
def test_another_nodes_folder_is_refused(folder: Path, other: Identity) -> None:
    written(folder)
    text = f"node 1 of cluster 'test'; this is node {other.node} of cluster '{other.cluster}'"
    with pytest.raises(WrongIdentity, match=text):
        Recorder(folder, identity=other)
    assert recovered(folder) == FRAMES


def test_another_format_version_is_named(folder: Path) -> None:
    path, data = written(folder)
    body = data[:8] + struct.pack("<H", 7) + data[10:252]
    path.write_bytes(body + struct.pack("<I", zlib.crc32(body)) + data[256:])
    with pytest.raises(UnknownFormat, match=r"version 7; this release reads version 1.*Start the release"):
        Recorder(folder)


def test_a_failed_open_releases_the_folder(folder: Path) -> None:
    path, data = written(folder)
    path.write_bytes(b"what is this")
    for _ in range(2):
        with pytest.raises(StorageError, match="not a journal segment"):
            Recorder(folder)
    path.write_bytes(data)
    assert recovered(folder) == FRAMES


def test_other_files_are_left_alone_and_leftovers_go(folder: Path) -> None:
    written(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "00000002.journal.aside").write_bytes(b"half of a checkpoint")
    assert recovered(folder) == FRAMES
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "journal.lock", "00000001.journal"}


def test_segments_before_a_checkpoint_do_not_matter(tmp_path: Path) -> None:
    """The crash came between the new segment's name and the deletion of the older ones."""
    with Recorder(tmp_path / "a", segment_size_bytes=300) as recorder:
        recorder.append(*[bytes(100)] * 6)
    old = read_state(tmp_path / "a")
    with Recorder(tmp_path / "a") as recorder:
        recorder.checkpoint(b"state")
    both = old | read_state(tmp_path / "a")
    for number, gone in enumerate([None, *sorted(name for name in old if name.endswith(".journal"))]):
        both.pop(gone, None)
        folder = write_state(tmp_path / f"crash{number}", both)
        assert recovered(folder) == [b"state"]
        assert len(segments(folder)) == 2, "the checkpoint, and what comes after it"
