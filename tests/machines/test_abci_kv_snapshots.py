"""Snapshots of the kvstore: what one app gives another takes over, and nothing else."""

from base64 import b64encode

import msgspec
import pytest
from msgspec.structs import replace

from quorate.ledger.comet.abci.contents import AppSnapshot, ValidatorUpdate
from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import (
    Request,
    RequestApplySnapshotChunk,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestListSnapshots,
    RequestLoadSnapshotChunk,
    RequestOfferSnapshot,
)
from quorate.ledger.comet.abci.response_messages import (
    ApplyResult,
    OfferResult,
    ResponseApplySnapshotChunk,
    ResponseInfo,
    ResponseLoadSnapshotChunk,
)
from quorate.ledger.comet.validators import ValidatorKey
from quorate.machines.abci.kv_snapshots import SyncedKVStoreApp, WrittenState, sha256

KEYS = [bytes([n]) * 32 for n in range(3)]


def grown(order: int = 1) -> SyncedKVStoreApp:
    """After five blocks, with snapshots of heights 2 and 4. ``order``: in which keys come."""
    app = SyncedKVStoreApp(2, chunk_bytes=50)
    app.answer(RequestInitChain(validators=tuple(ValidatorUpdate(ValidatorKey(key), 5) for key in KEYS[:2])))
    for height in range(1, 6):
        txs = [b"key%d.%d=value%d" % (height, n, n) for n in range(3)][::order]
        txs.append(b"val=!%s!%d" % (b64encode(KEYS[2]), height))
        app.answer(RequestFinalizeBlock(tuple(txs), height=height))
        app.answer(RequestCommit())
    return app


def listed(app: SyncedKVStoreApp) -> tuple[AppSnapshot, ...]:
    return app.list_snapshots(RequestListSnapshots()).snapshots


def chunks_of(app: SyncedKVStoreApp, snapshot: AppSnapshot) -> list[bytes]:
    return [
        app.load_snapshot_chunk(RequestLoadSnapshotChunk(snapshot.height, snapshot.format, index)).chunk
        for index in range(snapshot.chunks)
    ]


HASH = b"\x20" + bytes(7)  # of 16 transactions


def test_a_new_app_takes_over_what_another_gives() -> None:
    source, target, checker = grown(), SyncedKVStoreApp(2), GrammarChecker()

    def ask(request: Request) -> object:
        response = target.answer(request)
        checker.observe(request, response)
        return response

    snapshot = listed(source)[-1]
    assert [each.height for each in listed(source)] == [2, 4]
    assert snapshot.chunks > 3
    ask(RequestInitChain())
    ask(RequestOfferSnapshot(snapshot, HASH))
    for index, chunk in enumerate(chunks_of(source, snapshot)):
        assert ask(RequestApplySnapshotChunk(index, chunk, "n")) == ResponseApplySnapshotChunk(ApplyResult.ACCEPT)
    info = ask(RequestInfo())
    assert isinstance(info, ResponseInfo)
    assert (info.last_block_height, info.last_block_app_hash) == (4, HASH)
    block = RequestFinalizeBlock((b"a=b",), height=5)
    ask(block)
    ask(RequestCommit())
    again = grown()
    assert target.pairs == {key: v for key, v in again.pairs.items() if not key.startswith(b"key5")} | {b"a": b"b"}
    assert target.powers == {KEYS[0]: 5, KEYS[1]: 5, KEYS[2]: 4}


def test_equal_states_are_equal_snapshots_however_they_came_about() -> None:
    assert listed(grown()) == listed(grown(order=-1))


def test_chunks_that_are_not_there_are_empty() -> None:
    app = grown()
    snapshot = listed(app)[0]
    for height, format_, index in ((3, 1, 0), (2, 2, 0), (2, 1, snapshot.chunks)):
        request = RequestLoadSnapshotChunk(height, format_, index)
        assert app.load_snapshot_chunk(request) == ResponseLoadSnapshotChunk()
    assert app.load_snapshot_chunk(RequestLoadSnapshotChunk(2, 1, 0)).chunk


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, OfferResult.ACCEPT),
        ({"format": 2}, OfferResult.REJECT_FORMAT),
        ({"chunks": 0, "metadata": b""}, OfferResult.REJECT),
        ({"chunks": 1}, OfferResult.REJECT),
        ({"hash": bytes(32)}, OfferResult.REJECT),
        ({"metadata": bytes(32)}, OfferResult.REJECT),
    ],
)
def test_which_offers_are_taken(changes: dict[str, object], result: OfferResult) -> None:
    app, offered = SyncedKVStoreApp(2), replace(listed(grown())[0], **changes)
    assert app.offer_snapshot(RequestOfferSnapshot(offered, HASH)).result is result
    assert app.offer_snapshot(RequestOfferSnapshot()).result is OfferResult.REJECT
    applied = app.apply_snapshot_chunk(RequestApplySnapshotChunk(0, b"x"))
    assert applied.result is ApplyResult.ABORT


def test_a_wrong_chunk_is_fetched_again_from_somebody_else() -> None:
    source, app = grown(), SyncedKVStoreApp(2)
    snapshot = listed(source)[1]
    app.offer_snapshot(RequestOfferSnapshot(snapshot, HASH))
    wrong = app.apply_snapshot_chunk(RequestApplySnapshotChunk(1, b"x", "liar"))
    assert wrong == ResponseApplySnapshotChunk(ApplyResult.RETRY, (1,), ("liar",))
    beyond = app.apply_snapshot_chunk(RequestApplySnapshotChunk(snapshot.chunks, b"x", "liar"))
    assert beyond.result is ApplyResult.ABORT
    for index, chunk in enumerate(chunks_of(source, snapshot)):
        assert app.apply_snapshot_chunk(RequestApplySnapshotChunk(index, chunk)).result is ApplyResult.ACCEPT
    assert app.height == 4


GOOD = WrittenState(4, 16, [(b"a", b"1"), (b"b", b"2")], [(KEYS[0], 5), (KEYS[1], 5)])


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (msgspec.msgpack.encode(GOOD), ApplyResult.ACCEPT),
        (msgspec.msgpack.encode(replace(GOOD, size=15)), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(replace(GOOD, height=5)), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(replace(GOOD, pairs=GOOD.pairs[::-1])), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(replace(GOOD, pairs=GOOD.pairs[:1] * 2)), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(replace(GOOD, powers=[(KEYS[0], 0)])), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(replace(GOOD, powers=[(b"k", 1)])), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(replace(GOOD, powers=[(KEYS[0], 1 << 62)])), ApplyResult.REJECT_SNAPSHOT),
        (msgspec.msgpack.encode(GOOD)[:-1], ApplyResult.REJECT_SNAPSHOT),
        (b"\xc1", ApplyResult.REJECT_SNAPSHOT),
    ],
)
def test_a_snapshot_that_is_well_formed_and_wrong(data: bytes, result: ApplyResult) -> None:
    """Its digests fit, as a liar made them."""
    app = SyncedKVStoreApp(2)
    metadata = sha256(data).digest()
    snapshot = AppSnapshot(4, 1, 1, sha256(metadata).digest(), metadata)
    assert app.offer_snapshot(RequestOfferSnapshot(snapshot, HASH)).result is OfferResult.ACCEPT
    assert app.apply_snapshot_chunk(RequestApplySnapshotChunk(0, data)).result is result
    assert app.height == (4 if result is ApplyResult.ACCEPT else 0)
