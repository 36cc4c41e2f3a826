"""State sync between two nodes, message by message: proofs, each answer of an app, crashes, and what may be dropped.

The donor has almost all of the power, so its word alone is enough.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import AppEnded
from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.abci.response_messages import ApplyResult, OfferResult
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, Commit, CommitSig
from quorate.ledger.comet.headers import HEADER, Header
from quorate.ledger.comet.params import CONSENSUS_PARAMS, BlockParams, ConsensusParams, Duration, EvidenceParams
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.verification import NotEnoughTrust
from quorate.machines.abci.kv_snapshots import SyncedKVStoreApp
from quorate.protocols.tendermint.app_messages import BeyondReach, LogBegins, Outcome
from quorate.protocols.tendermint.chunk_order import ChunkOrder
from quorate.protocols.tendermint.messages import Decision, Here
from quorate.protocols.tendermint.named_blocks import name_of_id
from quorate.protocols.tendermint.stands import check_stand
from quorate.protocols.tendermint.sync_liars import WORSE
from quorate.protocols.tendermint.sync_messages import (
    Aimed,
    AskSnapshots,
    Based,
    Forgotten,
    NewestSnapshot,
    SnapshotChunk,
    SnapshotOffer,
    StandProof,
)

from tests.protocols.tendermint.one_app_node import ALONE, OneAppNode
from tests.protocols.tendermint.one_node import ME, OTHERS, SCHEME, blames, written

NEW = OTHERS[0]
FAR = Here(1000)
SMALL = ALONE.but(chunk_bytes=16)


class Letting(SyncedKVStoreApp):
    """Small snapshots, and evidence that is soon too old."""

    def __init__(self) -> None:
        super().__init__(snapshot_interval=4, chunk_bytes=40)

    def init_chain(self, request: requests.RequestInitChain) -> responses.ResponseInitChain:
        evidence = EvidenceParams(1, Duration(0, 1), 1 << 10)
        return replace(super().init_chain(request), consensus_params=ConsensusParams(evidence=evidence))


class Answering(Letting):
    """Answers as it is told first, and as it should after that."""

    def __init__(self, *offers: OfferResult, chunks: tuple[responses.ResponseApplySnapshotChunk, ...] = ()) -> None:
        super().__init__()
        self.offers, self.chunks = list(offers), list(chunks)

    def offer_snapshot(self, request: requests.RequestOfferSnapshot) -> responses.ResponseOfferSnapshot:
        if self.offers:
            return responses.ResponseOfferSnapshot(self.offers.pop(0))
        return super().offer_snapshot(request)

    def apply_snapshot_chunk(self, request: requests.RequestApplySnapshotChunk) -> responses.ResponseApplySnapshotChunk:
        return self.chunks.pop(0) if self.chunks else super().apply_snapshot_chunk(request)


def donor() -> OneAppNode:
    """Its app has snapshots of heights 4 and 8."""
    made = OneAppNode(Letting(), config=SMALL)
    for number in range(5):
        made.submits(b"key%d=value" % number)
    assert made.core.log.last == 11
    return made


def newcomer(app: Any = None, records: Any = ()) -> OneAppNode:
    return OneAppNode(app or Letting(), records, config=SMALL, node=NEW)


class Pair:
    """What each says reaches the other, but for what ``change`` makes of what the donor says."""

    def __init__(self, giver: OneAppNode, taker: OneAppNode) -> None:
        self.giver, self.taker = giver, taker
        self.change: Callable[[Any], Any] = lambda message: message
        self._seen = {ME: len(giver.turns), NEW: 0}

    def beats(self, times: int = 1) -> None:
        for _ in range(times):
            self.giver.beats()
            self.taker.beats()
            while self._pass_on():
                pass

    def _pass_on(self) -> bool:
        sent = False
        for source, target in ((self.giver, self.taker), (self.taker, self.giver)):
            start = self._seen[source.node.node]
            turns = source.turns[start:]
            self._seen[source.node.node] = start + len(turns)
            for message in [send.message for turn in turns for send in turn.sends if target.node.node in send.to]:
                sent = True
                changed = self.change(message) if source is self.giver else message
                if changed is not None:
                    target.hears(source.node.node, changed)
        return sent


def synced(pair: Pair, beats: int = 4) -> None:
    """The newcomer is level with the donor."""
    pair.taker.hears(ME, FAR)
    pair.beats(beats)
    giver, taker = pair.giver, pair.taker
    assert taker.core.log.last == giver.core.log.last
    assert isinstance(taker.app, Letting)
    assert isinstance(giver.app, Letting)
    assert (taker.app.pairs, taker.app.height) == (giver.app.pairs, giver.app.height)
    assert taker.core.chain.state == giver.core.chain.state
    assert taker.core.chain.params == giver.core.chain.params
    assert taker.core.app.index == giver.core.app.index


def test_a_new_node_takes_over_the_latest_snapshot_and_then_the_blocks() -> None:
    taker = newcomer()
    synced(Pair(donor(), taker))
    kinds = taker.names()
    assert kinds[:2] == ["Info", "OfferSnapshot"]
    chunks = kinds.count("ApplySnapshotChunk")
    assert chunks > 2
    assert kinds[2 : 3 + chunks] == ["ApplySnapshotChunk"] * chunks + ["Info"]
    assert kinds[3 + chunks :] == ["FinalizeBlock", "Commit"] * 3
    assert LogBegins(8) in taker.outputs
    assert [applied.height for applied in taker.applied] == [9, 10, 11]
    again = taker.again(config=SMALL, node=NEW)
    assert again.names() == ["Info"]
    assert again.core.chain.state == taker.core.chain.state


def test_a_chain_that_is_near_is_run_from_its_first_block() -> None:
    taker = newcomer()
    pair = Pair(donor(), taker)
    pair.beats(8)
    assert taker.names()[:2] == ["Info", "InitChain"]
    assert taker.core.log.last == 11


def test_without_a_snapshot_the_blocks_are_run() -> None:
    giver, taker = OneAppNode(config=SMALL), newcomer()
    pair = Pair(giver, taker)
    taker.hears(ME, FAR)
    pair.beats(20)
    assert taker.names() == ["Info"]
    pair.beats(10)
    assert taker.names()[:3] == ["Info", "InitChain", "FinalizeBlock"]


# --- proofs ---


def offer_of(giver: OneAppNode) -> SnapshotOffer:
    giver.hears(NEW, AskSnapshots())
    offers = [send.message for turn in giver.turns for send in turn.sends if isinstance(send.message, SnapshotOffer)]
    return max(offers, key=lambda offer: offer.snapshot.height)


def test_what_the_chain_did_not_decide_is_not_proven() -> None:
    giver = donor()
    offer, chain = offer_of(giver), newcomer().core.chain
    check_stand(chain, offer.stand, offer.proof)
    stand, point, proof = offer.stand, offer.stand.point, offer.proof
    (last,) = giver.core.log.after(10)
    commit = COMMIT.decode(proof.following_commit)
    fewer = replace(point.last, validators=point.last.validators[:1])
    larger = ConsensusParams(block=BlockParams(1 << 20, -1))
    turned = replace(commit, signatures=commit.signatures[::-1])
    unsigned = replace(commit, signatures=tuple([replace(s, signature=bytes(64)) for s in commit.signatures]))
    for wrong_stand, wrong_proof, why in (
        (replace(stand, point=replace(point, app_hash=bytes(8))), proof, "say otherwise"),
        (replace(stand, point=replace(point, results_hash=bytes(32))), proof, "say otherwise"),
        (replace(stand, point=replace(point, time_ns=point.time_ns + 1)), proof, "say otherwise"),
        (replace(stand, point=replace(point, height=9)), proof, "other heights"),
        (replace(stand, point=replace(point, block=bytes(68))), proof, "does not follow"),
        (replace(stand, point=replace(point, last=fewer)), proof, "than those of its header"),
        (replace(stand, point=replace(point, now=fewer)), proof, "than those of its header"),
        (replace(stand, point=replace(point, after=fewer)), proof, "than those of the next header"),
        (replace(stand, params=CONSENSUS_PARAMS.encode(larger)), proof, "other parameters"),
        (replace(stand, header=proof.following), proof, "other heights"),
        (stand, replace(proof, following=stand.header), "other heights"),
        (stand, replace(proof, following_commit=last.commit), "another header"),
        (stand, replace(proof, commit=proof.following_commit), "commit: of height 9"),
        (stand, replace(proof, following_commit=COMMIT.encode(unsigned)), "signature"),
        (stand, replace(proof, following_commit=COMMIT.encode(turned)), "commit: entry"),
    ):
        with pytest.raises(ValueError, match=why):
            check_stand(chain, wrong_stand, wrong_proof)


def signed_alone(offer: SnapshotOffer, node: int) -> SnapshotOffer:
    """Another chain, of which this node says that it is the only validator; all of it is right but for that."""
    chain, point = newcomer().core.chain, offer.stand.point
    (me,) = [validator for validator in point.now.validators if validator[0] == chain.committee.address(node)]
    alone = replace(point.now, validators=(me,), proposer=me[0])
    its = chain.committee.comet_set(alone).hash()

    def commit(header: Header) -> Commit:
        block_id = BlockID(header.hash(), PartSetHeader(1, bytes(32)))
        entry = CommitSig(FOR_BLOCK, me[0], Timestamp(2_000_000_000), bytes(64))
        unsigned = Commit(header.height, 0, block_id, (entry,))
        signature = SCHEME.keys(node).sign_canonical(unsigned.sign_bytes(chain.id, 0))
        return replace(unsigned, signatures=(replace(entry, signature=signature),))

    header, following = HEADER.decode(offer.stand.header), HEADER.decode(offer.proof.following)
    header = replace(header, validators_hash=its, next_validators_hash=its)
    first = commit(header)
    following = replace(
        following, validators_hash=its, next_validators_hash=its, last_block_id=first.block_id, app_hash=b"false"
    )
    point = replace(point, last=alone, now=alone, after=alone, block=name_of_id(first.block_id), app_hash=b"false")
    stand = replace(offer.stand, point=point, header=HEADER.encode(header))
    proof = StandProof(COMMIT.encode(first), HEADER.encode(following), COMMIT.encode(commit(following)))
    return replace(offer, stand=stand, proof=proof)


def test_validators_that_this_node_knows_must_have_signed() -> None:
    offer, chain = offer_of(donor()), newcomer().core.chain
    true = signed_alone(offer, ME)
    check_stand(chain, true.stand, true.proof)
    false = signed_alone(offer, OTHERS[1])
    with pytest.raises(NotEnoughTrust):
        check_stand(chain, false.stand, false.proof)


@pytest.mark.parametrize("what", ["app hash"])
def test_who_offers_what_is_not_proven_is_blamed(what: str) -> None:
    offer, taker = offer_of(donor()), newcomer()
    taker.hears(ME, FAR)
    turn = taker.hears(ME, WORSE[what](offer))
    ((node, why),) = blames(turn)
    assert (node, "a snapshot that is not proven" in why) == (ME, True)


@pytest.mark.parametrize("what", ["turn", "params", "index"])
def test_what_headers_leave_out_needs_the_word_of_more_than_a_third(what: str) -> None:
    offer, taker = offer_of(donor()), newcomer()
    taker.hears(ME, Forgotten(1))
    taker.hears(ME, Here(12))  # so that any node's snapshot will do
    taker.hears(OTHERS[1], WORSE[what](offer))
    taker.beats()
    assert "OfferSnapshot" not in taker.names()
    taker.hears(ME, offer)
    taker.beats()
    (call,) = [call for call in taker.calls if isinstance(call, requests.RequestOfferSnapshot)]
    assert call.app_hash == offer.stand.point.app_hash
    (aimed,) = [record for turn in taker.turns for record in written(turn) if isinstance(record, Aimed)]
    assert aimed.stand == offer.stand


def test_what_nobody_asked_for_is_dropped() -> None:
    offer, taker = offer_of(donor()), newcomer()
    taker.hears(ME, offer)
    assert taker.core.sync.candidates.known == []
    taker.hears(ME, FAR)
    for height in range(20):
        taker.hears(OTHERS[1], replace(offer, snapshot=replace(offer.snapshot, hash=bytes([height]))))
    assert len(taker.core.sync.candidates.known) == 4


# --- what an app answers ---


def chunk_answer(result: ApplyResult, refetch: tuple[int, ...] = (), senders: tuple[str, ...] = ()) -> Any:
    return responses.ResponseApplySnapshotChunk(result, refetch, senders)


@pytest.mark.parametrize(
    ("app", "calls"),
    [
        (Answering(OfferResult.REJECT), ["OfferSnapshot", "OfferSnapshot"]),
        (Answering(chunks=(chunk_answer(ApplyResult.RETRY),)), ["OfferSnapshot", "ApplySnapshotChunk"]),
        (Answering(chunks=(chunk_answer(ApplyResult.RETRY, (0,)),)), ["OfferSnapshot", "ApplySnapshotChunk"]),
        (
            Answering(chunks=(chunk_answer(ApplyResult.RETRY_SNAPSHOT),)),
            ["OfferSnapshot", "ApplySnapshotChunk", "OfferSnapshot", "ApplySnapshotChunk"],
        ),
        (
            Answering(chunks=(chunk_answer(ApplyResult.REJECT_SNAPSHOT),)),
            ["OfferSnapshot", "ApplySnapshotChunk", "OfferSnapshot", "ApplySnapshotChunk"],
        ),
    ],
    ids=["reject", "retry", "refetch", "retry snapshot", "reject snapshot"],
)
def test_an_app_may_want_it_otherwise(app: Answering, calls: list[str]) -> None:
    taker = newcomer(app)
    synced(Pair(donor(), taker), beats=8)
    assert taker.names()[1 : 1 + len(calls)] == calls


@pytest.mark.parametrize(
    "app",
    [
        Answering(OfferResult.ABORT),
        Answering(OfferResult.UNKNOWN),
        Answering(chunks=(chunk_answer(ApplyResult.ABORT),)),
        Answering(chunks=(chunk_answer(ApplyResult.UNKNOWN),)),
    ],
)
def test_an_app_that_aborts_ends_the_node(app: Answering) -> None:
    with pytest.raises(AppEnded, match=r"so it cannot take over the state of others\. What to do: see the app's log"):
        synced(Pair(donor(), newcomer(app)))


@pytest.mark.parametrize("result", [OfferResult.REJECT_FORMAT, OfferResult.REJECT_SENDER])
def test_formats_and_senders_that_are_rejected_are_not_tried_again(result: OfferResult) -> None:
    taker = newcomer(Answering(result))
    pair = Pair(donor(), taker)
    taker.hears(ME, FAR)
    pair.beats(8)
    assert taker.names() == ["Info", "OfferSnapshot"]
    found = [node for turn in taker.turns for node, _ in blames(turn)]
    assert found == ([ME] if result is OfferResult.REJECT_SENDER else [])


def test_who_makes_up_snapshots_for_ever_is_not_tried_first_for_ever() -> None:
    class Strict(Letting):
        """Takes nothing of the made-up hashes."""

        def offer_snapshot(self, request: requests.RequestOfferSnapshot) -> responses.ResponseOfferSnapshot:
            if request.snapshot is not None and request.snapshot.format > 1:
                return responses.ResponseOfferSnapshot(OfferResult.REJECT)
            return super().offer_snapshot(request)

    giver = donor()
    offer, taker = offer_of(giver), newcomer(Strict())
    pair = Pair(giver, taker)
    taker.hears(ME, Forgotten(1))
    taker.hears(ME, Here(12))
    for format in range(100, 110):
        taker.hears(OTHERS[1], replace(offer, snapshot=replace(offer.snapshot, format=format)))
        pair.beats()
    assert taker.core.log.last == 11
    assert taker.names().count("OfferSnapshot") <= 3


def test_who_sends_a_wrong_chunk_is_blamed_and_asked_no_more() -> None:
    taker = newcomer()
    pair = Pair(donor(), taker)

    def poison(message: Any) -> Any:
        return replace(message, data=bytes(len(message.data))) if isinstance(message, SnapshotChunk) else message

    pair.change = poison
    taker.hears(ME, FAR)
    pair.beats(8)
    assert [blame for turn in taker.turns for blame in blames(turn)] == [(ME, "sent a chunk that the app rejects")]
    assert taker.names() == ["Info", "OfferSnapshot", "ApplySnapshotChunk"]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, data=m.data[:-1]),
        lambda m: replace(m, total_bytes=m.total_bytes + 1 if m.offset else m.total_bytes),
        lambda m: replace(m, data=m.data + b"x"),
    ],
)
def test_a_part_of_another_length_is_a_lie(change: Callable[[Any], Any]) -> None:
    taker = newcomer()
    pair = Pair(donor(), taker)
    pair.change = lambda m: change(m) if isinstance(m, SnapshotChunk) else m
    taker.hears(ME, FAR)
    pair.beats(3)
    assert [node for turn in taker.turns for node, _ in blames(turn)] == [ME]
    assert "ApplySnapshotChunk" not in taker.names()


def test_a_wrong_hash_at_the_end_is_never_used() -> None:
    class Lost(Letting):
        def info(self, request: requests.RequestInfo) -> responses.ResponseInfo:
            return replace(super().info(request), last_block_app_hash=b"another")

    taker = newcomer(Lost())
    pair = Pair(donor(), taker)
    taker.hears(ME, FAR)
    pair.beats(8)
    assert taker.names()[-1] == "Info"
    assert not any(isinstance(record, Based) for turn in taker.turns for record in written(turn))
    assert [node for turn in taker.turns for node, _ in blames(turn)] == [ME]
    assert "FinalizeBlock" not in taker.names()


def test_a_source_that_vanishes_is_replaced_from_the_chunks_beginning() -> None:
    giver, taker = donor(), newcomer()
    offer = offer_of(giver)
    taker.hears(ME, FAR)
    taker.hears(OTHERS[1], offer)
    taker.hears(ME, offer)
    taker.beats()
    pair = Pair(giver, taker)
    taker.hears(OTHERS[1], SnapshotChunk(8, 1, 0, 0, 40, bytes(16)))
    attempt = taker.core.sync.attempt
    assert attempt is not None
    assert attempt.order.offset == 16
    pair.beats(10)
    assert taker.core.log.last == 11


# --- crashes ---


def test_a_crash_at_any_step_of_a_sync() -> None:
    """After each input, with what is durable by then; the app has kept what it took, or nothing."""
    inputs = 0
    while True:
        giver, taker = donor(), newcomer()
        pair = Pair(giver, taker)
        taker.hears(ME, FAR)
        heard = 0

        def count(message: Any) -> Any:
            nonlocal heard
            heard += 1
            return message if heard <= inputs else None  # noqa: B023

        pair.change = count
        pair.beats(3)
        if heard <= inputs:
            break
        records = [record for turn in taker.turns for record in written(turn)]
        for app in (copy.deepcopy(taker.app), Letting()):
            again = newcomer(app, records)
            second = Pair(donor(), again)
            again.hears(ME, FAR)
            second.beats(8)
            assert again.core.log.last == 11, (inputs, again.names())
        inputs += 4
    assert inputs > 10


def test_a_crash_before_the_node_knew_that_the_app_has_the_state() -> None:
    taker = newcomer()
    synced(Pair(donor(), taker))
    records = [record for turn in taker.turns for record in written(turn)]
    first = records.index(next(record for record in records if isinstance(record, Based)))
    app = Letting()
    app.height, app.size, app.pairs = 8, 4, {b"key%d" % number: b"value" for number in range(4)}
    offered = [record for record in records[:first] if isinstance(record, Aimed)]
    app.size = offered[0].stand.index
    again = newcomer(app, records[:first])
    assert again.names()[0] == "Info"
    assert again.core.log.base == 8
    app.size += 1
    with pytest.raises(AppEnded, match="took over a snapshot of height 8 whose state has the hash"):
        newcomer(app, records[:first])


# --- what may be dropped ---


def test_the_log_is_dropped_when_all_that_need_it_can_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    giver = donor()
    core = giver.core
    monkeypatch.setattr(core.stands, "_mark_heights", 2)
    trimming = core.trimming
    assert trimming.base_max() == -1, "the app keeps all"
    trimming.retain_height = 9
    assert trimming.base_max() == 0, "nobody has a snapshot"
    trimming.newest = {OTHERS[0]: 1 << 40, OTHERS[1]: 1 << 40, OTHERS[2]: 1 << 40}
    assert trimming.base_max() == 0, "those have no power"
    giver.hears(NEW, AskSnapshots())
    giver.beats()
    assert trimming.helped == 8
    assert trimming.base_max() == 8
    trimming.retain_height = 4
    assert trimming.base_max() == 3
    core._trim()
    assert core.log.base == 2
    assert sorted(core.app.outcomes) == list(range(3, 12))
    again = giver.again(config=SMALL)
    assert again.names() == ["Info"]
    assert (again.core.log.base, again.core.log.last) == (2, 11)
    assert again.core.chain.state == core.chain.state
    assert again.core.evidence._past.keys() == core.evidence._past.keys()
    kinds = [type(record) for record in again.core.checkpoint()]
    assert (kinds.count(Based), kinds.count(Decision), kinds.count(Outcome)) == (1, 9, 9)


def test_evidence_keeps_its_heights() -> None:
    giver = OneAppNode(config=SMALL)
    giver.submits(b"a=1")
    giver.core.trimming.retain_height = 3
    giver.core.trimming.newest = {ME: 3}
    assert giver.core.evidence.oldest == 1
    assert giver.core.trimming.base_max() == 0


def test_a_node_that_nobody_can_help_says_so_once_and_takes_over_a_state_when_its_app_is_empty() -> None:
    node = OneAppNode(config=SMALL)
    node.submits(b"a=1")
    for _ in range(30):
        node.hears(OTHERS[1], Forgotten(50))
        node.beats()
    assert not any(isinstance(output, BeyondReach) for output in node.outputs), "f nodes may lie"
    taker = newcomer()
    taker.hears(ME, Here(1))
    for _ in range(30):
        taker.beats()
    taker.hears(ME, Forgotten(50))
    for _ in range(30):
        taker.beats()
    (beyond,) = [output for output in taker.outputs if isinstance(output, BeyondReach)]
    assert "the app is at height 0, and the other nodes have dropped the blocks up to 50" in beyond.why
    records = [record for turn in taker.turns for record in written(turn)]
    again = newcomer(Letting(), records)
    assert again.core.sync.is_on
    assert again.names() == ["Info"]


def test_newest_snapshots_are_told() -> None:
    giver = donor()
    giver.hears(NEW, AskSnapshots())
    turn = giver.beats()
    assert [send.message for send in turn.sends if isinstance(send.message, NewestSnapshot)] == [NewestSnapshot(8)]


def test_chunks_come_in_order_and_those_wanted_again_first() -> None:
    order = ChunkOrder(3, 4)
    taken = []
    for number, again in ((0, ()), (1, (0, 7)), (0, ()), (2, (1, 0)), (0, ()), (1, ())):
        assert order.next == number
        assert order.add(6, b"abcd")
        assert order.whole is None
        assert not order.add(7, b"efg")
        assert order.add(6, b"ef")
        assert order.whole == b"abcdef"
        taken.append(order.next)
        order.applied()
        order.fetch_again(again)
    assert order.next is None
    assert taken == [0, 1, 0, 2, 0, 1]
