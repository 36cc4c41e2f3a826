"""The store of blocks: all of it is checked when it is opened, and what is wrong is named."""

from pathlib import Path

import lmdb
import pytest

from quorate.machines.chain.chain_store import TABLES, ChainStore, StoreDamaged

from tests.ledger.payers import CHAIN, PAYERS, genesis_of
from tests.machines.test_ledger_machine import apply, batch, machine_in

BLOCKS = 5


def filled(folder: Path, map_bytes: int = 1 << 20) -> Path:
    machine = machine_in(folder)
    for height in range(1, BLOCKS + 1):
        apply(machine, batch(height, 3))
    machine.close()
    return folder / "chain.lmdb"


def values(path: Path) -> list[tuple[str, bytes, bytes]]:
    with lmdb.open(str(path), subdir=False, max_dbs=8) as env:
        tables = [(name, env.open_db(name.encode())) for name in TABLES]
        with env.begin() as txn:
            return [(name, bytes(k), bytes(v)) for name, table in tables for k, v in txn.cursor(db=table)]


def put(path: Path, table: str, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(path), subdir=False, max_dbs=8) as env:
        db = env.open_db(table.encode())
        with env.begin(write=True) as txn:
            if value is None:
                txn.delete(key, db=db)
            else:
                txn.put(key, value, db=db)


def test_a_flipped_byte_in_any_value_is_found_at_open_and_names_its_block(tmp_path: Path) -> None:
    path = filled(tmp_path)
    for table, key, value in values(path):
        for at in {0, len(value) // 2, len(value) - 1}:
            flipped = bytearray(value)
            flipped[at] ^= 4
            put(path, table, key, bytes(flipped))
            with pytest.raises(StoreDamaged) as found:
                ChainStore(path, CHAIN)
            text = found.value.args[0]
            assert "move the file away" in text
            if table != "meta":
                assert "block " in text, text
        put(path, table, key, value)
    ChainStore(path, CHAIN).close()


def test_a_missing_or_further_entry_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path)
    for table, key, value in values(path):
        if table != "meta":
            put(path, table, key, None)
            with pytest.raises(StoreDamaged, match="block"):
                ChainStore(path, CHAIN)
            put(path, table, key, value)
            further = bytes((key[0] ^ 255,)) + key[1:]
            put(path, table, further, value)
            with pytest.raises(StoreDamaged, match=f"entries of {table}"):
                ChainStore(path, CHAIN)
            put(path, table, further, None)


def test_flipped_bytes_of_the_file_itself_never_give_another_block(tmp_path: Path) -> None:
    """Some stand where nothing is; then all is as it was. None is read as something else."""
    path = filled(tmp_path)
    whole = path.read_bytes()
    store = ChainStore(path, CHAIN)
    blocks = list(store.last(BLOCKS, BLOCKS))
    store.close()
    body = b"".join(blocks[2].transactions)
    found = 0
    start = whole.index(body)
    for at in range(start, start + len(body), 40):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StoreDamaged, match="block 3 is damaged"):
            ChainStore(path, CHAIN)
        found += 1
    assert found > 10


def test_a_file_of_another_chain_or_format_is_refused_in_words(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with pytest.raises(StoreDamaged, match=r"it is of the chain .* Put back what they were"):
        ChainStore(path, genesis_of(PAYERS[:1]).id)
    path.write_bytes(b"no lmdb" * 10_000)
    with pytest.raises(StoreDamaged, match=r"chain\.lmdb"):
        ChainStore(path, CHAIN)


def test_the_map_grows_under_what_is_written(tmp_path: Path) -> None:
    machine = machine_in(tmp_path)
    for height in range(1, 40):
        apply(machine, batch(height, 20))
    machine.flush(waits=True)
    blocks = list(machine.store.last(39, 39))
    machine.close()
    small = ChainStore(tmp_path / "small.lmdb", CHAIN, map_bytes=1 << 17)
    small.write(blocks)
    assert small.head.height == 39
    assert list(small.last(2, 39)) == blocks[-2:]
    small.close()


def test_a_write_that_fails_leaves_the_head_where_it_was(tmp_path: Path) -> None:
    """The head is the last put of the transaction: a block that does not follow takes all of it back."""
    machine = machine_in(tmp_path)
    for height in range(1, 5):
        apply(machine, batch(height))
    machine.flush(waits=True)
    blocks = list(machine.store.last(4, 4))
    machine.close()
    other = ChainStore(tmp_path / "other.lmdb", CHAIN)
    with pytest.raises(AssertionError):
        other.write([blocks[0], blocks[1], blocks[3]])
    other.close()
    again = ChainStore(tmp_path / "other.lmdb", CHAIN)
    assert again.head == (0, CHAIN)
    again.write(blocks)
    assert again.head == (4, blocks[3].id)
    again.close()


def test_a_file_that_was_cut_off_is_damaged_and_kills_nobody(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = path.read_bytes()
    texts = []
    for size in range(4096, len(data), 2048):
        path.write_bytes(data[:size])
        try:
            store = ChainStore(path, CHAIN)
        except StoreDamaged as error:
            texts.append(error.args[0])
        else:  # its end was not in use
            assert store.head.height == BLOCKS
            store.close()
    assert texts
    assert all("move the file away" in text for text in texts)
