"""Jobs: snapshots that a restart may need stay; what goes wrong in a thread comes back as a result."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from quorate.kernel import ROOT, App, Failed, Job
from quorate.kernel import Path as CorePath
from quorate.parts.log.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written
from quorate.runtime.errors import NodeStops, SnapshotMissing, SnapshotSpoiled, StorageError
from quorate.runtime.files import Identity
from quorate.runtime.jobs import Jobs
from quorate.runtime.snapshots import HEADER_SIZE
from quorate.runtime.stores import SnapshotStores

from tests.runtime.servers import run


class Words(App):
    """State that is bytes; ``capture`` and ``write`` may be told to raise."""

    def __init__(self) -> None:
        self.state = b"state"
        self.capture_error: Exception | None = None
        self.write_error: Exception | None = None
        self.writer: Callable[[BinaryIO], None] | None = None

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        raise NotImplementedError

    def request(self, client: Any, request: Any) -> None:
        raise NotImplementedError

    def snapshot(self, path: CorePath = ROOT) -> Callable[[BinaryIO], None]:
        if self.capture_error:
            raise self.capture_error
        state = self.state
        if self.writer is not None:
            return self.writer

        def write(file: BinaryIO) -> None:
            if self.write_error:
                raise self.write_error
            file.write(state)

        return write

    def restore(self, file: BinaryIO, path: CorePath = ROOT) -> Callable[[], None]:
        state = file.read()

        def adopt() -> None:
            self.state = state

        return adopt


class Bench:
    """Jobs of one life of a node over a folder."""

    def __init__(self, folder: Path) -> None:
        stores = SnapshotStores(folder, Identity("c", 1))
        self.stores = stores
        self.store = stores()
        self.app = Words()
        self.spoiled: list[StorageError] = []
        self.is_spoiled = asyncio.Event()
        self.jobs = Jobs(stores, self.app, on_spoiled=self._spoiled)

    async def do(self, work: Any) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.jobs.start(Job(ROOT, "job", work), done.set_result)
        return await done

    def _spoiled(self, error: StorageError) -> None:
        self.spoiled.append(error)
        self.is_spoiled.set()

    def indexes(self) -> list[int]:
        return [info.index for info in self.store.infos()]


def test_the_snapshot_that_the_journal_names_outlives_lives_that_end_before_naming_another(tmp_path) -> None:
    async def main() -> None:
        first = Bench(tmp_path)
        await first.do(TakeSnapshot(10, 1))
        await first.jobs.stop()
        for index in (20, 30, 40):  # each life ends when its snapshot is there and not in the journal yet
            life = Bench(tmp_path)
            await life.jobs.load(10)
            taken = await life.do(TakeSnapshot(index, 1))
            assert taken == SnapshotInfo(index, 1, HEADER_SIZE + 5, sha256(b"state").digest())
            assert 10 in life.indexes()
            await life.jobs.stop()

    run(main())


def test_jobs_that_a_stop_meets_before_they_began_leave_nothing_that_nobody_awaits(tmp_path) -> None:
    works = [TakeSnapshot(10, 1), ReadChunk(10, 0, 10), WriteChunk(10, 1, 0, b"x", 1, b"")]
    dropped: list[Any] = []

    async def main() -> None:
        bench = Bench(tmp_path)
        for number, work in enumerate(works):
            bench.jobs.start(Job(ROOT, number, work), dropped.append)
        await bench.jobs.stop()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run(main())
        gc.collect()
    assert [str(each.message) for each in told] == []
    assert dropped == []


def test_a_snapshot_goes_when_the_journal_names_a_newer_one(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        kept = []
        for index in (10, 20, 30, 40):
            await bench.do(TakeSnapshot(index, 1))
            kept.append(bench.indexes())
        # A job starts when what the core made of the last result is durable; the newest is not yet named.
        assert kept == [[10], [10, 20], [20, 30], [30, 40]]
        bench.app.write_error = OSError(28, "No space left on device")
        assert isinstance(await bench.do(TakeSnapshot(50, 1)), Failed)
        assert bench.indexes() == [30, 40]
        await bench.jobs.stop()

    run(main())


def test_a_newer_snapshot_of_a_peer_is_left_alone(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.store.write(99, 2, lambda file: file.write(b"theirs") and None)
        await bench.do(TakeSnapshot(10, 1))
        await bench.do(TakeSnapshot(20, 1))
        assert bench.indexes() == [10, 20, 99]
        (await bench.jobs.load(99))()
        assert bench.app.state == b"theirs"
        await bench.do(TakeSnapshot(120, 2))
        assert bench.indexes() == [99, 120]
        await bench.jobs.stop()

    run(main())


@pytest.mark.parametrize("error", [TypeError("a set"), ValueError("closed"), OSError(28, "full"), KeyError("ours")])
def test_what_goes_wrong_in_a_thread_is_a_result(tmp_path, error: Exception) -> None:
    """A core that hears nothing would never take a snapshot again."""

    async def main() -> None:
        bench = Bench(tmp_path)
        bench.app.write_error = error
        result = await bench.do(TakeSnapshot(10, 1))
        assert isinstance(result, Failed)
        assert str(error) in result.why
        assert bench.indexes() == []
        bench.app.write_error = None
        assert isinstance(await bench.do(TakeSnapshot(10, 1)), SnapshotInfo)
        await bench.jobs.stop()

    run(main())


def test_a_state_that_cannot_be_captured_is_a_result(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.app.capture_error = TypeError("annotate it")
        assert await bench.do(TakeSnapshot(10, 1)) == Failed("annotate it")
        assert isinstance(await bench.do("no work"), Failed)
        await bench.jobs.stop()

    run(main())


def test_a_snapshot_that_is_on_its_way_to_others_stays(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        kept = []
        for index in (10, 20, 30, 40):
            await bench.do(TakeSnapshot(index, 1, held=(10,)))
            kept.append(bench.indexes())
        assert kept[-1] == [10, 30, 40]
        await bench.do(TakeSnapshot(50, 1))
        assert bench.indexes() == [40, 50]
        await bench.jobs.stop()

    run(main())


def test_a_snapshot_that_is_written_without_end_ends_when_the_node_stops(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def write(file: BinaryIO) -> None:
            loop.call_soon_threadsafe(begun.set)
            while True:
                file.write(b"more")

        bench.app.writer = write
        taking = asyncio.ensure_future(bench.do(TakeSnapshot(10, 1)))
        await begun.wait()
        bench.stores.stop()
        await bench.jobs.stop()  # raises WorkLeft where it goes on
        assert list(tmp_path.iterdir()) == []
        taking.cancel()

    run(main())


def test_a_snapshot_is_not_read_to_its_end_when_the_node_stops(tmp_path) -> None:
    store = SnapshotStores(tmp_path, Identity("c", 1))()
    store.write(10, 1, lambda file: (file.write(b"state"), None)[1])
    with store.open(10) as reader:
        store.stop()
        with pytest.raises(NodeStops):
            reader.read()
    with pytest.raises(NodeStops):
        store.open(10)


def test_a_snapshot_travels_in_pieces_and_becomes_the_state_there(tmp_path) -> None:
    async def main() -> None:
        here, there = Bench(tmp_path / "here"), Bench(tmp_path / "there")
        here.app.state = bytes(range(256)) * 10
        await here.do(TakeSnapshot(7, 3))
        offset, complete = 0, False
        while not complete:
            chunk = await here.do(ReadChunk(7, offset, 1000))
            assert isinstance(chunk, Chunk)
            written = await there.do(WriteChunk(7, 3, chunk.offset, chunk.data, chunk.total_bytes))
            assert isinstance(written, Written)
            offset, complete = written.next_offset, written.complete
        (await there.jobs.load(7))()
        assert there.app.state == here.app.state
        assert isinstance(await here.do(ReadChunk(8, 0, 1000)), Failed)
        assert isinstance(await there.do(WriteChunk(9, 3, 0, bytes(400), 400)), Failed)  # no header in there
        with pytest.raises(SnapshotMissing):
            await there.jobs.load(8)
        await here.jobs.stop()
        await there.jobs.stop()
        await there.jobs.stop()

    run(main())


def test_a_node_hears_that_a_snapshot_of_its_own_is_spoiled_and_no_peer_is_given_it(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.do(TakeSnapshot(10, 1))
        assert isinstance(await bench.do(ReadChunk(10, 0, 1000)), Chunk)
        path = tmp_path / "snapshot-10-1.snap"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        served: list[Any] = []
        bench.jobs.start(Job(ROOT, "job", ReadChunk(10, 0, 1000)), served.append)
        await bench.is_spoiled.wait()
        assert "snapshot-10-1.snap: the digest of the payload is wrong" in str(bench.spoiled[0])
        assert served == []
        with pytest.raises(SnapshotSpoiled, match=r"index 10 was found corrupt. It is kept as snapshot-10-1.snap.corr"):
            await bench.jobs.load(10)
        with pytest.raises(SnapshotMissing, match=r"no snapshot at index 11 .* The journal goes on from it. Restore"):
            await bench.jobs.load(11)
        await bench.jobs.stop()

    run(main())


def test_a_spoiled_piece_of_a_peer_is_no_fault_of_this_node(tmp_path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        result = await bench.do(WriteChunk(10, 1, 0, bytes(HEADER_SIZE), HEADER_SIZE))
        assert isinstance(result, Failed)
        assert bench.spoiled == []
        await bench.jobs.stop()

    run(main())
