"""The blocks that a node keeps: in order, once, found by height and hash, pruned, and made anew from the log."""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.commits import COMMIT
from quorate.protocols.tendermint.app_messages import BlockApplied
from quorate.runtime.errors import WorkLeft
from quorate.service.comet import file_thread
from quorate.service.comet.block_store import FILE_NAME, BlockStore, BlockStoreFailed
from quorate.service.comet.chain_blocks import ChainBlocks
from quorate.service.comet.chain_service import ChainService

from tests.protocols.tendermint.one_app_node import OneAppNode


def applied() -> list[BlockApplied]:
    node = OneAppNode()
    node.submits(b"a=1")
    return node.applied


APPLIED = applied()
assert len(APPLIED) == 3


def opened(folder: Path) -> BlockStore:
    store = BlockStore(folder)
    store.open()
    return store


def test_all_of_a_block_is_found_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert (store.base, store.height, store.get(1)) == (0, 0, None)
    store.add(APPLIED)
    assert (store.base, store.height) == (1, 3)
    for its in APPLIED:
        found = store.get(its.height)
        assert found is not None
        assert (BLOCK.encode(found.block), found.size_bytes) == (its.block, len(its.block))
        assert COMMIT.encode(found.seen_commit) == its.commit
        assert (found.validators, found.params) == (its.validators, its.params.whole())
        assert len(found.answer.tx_results) == len(found.block.data.txs)
        assert store.height_of(found.block.header.hash()) == its.height
    assert store.height_of(bytes(32)) is None
    assert store.get(4) is None


def test_a_gap_before_the_next_block_empties_the_store(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(APPLIED[:1])
    store.begin_after(1)
    assert (store.base, store.height) == (1, 1), "there is none"
    store.begin_after(2)
    assert (store.base, store.height, store.get(1)) == (0, 0, None)
    store.add(APPLIED[2:])
    assert (store.base, store.height) == (3, 3)


def test_what_is_here_already_is_left(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(APPLIED[:2])
    store.close()
    store = opened(tmp_path)
    assert store.height == 2
    store.add(APPLIED)
    store.add(APPLIED)
    assert (store.base, store.height) == (1, 3)


def test_a_crash_in_the_middle_leaves_all_or_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    broken = replace(APPLIED[2], height=7)
    with pytest.raises(BlockStoreFailed, match="it ends at height 2, and 7 comes next"):
        store.add([*APPLIED[:2], broken])
    assert (store.base, store.height) == (0, 0)
    assert opened(tmp_path).height == 0


def test_pruning_keeps_what_is_asked_for_and_the_last(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(APPLIED)
    assert (store.prune(2), store.base, store.get(1)) == (1, 2, None)
    assert store.get(2) is not None
    assert (store.prune(99), store.base, store.height) == (1, 3, 3)
    store.add(APPLIED)
    assert (store.base, store.height) == (3, 3), "pruned blocks do not come back"


def test_a_file_of_another_chain_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(APPLIED[:1])
    block = BLOCK.decode(APPLIED[0].block)
    other = replace(block, header=replace(block.header, chain_id="another"))
    with pytest.raises(
        BlockStoreFailed, match=r"its block 1 is not the one of this node's chain\. Stop the node, remove"
    ):
        store.add([replace(APPLIED[0], block=BLOCK.encode(other))])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"nothing that SQLite knows" * 100)
    with pytest.raises(BlockStoreFailed, match=FILE_NAME):
        opened(tmp_path)


def test_equal_sets_are_kept_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(APPLIED)
    store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as file:
        assert file.execute("SELECT COUNT(*) FROM shared").fetchone()[0] <= 4


class HangingStore(BlockStore):
    """On a disk that answers when it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.let_go = threading.Event()

    def add(self, blocks: Sequence[BlockApplied]) -> None:
        self.let_go.wait()
        super().add(blocks)


def test_a_node_that_stops_waits_for_no_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_thread, "STOP_S_MAX", 0.05)

    async def main() -> None:
        store = HangingStore(tmp_path)
        store.open()
        blocks = ChainBlocks(store, pytest.fail)
        blocks.take(APPLIED[:1])
        await asyncio.sleep(0)
        try:
            with pytest.raises(WorkLeft, match=r"blocks\.sqlite was left as it is after 0\.05 s: .* next start"):
                await blocks.stop()
        finally:
            store.let_go.set()

    asyncio.run(main())


def test_a_node_that_stops_writes_what_waits_and_closes_the_store(tmp_path: Path) -> None:
    async def main() -> None:
        blocks = ChainBlocks(opened(tmp_path), pytest.fail)
        for its in APPLIED:
            blocks.take([its])
        await blocks.stop()

    asyncio.run(main())
    assert opened(tmp_path).height == len(APPLIED)


def test_a_service_whose_node_never_started_stops(tmp_path: Path) -> None:
    asyncio.run(ChainService(ChainBlocks(BlockStore(tmp_path), pytest.fail), pytest.fail).stop())
