"""The index beside a plain search over the same events, and what it does with trouble."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from quorate.ledger.comet.abci.response_messages import ResponseFinalizeBlock
from quorate.ledger.comet.block_ids import NIL
from quorate.ledger.comet.blocks import Block, BlockData, tx_hash
from quorate.ledger.comet.headers import Header
from quorate.ledger.comet.results import APP_EVENT, AppEvent, EventAttribute, ExecTxResult
from quorate.ledger.comet.rpc.queries import parse_query
from quorate.ledger.comet.rpc.view import DecidedHeight, RPCRefusal
from quorate.service.comet import indexer as module
from quorate.service.comet.indexer import ChainIndexer


def event(kind: str, **values: str) -> bytes:
    """An event; what ends in ``_`` is not to be indexed."""
    attributes = tuple(EventAttribute(key.rstrip("_"), value, not key.endswith("_")) for key, value in values.items())
    return APP_EVENT.encode(AppEvent(kind, attributes))


def height(at: int, *txs: tuple[bytes, list[bytes]], events: tuple[bytes, ...] = ()) -> DecidedHeight:
    block = Block(Header(height=at), BlockData(tuple(tx for tx, _ in txs)))
    results = tuple(ExecTxResult(log=f"{at}", events=tuple(own)) for _, own in txs)
    return DecidedHeight(NIL, block, ResponseFinalizeBlock(events, results))


CHAIN = [
    height(1, (b"a", [event("pay", to="ann", sum="5")]), (b"b", [event("pay", to="bob", sum="12.5")])),
    height(2, events=(event("epoch", number="1", secret_="x"),)),
    height(3, (b"c", [event("pay", to="ann", sum="7"), event("pay", to="bob", sum=" 900 ")])),
    height(
        4,
        (b"a", [event("pay", to="ann/bob", sum="8atom", note_="n")]),
        (b"d", [b"\xff\xff", event("tx", hash="z", height="9")]),
    ),
    height(
        5,
        (b"e", [event("", to="x"), event("pay", to="x"), event("pay", to="")]),
        events=(event("epoch", number="2"),),
    ),
]


def with_index(folder: Path, test: Callable[[ChainIndexer], Awaitable[None]]) -> None:
    async def run() -> None:
        indexer = ChainIndexer(folder)
        await indexer.open()
        try:
            for decided in CHAIN:
                await indexer.add(decided)
            await test(indexer)
        finally:
            await indexer.close()

    asyncio.run(run())


FOUND = {
    "pay.to = 'ann'": [b"1a", b"3c"],
    "pay.to = 'bob' AND pay.sum > 100": [b"3c"],
    "pay.to = 'ann' AND pay.sum > 100": [],  # of one transaction, but not of one event
    "pay.sum > 5": [b"1b", b"3c"],
    "pay.sum >= 5 AND pay.sum < 13": [b"1a", b"1b", b"3c"],
    "pay.sum = 5": [b"1a"],
    "pay.sum = 5.0": [],  # the text counts
    "pay.to CONTAINS 'bob'": [b"1b", b"3c", b"4a"],
    "pay.to EXISTS AND tx.height > 3": [b"4a", b"5e"],
    "pay.to EXISTS AND tx.height = 3": [b"3c"],
    "pay.note EXISTS": [],
    "tx.height EXISTS": [b"1a", b"1b", b"3c", b"4a", b"4d", b"5e"],
    "tx.height > 1 AND tx.height < 4": [b"3c"],
    "tx.height > 3.5": [b"4a", b"4d", b"5e"],
    "tx.height = 9999999999999999999999": [],
    "epoch.number EXISTS": [],  # of blocks
    "pay.sum > DATE 2026-01-01": [],
    "tx.height = 3 AND tx.height = 4": [],
    "tx.hash = '3E23E8160039594A33894F6564E1B1348BBD7A0088D42C4ACB73EEAED59C009D'": [b"1b"],
    "tx.hash = '00'": [],
    "tx.height = 9": [],  # though an app calls something so
}


@pytest.mark.parametrize("text", FOUND)
def test_transactions(tmp_path: Path, text: str) -> None:
    async def test(indexer: ChainIndexer) -> None:
        page = await indexer.search_txs(parse_query(text), descending=False, skip=0, count=100)
        assert [b"%d%b" % (tx.height, tx.tx) for tx in page.txs] == FOUND[text]
        assert page.total == len(page.txs)
        back = await indexer.search_txs(parse_query(text), descending=True, skip=0, count=100)
        assert list(back.txs) == list(page.txs)[::-1]

    with_index(tmp_path, test)


@pytest.mark.parametrize(
    ("text", "heights"),
    [
        ("block.height > 2", [3, 4, 5]),
        ("block.height = 2", [2]),
        ("epoch.number EXISTS", [2, 5]),
        ("epoch.number > 1", [5]),
        ("epoch.number EXISTS AND block.height < 5", [2]),
        ("epoch.secret EXISTS", []),
        ("pay.to EXISTS", []),
    ],
)
def test_blocks(tmp_path: Path, text: str, heights: list[int]) -> None:
    async def test(indexer: ChainIndexer) -> None:
        page = await indexer.search_blocks(parse_query(text), descending=False, skip=0, count=100)
        assert (page.total, list(page.heights)) == (len(heights), heights)
        page = await indexer.search_blocks(parse_query(text), descending=True, skip=1, count=1)
        assert (page.total, list(page.heights)) == (len(heights), heights[::-1][1:2])

    with_index(tmp_path, test)


def test_a_height_is_indexed_once_and_is_there_after_a_restart(tmp_path: Path) -> None:
    async def again(indexer: ChainIndexer) -> None:
        assert await indexer.highest() == 5
        page = await indexer.search_txs(parse_query("tx.height > 0"), descending=False, skip=0, count=100)
        assert page.total == 6
        assert (await indexer.search_txs(parse_query("pay.to EXISTS"), descending=False, skip=4, count=2)).total == 5

    with_index(tmp_path, again)
    with_index(tmp_path, again)


def test_the_last_of_equal_transactions(tmp_path: Path) -> None:
    async def test(indexer: ChainIndexer) -> None:
        found = await indexer.find_tx(tx_hash(b"a"))
        assert found is not None
        assert (found.height, found.index, found.result.log) == (4, 0, "4")
        assert await indexer.find_tx(b"") is None

    with_index(tmp_path, test)


def test_a_search_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(indexer: ChainIndexer) -> None:
        many = [event("pay", to=f"{i}") for i in range(2000)]
        await indexer.add(height(6, (b"f", many)))
        wanted = parse_query("pay.to EXISTS AND pay.to CONTAINS '1' AND pay.to < 1000")
        assert (await indexer.search_txs(wanted, descending=False, skip=0, count=1)).total == 1
        monkeypatch.setattr(module, "STEPS_MAX", 3 * module.STEPS_BETWEEN_LOOKS)
        with pytest.raises(RPCRefusal, match="takes too long"):
            await indexer.search_txs(wanted, descending=False, skip=0, count=1)
        assert (await indexer.search_txs(parse_query("pay.to = 'ann'"), descending=False, skip=0, count=1)).total == 2

    with_index(tmp_path, test)


def test_a_page_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(indexer: ChainIndexer) -> None:
        wanted = parse_query("tx.height > 0")
        found = await indexer.search_txs(wanted, descending=False, skip=0, count=6)
        assert len(found.txs) == 6
        monkeypatch.setattr(module, "PAGE_BYTES_MAX", 60)
        with pytest.raises(RPCRefusal, match="too large for one page"):
            await indexer.search_txs(wanted, descending=False, skip=0, count=6)
        assert len((await indexer.search_txs(wanted, descending=False, skip=0, count=1)).txs) == 1

    with_index(tmp_path, test)


def test_what_an_event_says_twice_and_what_many_transactions_say(tmp_path: Path) -> None:
    twice = APP_EVENT.encode(AppEvent("pay", (EventAttribute("to", "zoe", True),) * 2))
    many = height(6, *((b"%d" % number, [event("pay", to="all"), twice]) for number in range(300)))

    async def test(indexer: ChainIndexer) -> None:
        await indexer.add(many)
        query = parse_query("pay.to = 'zoe' AND pay.to CONTAINS 'o'")
        page = await indexer.search_txs(query, descending=True, skip=100, count=2)
        assert page.total == 300
        assert [(found.index, found.tx) for found in page.txs] == [(199, b"199"), (198, b"198")]
        query = parse_query("pay.to = 'zoe' AND pay.to = 'all'")
        assert (await indexer.search_txs(query, descending=False, skip=0, count=2)).total == 0

    with_index(tmp_path, test)


def test_a_file_of_an_earlier_format_is_made_anew(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / module.INDEX_FILE)) as file:
        file.executescript(
            "CREATE TABLE heights (height INTEGER PRIMARY KEY); INSERT INTO heights VALUES (1), (2), (3);"
        )

    async def run() -> None:
        for highest in (0, 5):
            indexer = ChainIndexer(tmp_path)
            await indexer.open()
            assert await indexer.highest() == highest
            for decided in CHAIN:
                await indexer.add(decided)
            await indexer.close()

    asyncio.run(run())
