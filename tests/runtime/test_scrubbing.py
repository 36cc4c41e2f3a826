"""Files that are read now and then while their node runs: what is found, what is left alone, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quorate.runtime import node, scrubbing
from quorate.runtime.errors import DiskUnreadable, JournalCorrupt, SnapshotCorrupt, StorageError
from quorate.runtime.journal.segment import HEADER_SIZE
from quorate.runtime.scrubbing import DurableEnd, Scrubber, Stopped
from quorate.runtime.snapshots import SnapshotStore

from tests.runtime.servers import run, servers, until
from tests.runtime.test_lost_folders import put
from tests.runtime.test_repairs import OPTIONS
from tests.storage.helpers import IDENTITY, Recorder, of, segments


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pauses."""
    monkeypatch.setattr(scrubbing, "PAUSE_S", 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A journal of several segments, and two snapshots."""
    with Recorder(tmp_path / "journal", segment_size_bytes=HEADER_SIZE + 300) as recorder:
        recorder.append(*[b"frame %d" % number * 9 for number in range(12)])
        store = SnapshotStore(tmp_path / "snapshots", IDENTITY)
        store.write(3, 1, of(b"three" * 1000))
        store.write(5, 1, of(b"five" * 1000))
        yield tmp_path


def found(data: Path, end: DurableEnd | None = None) -> list[StorageError]:
    """What a round finds."""
    told: list[StorageError] = []
    last = segments(data / "journal")[-1]
    whole = DurableEnd(int(last.stem), last.stat().st_size)
    Scrubber(data, IDENTITY, lambda: end or whole, told.append).round()
    return told


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 2
    path.write_bytes(data)


def test_nothing_is_found_where_all_is_well_and_nothing_is_changed(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert found(data) == []
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("offset", [9, 60, HEADER_SIZE + 1, HEADER_SIZE + 30, -1])
def test_each_damaged_segment_is_found_wherever_it_is_damaged(data: Path, offset: int) -> None:
    first, *_, last = segments(data / "journal")
    flip(first, offset)
    flip(last, offset)
    assert [(type(error), error.path) for error in found(data)] == [  # type: ignore[attr-defined]
        (JournalCorrupt, first),
        (JournalCorrupt, last),
    ]


def test_a_segment_that_was_cut_off_is_found(data: Path) -> None:
    last = segments(data / "journal")[-1]
    end = DurableEnd(int(last.stem), last.stat().st_size)
    last.write_bytes(last.read_bytes()[:-1])
    (error,) = found(data, end)
    assert isinstance(error, JournalCorrupt)


def test_what_is_not_durable_yet_is_no_damage(data: Path) -> None:
    last = segments(data / "journal")[-1]
    end = DurableEnd(int(last.stem), last.stat().st_size)
    last.write_bytes(last.read_bytes() + b"a frame that is being wri")
    assert found(data, end) == []
    assert found(data, DurableEnd(end.number - 1, HEADER_SIZE)) == [], "a segment that was begun meanwhile"


def test_a_file_that_the_disk_cannot_read_is_found(data: Path) -> None:
    first = segments(data / "journal")[0]
    first.unlink()
    first.symlink_to("/proc/self/mem")
    (error,) = found(data)
    assert isinstance(error, DiskUnreadable)


@pytest.mark.parametrize("offset", [9, 60, 256, -1])
def test_a_damaged_snapshot_is_found_and_stays_where_it_is(data: Path, offset: int) -> None:
    path = data / "snapshots" / "snapshot-3-1.snap"
    flip(path, offset)
    (error,) = found(data)
    assert isinstance(error, SnapshotCorrupt)
    assert path.exists()


def test_a_round_ends_when_the_node_stops(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "PIECE_BYTES", 10)
    scrubber = Scrubber(data, IDENTITY, lambda: DurableEnd(1, HEADER_SIZE + 50), lambda error: None)
    scrubber.stop()
    with pytest.raises(Stopped):
        scrubber.round()


def test_a_node_replaces_its_damaged_journal_and_tells_of_a_damaged_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scrubbing, "FIRST_S", 0.02)
    monkeypatch.setattr(scrubbing, "EVERY_S", 0.02)
    assert node.CHECKPOINT_AFTER_BYTES > 1 << 20, "else there would be a checkpoint anyway"

    async def main() -> None:
        async with servers(tmp_path, nodes=1, options=OPTIONS["raft"]) as cluster:
            await put(cluster, 50)
            folder = tmp_path / "n1"
            (segment,) = (folder / "journal").glob("*.journal")
            data = bytearray(segment.read_bytes())
            data[len(data) // 2] ^= 1
            with segment.open("r+b") as file:
                file.write(data)
            await until(lambda: "for which this node replaces its journal" in caplog.text)
            await put(cluster, 5, 100)
            await until(lambda: not segment.exists())

            def is_told() -> bool:
                for snapshot in (folder / "snapshots").rglob("*.snap"):
                    with suppress(FileNotFoundError), snapshot.open("r+b") as file:
                        file.write(b"\0" * 20)
                return "which the next snapshot replaces" in caplog.text

            await until(is_told)
            assert cluster.alive()
            await put(cluster, 50, 200)
            await cluster.stop()
            await cluster.start()
            await cluster.converged()
            async with cluster.client() as client:
                found = await client.get(b"k249")
                assert found is not None

    run(main())
