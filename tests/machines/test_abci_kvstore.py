"""The kvstore: a recorded conversation with CometBFT's, byte for byte, and the rules that it does not show."""

import json
from base64 import b64encode
from pathlib import Path

import pytest

from quorate.ledger.comet.abci.app_end import AppEnd
from quorate.ledger.comet.abci.contents import Misbehavior, MisbehaviorType, ValidatorUpdate, VotingValidator
from quorate.ledger.comet.abci.request_messages import (
    RequestCheckTx,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
)
from quorate.ledger.comet.abci.response_messages import (
    ProposalStatus,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseQuery,
)
from quorate.ledger.comet.validators import TOTAL_POWER_MAX, ValidatorKey
from quorate.machines.abci.kvstore import INVALID_FORMAT, KVStoreApp, KVStoreError

TALK = Path(__file__).parents[1] / "ledger" / "comet" / "recorded" / "abci.jsonl"
KEYS = [ValidatorKey(bytes([n]) * 32) for n in range(4)]


def test_it_says_what_cometbfts_says() -> None:
    """`abci-cli kvstore` of CometBFT 0.38.26 was asked this."""
    app, end = KVStoreApp(), AppEnd()
    for line in map(json.loads, TALK.read_text().splitlines()):
        requests = end.receive(bytes.fromhex(line["sent"]), 0.0)
        assert end.answer(map(app.answer, requests)).hex() == line["received"], line["calls"]


def change(key: ValidatorKey, power: int | str) -> bytes:
    return b"val=ed25519!%s!%s" % (b64encode(key.ed25519), str(power).encode())


def begun(*powers: int) -> KVStoreApp:
    app = KVStoreApp()
    app.answer(RequestInitChain(validators=tuple(map(ValidatorUpdate, KEYS, powers))))
    return app


def run(app: KVStoreApp, *txs: bytes, misbehavior: tuple[Misbehavior, ...] = ()) -> ResponseFinalizeBlock:
    response = app.answer(RequestFinalizeBlock(txs, misbehavior=misbehavior, height=app.height + 1))
    assert isinstance(response, ResponseFinalizeBlock)
    app.answer(RequestCommit())
    return response


def updates(response: ResponseFinalizeBlock) -> list[tuple[int, int]]:
    return [(update.pub_key.ed25519[0], update.power) for update in response.validator_updates]


@pytest.mark.parametrize(
    ("tx", "is_good"),
    [
        (b"a=b", True),
        (b"a:b", True),
        (b"=b", False),
        (b"a=", False),
        (b"=", False),
        (b":b", False),
        (b"a:", False),
        (b"", False),
        (b"ab", False),
        (b"a=b=c", False),
        (b"a:b:c", False),
        (b"a:b=c", False),
        (b"\xff=\x00", True),
        (b"val=1", False),
        (b"val=!!1", True),
        (b"val=!!", False),
        (b"val=!!-1", False),
        (b"val=!!+1", True),
        (b"val=!!-0", True),
        (b"val=!!1_0", False),
        (b"val=!! 1", False),
        (b"val=!!9223372036854775807", True),
        (b"val=!!9223372036854775808", False),
        (b"val=!!" + b"9" * 5000, False),
        (b"val=any!YQ==!1", True),
        (b"val=any!YQ=\r\n=!1", True),
        (b"val=any!YQ!1", False),
        (b"val=any!YQ== !1", False),
        (b"val=any!Y-==!1", False),
        (b"val=any!YQ==!1!", False),
        (b"val", False),
    ],
)
def test_which_transactions_may_wait(tx: bytes, is_good: bool) -> None:
    app = KVStoreApp()
    assert app.check_tx(RequestCheckTx(tx)).code == (0 if is_good else INVALID_FORMAT)
    status = ProposalStatus.ACCEPT if is_good else ProposalStatus.REJECT
    assert app.process_proposal(RequestProcessProposal((b"x=y", tx))).status is status
    kept = app.prepare_proposal(RequestPrepareProposal(1 << 20, (tx,))).txs
    assert kept == ((tx.replace(b":", b"=", 1),) if is_good else ())
    if is_good:
        run(app, tx)
    else:
        with pytest.raises(KVStoreError, match="neither key=value nor val="):
            run(app, tx)


