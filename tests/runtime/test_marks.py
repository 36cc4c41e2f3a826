"""Marks of real nodes' states: which file leads where, after every life and at every step of a transfer."""

from __future__ import annotations

import asyncio
import io
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorate.kernel import ROOT, Failed, Job
from quorate.machines.kv.machine import KvMachine
from quorate.parts.log.replicated import (
    ReadChunk,
    SnapshotInfo,
    TakeCommonSnapshot,
    TakeSnapshot,
    marks_of,
)
from quorate.runtime.errors import SnapshotCorrupt, StorageError
from quorate.runtime.marks import Marks
from quorate.service.replica import Replica

from tests.runtime.lives import CHUNK, Life, began, carried
from tests.runtime.servers import run


def test_a_snapshot_is_a_mark_and_a_start_finds_it(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        index = life.put(300)
        taken = await life.do(TakeSnapshot(index, 1))
        assert isinstance(taken, SnapshotInfo)
        assert (taken.index, taken.term) == (index, 1)
        assert taken.size_bytes < 100_000, "the state itself is not in it"
        assert (life.marked(), life.streams()) == ([index], [])
        expected = life.state()
        life.put(100)
        await life.stop()
        again = await began(tmp_path, index)
        assert again.state() == expected
        await again.stop()

    run(main())


def test_the_mark_that_the_journal_names_outlives_lives_that_end_before_naming_another(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        named = life.put(100)
        await life.do(TakeSnapshot(named, 1))
        expected = life.state()
        await life.stop()
        for _ in range(4):
            life = await began(tmp_path, named)
            assert life.marked() == [named], "the other one leads to pages that are about to change"
            assert life.state() == expected
            index = life.put(80)
            await life.do(TakeSnapshot(index, 1))
            assert life.marked() == [named, index]
            await life.stop()

    run(main())


def test_marks_below_the_one_that_is_named_go(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        indexes = []
        for _ in range(3):
            indexes.append(life.put(50))
            await life.do(TakeSnapshot(indexes[-1], 1))
        assert life.marked() == indexes[1:]
        assert isinstance(await life.do(ReadChunk(indexes[0], 0, CHUNK)), Failed)
        await life.stop()

    run(main())


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_follower_is_fed_from_a_mark_while_the_state_goes_on(tmp_path: Path, is_restarted: bool) -> None:
    async def main() -> None:
        source, target = await began(tmp_path / "source"), await began(tmp_path / "target")
        target.put(10)
        index = source.put(300)
        expected = source.state()
        await source.do(TakeSnapshot(index, 1))
        if is_restarted:
            await source.stop()
            source = await began(tmp_path / "source", index)
        source.put(500)
        written = await carried(source, target, index)
        assert written is not None
        assert written.complete
        assert source.streams() == target.streams() == [index]
        (await target.jobs.load(index))()
        assert target.state() == expected
        after = target.put(100)
        expected = target.state()
        await target.do(TakeSnapshot(after, 1))
        assert (target.marked(), target.streams()) == ([after], [index])
        await target.stop()
        await source.stop()
        target = await began(tmp_path / "target", after)
        assert target.state() == expected
        await target.stop()

    run(main())


def test_many_followers_share_one_stream(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        index = life.put(200)
        await life.do(TakeSnapshot(index, 1))
        store, writes = life.stores(), []
        write = store.write

        def watched(*args: Any, **options: Any) -> Any:
            writes.append(args[0])
            return write(*args, **options)

        store.write = watched  # type: ignore[method-assign]
        chunks = await asyncio.gather(*(life.do(ReadChunk(index, 0, CHUNK)) for _ in range(5)))
        assert len(set(chunks)) == 1
        assert writes == [index]
        await life.stop()

    run(main())


def test_a_state_that_came_from_another_node_takes_the_place_of_marks(tmp_path: Path) -> None:
    """Also where this node has marked the same index in a life before, and its journal never named that mark."""

    async def main() -> None:
        source = await began(tmp_path / "source")
        named = source.put(50)
        await source.do(TakeSnapshot(named, 1))
        await source.stop()
        shutil.copytree(tmp_path / "source", tmp_path / "target")
        source, target = await began(tmp_path / "source", named), await began(tmp_path / "target", named)
        for life in (source, target):
            index = life.put(200)
            await life.do(TakeSnapshot(index, 1))
        expected = source.state()
        await target.stop()  # the journal names the first still
        target = await began(tmp_path / "target", named)
        target.put(20)
        await carried(source, target, index)
        (await target.jobs.load(index))()
        assert target.state() == expected
        await target.stop()
        target = await began(tmp_path / "target", index)  # from the file that came
        assert target.state() == expected
        await target.stop()
        await source.stop()

    run(main())


def test_snapshots_that_nodes_compare_are_files(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        index = life.put(100)
        taken = await life.do(TakeCommonSnapshot(index, 1, piece_bytes=CHUNK))
        assert taken.root
        assert (life.marked(), life.streams()) == ([], [index])
        await life.stop()

    run(main())


def test_an_old_folder_has_a_file_and_its_next_snapshot_is_a_mark(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        old = life.put(100)
        life.stores().write(old, 1, life.replica.snapshot())  # as the release before did
        expected = life.state()
        await life.stop()
        life = await began(tmp_path, old)
        assert life.state() == expected
        new = life.put(100)
        await life.do(TakeSnapshot(new, 1))
        assert (life.marked(), life.streams()) == ([new], [old])
        newest = life.put(100)
        await life.do(TakeSnapshot(newest, 1))
        assert (life.marked(), life.streams()) == ([new, newest], [])
        await life.stop()

    run(main())


def _spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["mark", "table", "no table"])
def test_what_is_damaged_ends_the_node_unless_the_state_was_sent_to_somebody(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        for is_sent in (False, True):
            folder = tmp_path / str(is_sent)
            life = await began(folder)
            index = life.put(100)
            await life.do(TakeSnapshot(index, 1))
            if is_sent:
                await life.do(ReadChunk(index, 0, CHUNK))
            expected = life.state()
            await life.stop()
            (table,) = (folder / "kv").glob("store-*.lmdb")
            (mark,) = (folder / "snapshots" / "marks-0").glob("*.snap")
            if what == "mark":
                _spoil(mark, 300)
            elif what == "table":
                _spoil(table, table.read_bytes().index(b"99" * 20))
            else:
                table.unlink()
            life = Life(folder)
            if is_sent:
                (await life.jobs.load(index))()
                assert life.state() == expected
            else:
                with pytest.raises(SnapshotCorrupt) as caught:
                    await life.jobs.load(index)
                assert isinstance(caught.value, StorageError)
                assert "--repair" in str(caught.value)
            await life.stop()

    run(main())


def test_a_check_says_what_a_start_would_find_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        index = life.put(100)
        await life.do(TakeSnapshot(index, 1))
        expected = life.state()
        await life.stop()
        looking = KvMachine(tmp_path / "kv")
        Marks(life.stores, Replica(looking)).check(ROOT, index)
        looking.close()
        life = await began(tmp_path, index)
        assert life.state() == expected
        await life.stop()
        (table,) = (tmp_path / "kv").glob("store-*.lmdb")
        table.unlink()
        looking = KvMachine(tmp_path / "kv")
        with pytest.raises(SnapshotCorrupt, match="is gone"):
            Marks(life.stores, Replica(looking)).check(ROOT, index)

    run(main())


def test_a_mark_whose_job_was_cancelled_keeps_its_pages(tmp_path: Path) -> None:
    """Its file may be there by then, whether anybody hears of it or not."""

    async def main() -> None:
        life = await began(tmp_path)
        index = life.put(100)
        goes_on, is_begun = threading.Event(), threading.Event()
        store = life.stores(marks_of(ROOT))
        write: Callable[..., Any] = store.write

        def slow(*args: Any) -> Any:
            is_begun.set()
            goes_on.wait(60)
            return write(*args)

        store.write = slow  # type: ignore[method-assign]
        life.jobs.start(Job(ROOT, "job", TakeSnapshot(index, 1)), pytest.fail)
        await asyncio.get_running_loop().run_in_executor(None, is_begun.wait)
        life.jobs.cancel(ROOT, "job")
        goes_on.set()
        while life.jobs._marks.held(ROOT, index) is None:  # noqa: ASYNC110 (nothing is set)
            await asyncio.sleep(0.001)
        assert life.marked() == [index]
        expected = life.state()
        for _ in range(10):
            life.put(100)
            life.machine.store.commit()
        await life.stop()
        again = await began(tmp_path, index)
        assert again.state() == expected
        await again.stop()

    run(main())


def test_a_stream_is_what_a_snapshot_of_then_was(tmp_path: Path) -> None:
    async def main() -> None:
        life = await began(tmp_path)
        index = life.put(100)
        expected = io.BytesIO()
        life.replica.snapshot()(expected)
        await life.do(TakeSnapshot(index, 1))
        life.put(100)
        await life.do(ReadChunk(index, 0, CHUNK))
        with life.stores().open(index) as file:
            assert file.read() == expected.getvalue()
        await life.stop()

    run(main())
