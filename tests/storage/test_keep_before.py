"""What stays of a damaged journal, wherever it is damaged, and wherever the process ends meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from quorate.runtime import repair
from quorate.runtime.errors import JournalCorrupt
from quorate.runtime.journal.segment import HEADER_SIZE
from quorate.runtime.repair import keep_before

from tests.storage.helpers import IDENTITY, Recorder, recovered, segments

FRAMES = [b"frame %d" % number * 5 for number in range(12)]


class PowerCut(Exception):
    """In a test."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of several segments."""
    with Recorder(tmp_path / "journal", segment_size_bytes=HEADER_SIZE + 200) as recorder:
        recorder.append(*FRAMES)
    assert len(segments(tmp_path / "journal")) >= 3
    return tmp_path


def flip(path: Path, offset: int) -> bytes:
    """One bit; the bytes as they are then."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)
    return bytes(data)


def mend(folder: Path) -> list[bytes]:
    """Keep what stands before the damage, as often as there is some; the frames that are left."""
    while True:
        try:
            return recovered(folder / "journal")
        except JournalCorrupt as damage:
            if keep_before(folder, damage.path, damage.offset, IDENTITY) is None:
                return []


def test_what_stands_before_a_flipped_byte_stays_wherever_it_is(folder: Path) -> None:
    paths = segments(folder / "journal")
    original = {path: path.read_bytes() for path in paths}
    for path in paths[:-1]:
        for offset in range(0, len(original[path]), 7):
            damaged = flip(path, offset)
            found = mend(folder)
            before = sum(len(original[one]) > 0 for one in paths if one < path)
            assert found == FRAMES[: len(found)]
            assert len(found) >= before, "earlier segments stay"
            if found or before:
                (aside,) = folder.glob(f"damaged-*/journal/{path.name}")
                assert aside.read_bytes() == damaged
            for old in folder.glob("damaged-*/journal/*"):
                old.unlink()
            for one, data in original.items():
                one.write_bytes(data)


def test_a_segment_that_is_gone_takes_those_after_it(folder: Path) -> None:
    paths = segments(folder / "journal")
    paths[1].unlink()
    found = mend(folder)
    assert 0 < len(found) < len(FRAMES)
    assert found == FRAMES[: len(found)]
    assert {path.name for path in folder.glob("damaged-*/journal/*")} == {path.name for path in paths[2:]}


def test_of_a_damaged_checkpoint_nothing_stays_and_nothing_is_moved(folder: Path) -> None:
    with Recorder(folder / "journal") as recorder:
        recorder.checkpoint(*FRAMES[:3])
        recorder.settle()
        recorder.append(*FRAMES[3:5])
    first = segments(folder / "journal")[0]
    before = {
        **{path: path.read_bytes() for path in segments(folder / "journal")},
        first: flip(first, HEADER_SIZE + 60),
    }
    assert mend(folder) == []
    assert {path: path.read_bytes() for path in segments(folder / "journal")} == before
    assert not list(folder.glob("damaged-*"))


@pytest.mark.parametrize("number", [0, 1])
def test_a_crash_in_between_leaves_what_can_be_mended(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is found then is the beginning of what there was."""
    paths = segments(folder / "journal")
    whole = {path: path.read_bytes() for path in paths}
    flip(paths[number], len(whole[paths[number]]) - 30)
    damaged = {path: path.read_bytes() for path in paths}
    steps = 0

    def until(limit: int, act: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            nonlocal steps
            steps += 1
            if steps > limit:
                raise PowerCut
            act(*arguments)

        return step

    real = repair._move, repair.publish
    for limit in count():
        for path, data in damaged.items():
            path.write_bytes(data)
        steps = 0
        monkeypatch.setattr(repair, "_move", until(limit, real[0]))
        monkeypatch.setattr(repair, "publish", until(limit, real[1]))
        try:
            mend(folder)
            break
        except PowerCut:
            monkeypatch.setattr(repair, "_move", real[0])
            monkeypatch.setattr(repair, "publish", real[1])
            found = mend(folder)
            assert found == FRAMES[: len(found)]
            assert number == 0 or found
    assert limit == len(paths) - number + 1, "each step was cut off once"