def test_nothing_is_seen_before_commit() -> None:
    app = begun(1)
    app.answer(RequestFinalizeBlock((b"a=1", change(KEYS[1], 5)), height=1))
    info = app.info(RequestInfo())
    assert (info.last_block_height, info.data) == (0, '{"size":0}')
    assert app.query(RequestQuery(b"a")).log == "does not exist"
    assert app.query(RequestQuery(KEYS[1].ed25519, "/val")).value == b""
    app.answer(RequestFinalizeBlock((b"a=2",), height=1))  # the engine came back and asks again
    app.answer(RequestCommit())
    info = app.info(RequestInfo())
    assert (info.last_block_height, info.data, info.last_block_app_hash) == (1, '{"size":1}', b"\x02" + bytes(7))
    assert app.query(RequestQuery(b"a")) == ResponseQuery(log="exists", key=b"a", value=b"2", height=1)
    proven = ResponseQuery(log="does not exist", index=-1, key=b"b", height=1)
    assert app.query(RequestQuery(b"b", prove=True)) == proven
    assert app.powers == {KEYS[0].ed25519: 1}


def test_validators() -> None:
    app = begun(10, 10)
    assert updates(run(app, change(KEYS[2], 3), change(KEYS[0], 7))) == [(2, 3), (0, 7)]
    assert updates(run(app, change(KEYS[1], 0))) == [(1, 0)]
    assert app.powers == {KEYS[0].ed25519: 7, KEYS[2].ed25519: 3}
    found = app.query(RequestQuery(KEYS[2].ed25519, "/val"))
    assert found.value.hex() == "26" + "0a220a20" + "02" * 32 + "1003"
    assert app.query(RequestQuery(KEYS[1].ed25519, "/val")).value == b""


@pytest.mark.parametrize(
    ("txs", "codes", "expected"),
    [
        ([b"val=secp256k1!YQ==!1"], [2], []),
        ([b"val=ed25519!YQ==!1"], [2], []),
        ([change(KEYS[3], 0)], [2], []),  # not there
        ([change(KEYS[0], 0), change(KEYS[1], 0)], [0, 2], [(0, 0)]),  # the last one
        ([change(KEYS[2], TOTAL_POWER_MAX)], [2], []),
        ([change(KEYS[2], TOTAL_POWER_MAX - 20)], [0], [(2, TOTAL_POWER_MAX - 20)]),
        ([change(KEYS[2], 5), change(KEYS[0], 1), change(KEYS[2], 6)], [0, 0, 0], [(2, 6), (0, 1)]),
        ([change(KEYS[2], 5), change(KEYS[2], 0)], [0, 0], []),  # came and went
        ([change(KEYS[0], 0), change(KEYS[0], 0)], [0, 2], [(0, 0)]),
    ],
)
def test_changes_that_would_stop_the_engine(
    txs: list[bytes], codes: list[int], expected: list[tuple[int, int]]
) -> None:
    app = begun(10, 10)
    response = run(app, *txs)
    assert [result.code for result in response.tx_results] == codes
    assert updates(response) == expected


def double_vote(key: ValidatorKey, power: int) -> Misbehavior:
    return Misbehavior(MisbehaviorType.DUPLICATE_VOTE, VotingValidator(key.address, power), 1)


def test_a_liar_loses_power_once_for_each_block_with_evidence() -> None:
    app = begun(10, 10)
    twice = (double_vote(KEYS[1], 10), double_vote(KEYS[1], 10), double_vote(KEYS[3], 10))
    attack = Misbehavior(MisbehaviorType.LIGHT_CLIENT_ATTACK, VotingValidator(KEYS[0].address, 10), 1)
    assert updates(run(app, misbehavior=(*twice, attack))) == [(1, 9)]
    assert updates(run(app, change(KEYS[1], 4), misbehavior=(double_vote(KEYS[1], 9),))) == [(1, 4)]
    assert updates(run(app, misbehavior=(double_vote(KEYS[1], 1),))) == [(1, 0)]
    assert updates(run(app, misbehavior=(double_vote(KEYS[0], 1),))) == []  # the last one stays


def test_a_new_chain_begins_empty() -> None:
    app = begun(10)
    run(app, b"a=b")
    app.answer(RequestInitChain(validators=(ValidatorUpdate(KEYS[3], 5), ValidatorUpdate(KEYS[2], 0))))
    assert (app.pairs, app.height, app.size, app.powers) == ({}, 0, 0, {KEYS[3].ed25519: 5})


def test_proposals_are_cut_and_old_blocks_let_go() -> None:
    app = KVStoreApp(retain_blocks=2)
    request = RequestPrepareProposal(10, (b"a:b", b"nothing", b"c=d", b"e=f"))
    assert app.prepare_proposal(request).txs == (b"a=b", b"c=d")
    commits = []
    for height in range(1, 4):
        app.answer(RequestFinalizeBlock(height=height))
        commits.append(app.answer(RequestCommit()))
    assert commits == [ResponseCommit(), ResponseCommit(1), ResponseCommit(2)]
