"""Snapshots at heights that follow from the blocks, a quorum's word for them, and how who is behind gets one."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Done, Failed, Job, Stalled, Turn
from quorate.ledger.comet.commits import COMMIT
from quorate.parts.log.replicated import (
    Chunk,
    Decided,
    Piece,
    ReadPiece,
    Restored,
    SnapshotInfo,
    TakeCommonSnapshot,
    WriteChunk,
    Written,
)
from quorate.protocols.tendermint.commits import prevotes_of
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import (
    Checkpoint,
    Decision,
    FetchPiece,
    Here,
    Image,
    ImagePiece,
    Offer,
    Precommit,
    Stable,
    Taken,
)

from tests.protocols.tendermint.one_node import (
    CONFIG,
    ME,
    OTHERS,
    TWO,
    A,
    B,
    OneNode,
    P,
    as_said,
    blames,
    block,
    chain_at,
    decision,
    prevote,
    proof,
    proposal,
    proposer_of,
    resigned,
    said,
    told,
    vote_for,
    written,
)
from tests.protocols.tendermint.snapshots import (
    DATA,
    SMALL,
    TREE,
    certificate,
    checkpoint,
    image,
    info,
    offer,
)


def too_early(height: int) -> bytes:
    """A commit on which no block can follow: its votes are as old as their block."""
    its = block(A, height)
    time_ns = its.block.header.time.ns()
    votes = [resigned(replace(vote_for(Precommit, node, 0, its, height), time_ns=time_ns)) for node in OTHERS]
    return COMMIT.encode(prevotes_of(chain_at(height).committee, height, 0, its.name, map(as_said, votes)))


def jobs(turn: Turn, kind: type) -> list[Job]:
    return [job for job in turn.jobs if isinstance(job.work, kind)]


def done(node: OneNode, job: Job, result: Any) -> Turn:
    return node.step(Done(job.key, result, job.path))


def decides(node: OneNode, *heights: int) -> Turn:
    return node.hears(*[(P[0], decision(height)) for height in heights])


def taking() -> tuple[OneNode, Job]:
    """After height 2, of which a snapshot is being taken."""
    node = OneNode(config=SMALL)
    (job,) = jobs(decides(node, 1, 2), TakeCommonSnapshot)
    return node, job


def with_one(stable: bool = True) -> OneNode:
    """After height 2, with its snapshot."""
    node, job = taking()
    node.fires("pause")
    done(node, job, info(image(2)))
    if stable:
        node.hears(*[(n, checkpoint(n, image(2))) for n in OTHERS[:2]])
        assert node.core.checkpoints.stable == image(2)
    return node


def test_a_snapshot_that_is_stable_only_after_the_next_one_is_there_is_no_end_of_the_log() -> None:
    """The log begins before it, as nothing was dropped since. A checkpoint of the journal must not say otherwise."""
    node = with_one(stable=False)
    (job,) = jobs(decides(node, 3, 4), TakeCommonSnapshot)
    node.fires("pause")
    done(node, job, info(image(4)))
    node.hears((P[0], offer(image(2))))
    assert (node.core.checkpoints.stable, node.core.log.base) == (image(2), 0)
    again = OneNode(list(node.core.checkpoint()), config=SMALL)
    assert (again.core.checkpoints.stable, again.core.checkpoints.images) == (image(2), [image(2), image(4)])
    assert (again.core.log.base, again.core.log.last) == (0, 4)
    assert list(again.core.checkpoint()) == list(node.core.checkpoint())


def with_two() -> OneNode:
    """After height 4, with the snapshots of 2, which is stable, and of 4."""
    node = with_one()
    (job,) = jobs(decides(node, 3, 4), TakeCommonSnapshot)
    node.fires("pause")
    done(node, job, info(image(4)))
    return node


# --- taken here ---


def test_a_snapshot_is_of_the_state_at_its_height() -> None:
    node, job = taking()
    assert job.work == TakeCommonSnapshot(2, 2, 0, piece_bytes=4)
    assert node.core.applying.is_busy
    assert [o for o in decides(node, 3).outputs if isinstance(o, Decided)] == [], "outputs of this Turn end here"
    node.fires("pause")
    assert node.place == (3, 0, Step.PROPOSE)
    assert [o.first_index for o in decides(node, 3).outputs if isinstance(o, Decided)] == [3]


def test_heights_that_are_due_follow_from_bytes_too() -> None:
    sizes = [len(block(A, height).data) for height in (1, 2, 3)]
    node = OneNode(config=CONFIG.but(snapshot_bytes=sum(sizes)))
    assert jobs(decides(node, 1, 2), TakeCommonSnapshot) == []
    (job,) = jobs(decides(node, 3), TakeCommonSnapshot)
    assert job.work.index == 3


def test_what_is_durable_is_signed() -> None:
    node, job = taking()
    node.fires("pause")
    turn = done(node, job, info(image(2)))
    assert written(turn) == [Taken(image(2), False, decision(2).commit)]
    assert told(turn, P[0]) == [checkpoint(ME, image(2))]
    assert told(node.fires("beat"), P[0]) == [checkpoint(ME, image(2)), Here(3)], "until a quorum has it"


@pytest.mark.parametrize("result", [Failed("no room"), SnapshotInfo(7, 7, 1)])
def test_one_that_could_not_be_taken_is_passed_over(result: Any) -> None:
    node, job = taking()
    node.fires("pause")
    turn = done(node, job, result)
    assert (written(turn), told(turn, P[0])) == ([], [])
    (job,) = jobs(decides(node, 3, 4), TakeCommonSnapshot)
    node.fires("pause")
    assert written(done(node, job, info(image(4)))) == [Taken(image(4), False, decision(4).commit)]


def test_a_quorum_makes_it_stable() -> None:
    node = with_one(stable=False)
    assert written(node.hears((P[0], checkpoint(P[0], image(2))))) == []
    assert written(node.hears((P[0], checkpoint(P[0], image(2))))) == [], "once each"
    assert written(node.hears((P[2], checkpoint(P[2], image(2, b"another"))))) == [], "of the same snapshot"
    turn = node.hears((P[1], checkpoint(P[1], image(2))))
    assert written(turn) == [Stable(certificate(image(2), (P[0], P[1], ME)))]
    assert [m for m in told(node.fires("beat"), P[0]) if isinstance(m, Checkpoint)] == []


def test_a_quorum_may_be_there_before() -> None:
    node, job = taking()
    node.fires("pause")
    node.hears(*[(n, checkpoint(n, image(2))) for n in OTHERS])
    turn = done(node, job, info(image(2)))
    assert Stable(certificate(image(2), (*OTHERS, ME))) in written(turn)


def test_a_checkpoint_that_is_not_signed_is_blamed() -> None:
    node = with_one(stable=False)
    wrong = replace(checkpoint(P[0], image(2)), signature=bytes(32))
    assert blames(node.hears((P[0], wrong))) == [(P[0], "sent a checkpoint that it did not sign")]


def test_of_each_node_the_latest_checkpoints_are_kept() -> None:
    node = OneNode(config=SMALL)
    for height in range(2, 30):
        its = replace(image(2), height=height)
        node.hears((P[0], checkpoint(P[0], its)))
    assert sorted(node.core.checkpoints._heard[P[0]]) == [26, 27, 28, 29]


def test_who_missed_that_it_is_stable_is_told() -> None:
    node = with_one()
    (answer,) = told(node.hears((P[2], checkpoint(P[2], image(2)))), P[2])
    assert answer == Offer(image(2), certificate(image(2), (P[0], P[1], ME)), decision(2).commit)
    other = with_one(stable=False)
    assert written(other.hears((P[0], answer))) == [Stable(answer.certificate)]


# --- what is forgotten ---


def test_the_log_goes_with_the_next_snapshot() -> None:
    node = with_one()
    assert [d.height for d in node.core.log.decisions] == [1, 2]
    (job,) = jobs(decides(node, 3, 4), TakeCommonSnapshot)
    assert job.work.keep_index == 2
    assert [d.height for d in node.core.log.decisions] == [1, 2, 3, 4]
    node.fires("pause")
    done(node, job, info(image(4)))
    assert [d.height for d in node.core.log.decisions] == [3, 4]
    assert node.core.checkpoints.images == [image(2), image(4)]


def test_nothing_goes_that_no_quorum_has() -> None:
    node = with_one(stable=False)
    (job,) = jobs(decides(node, 3, 4), TakeCommonSnapshot)
    assert job.work.keep_index == 0
    node.fires("pause")
    done(node, job, info(image(4)))
    assert [d.height for d in node.core.log.decisions] == [1, 2, 3, 4]


def test_evidence_of_before_counts_no_more() -> None:
    node = OneNode(config=SMALL)
    node.hears((P[1], prevote(P[1], 0, B)), (P[1], prevote(P[1], 0, A)))
    decides(node, 1)
    assert node.core.evidence.waiting
    decides(node, 2)
    assert not node.core.evidence.waiting


# --- after a restart ---


def test_a_node_goes_on_from_its_newest_snapshot() -> None:
    node = with_two()
    decides(node, 5)
    again = OneNode(list(node.core.checkpoint()), config=SMALL)
    outputs = [(type(o), o.index if isinstance(o, Restored) else o.first_index) for o in again.first.outputs]
    assert outputs == [(Restored, 4), (Decided, 5)]
    assert jobs(again.first, TakeCommonSnapshot) == []
    assert again.place == (6, 0, Step.PROPOSE)
    assert again.core.chain.state == node.core.chain.state == chain_at(6).state
    assert again.core.committee.sets() == chain_at(6).committee.sets()
    assert list(again.core.checkpoint()) == list(node.core.checkpoint())
    assert told(again.hears((P[0], Here(3))), P[0]) == [decision(3), decision(4), decision(5)]


def test_a_node_can_propose_right_after_a_snapshot() -> None:
    """The commit of the snapshot's block is there."""
    proposer = proposer_of(0, 5)
    node = OneNode(list(with_two().core.checkpoint()), config=SMALL, node=proposer)
    assert node.place == (5, 0, Step.PROPOSE)
    (own, vote) = said(node.submits(TWO))
    assert (own, vote) == (proposal(0, B, height=5, by=proposer), prevote(proposer, 0, B, 5))


def test_a_log_without_its_beginning_needs_its_snapshot() -> None:
    records = [record for record in with_two().core.checkpoint() if not isinstance(record, Taken)]
    with pytest.raises(AssertionError, match="does not follow"):
        OneNode([decision(1), *records], config=SMALL)


# --- for who is behind ---


def test_who_asks_for_what_is_forgotten_is_offered_a_snapshot() -> None:
    node = with_two()
    mine = Offer(image(2), certificate(image(2), (P[0], P[1], ME)), decision(2).commit)
    assert told(node.hears((P[2], Here(1))), P[2]) == [mine]
    assert told(node.hears((P[2], Here(1))), P[2]) == [], "once a beat"
    assert [type(m) for m in told(node.hears((P[1], Here(3))), P[1])] == [Decision, Decision]


def test_pieces_are_read_one_at_a_time() -> None:
    node = with_two()
    (job,) = node.hears((P[2], FetchPiece(2, 4))).jobs
    assert job.work == ReadPiece(2, 4, 4, TREE.root)
    assert node.hears((P[2], FetchPiece(2, 8))).jobs == []
    (other,) = node.hears((P[1], FetchPiece(4, 0))).jobs
    turn = done(node, job, Piece(Chunk(2, 2, 4, DATA[4:8], len(DATA)), TREE.proof(1)))
    assert told(turn, P[2]) == [ImagePiece(Chunk(2, 2, 4, DATA[4:8], len(DATA)), TREE.proof(1))]
    assert not done(node, other, Failed("gone")).sends
    assert len(node.hears((P[1], FetchPiece(4, 0))).jobs) == 1
    assert [type(m) for m in told(node.hears((P[2], FetchPiece(9, 0))), P[2])] == [Offer], "of one that is not here"


def piece(number: int, its: Image | None = None) -> ImagePiece:
    its = its or image(4)
    data = DATA[4 * number : 4 * number + 4]
    return ImagePiece(Chunk(its.index, its.height, 4 * number, data, len(DATA)), TREE.proof(number))


COUNT = -(-len(DATA) // 4)


def fetching() -> OneNode:
    node = OneNode(config=SMALL)
    assert told(node.hears((P[0], offer(image(4)))), P[0]) == [FetchPiece(4, 0)]
    return node


def test_a_node_that_is_behind_fetches_and_goes_on_from_there() -> None:
    node = fetching()
    for number in range(COUNT):
        (job,) = node.hears((P[0], piece(number))).jobs
        chunk = piece(number).chunk
        assert job.work == WriteChunk(4, 4, chunk.offset, chunk.data, len(DATA), image(4).digest)
        offset = min(4 * number + 4, len(DATA))
        turn = done(node, job, Written(4, 4, offset, offset == len(DATA)))
        if number < COUNT - 1:
            assert told(turn, P[0]) == [FetchPiece(4, offset)]
    assert written(turn) == [Taken(image(4), True, decision(4).commit), Stable(offer(image(4)).certificate)]
    assert [o for o in turn.outputs if isinstance(o, Restored)] == [Restored(4, 4)]
    assert node.place == (5, 0, Step.PROPOSE)
    assert node.core.chain.state == chain_at(5).state
    assert node.core.chain.last_commit == COMMIT.decode(decision(4).commit)
    turn = decides(node, 5)
    assert [o.first_index for o in turn.outputs if isinstance(o, Decided)] == [5]
    again = OneNode(list(node.core.checkpoint()), config=SMALL)
    assert again.core.chain.state == chain_at(6).state
    assert node.core.transfer.note() == ""


def test_what_it_had_signed_before_binds_it_no_more() -> None:
    node = OneNode([prevote(ME, 0, A)], config=SMALL)
    node.hears((P[0], offer(image(4))))
    for number in range(COUNT):
        (job,) = node.hears((P[0], piece(number))).jobs
        offset = min(4 * number + 4, len(DATA))
        done(node, job, Written(4, 4, offset, offset == len(DATA)))
    assert node.core.signed.last is None
    assert node.core.signed.height == 5
    records = [prevote(ME, 0, A), Taken(image(4), True, decision(4).commit), Stable(offer(image(4)).certificate)]
    assert OneNode(records, config=SMALL).core.signed.last is None


@pytest.mark.parametrize(
    "wrong",
    [
        offer(image(4), OTHERS[:2]),
        replace(offer(image(4)), image=replace(image(4), root=bytes(32))),
        replace(offer(image(4)), image=replace(image(4), point=replace(image(4).point, app_hash=bytes(32)))),
        replace(offer(image(4)), certificate=certificate(image(2))),
        replace(offer(image(4)), commit=decision(3).commit),
        replace(offer(image(4)), commit=proof(Step.PRECOMMIT, 0, A, OTHERS[:2], 4)),
        replace(offer(image(4)), commit=proof(Step.PREVOTE, 0, A, height=4)),
        replace(offer(image(4)), commit=too_early(4)),
        replace(offer(image(4)), commit=b"none"),
        offer(replace(image(4), height=5)),
        offer(replace(image(4), piece_bytes=0)),
        offer(replace(image(4), size_bytes=0)),
    ],
)
def test_an_offer_that_is_not_proven_is_blamed(wrong: Offer) -> None:
    node = OneNode(config=SMALL)
    turn = node.hears((P[0], wrong))
    assert blames(turn) == [(P[0], "offers a snapshot that is not proven")]
    assert not turn.sends


@pytest.mark.parametrize(
    "wrong",
    [
        replace(piece(0), proof=()),
        replace(piece(0), proof=(*piece(0).proof, bytes(32))),
        replace(piece(0), chunk=replace(piece(0).chunk, data=b"")),
        replace(piece(0), chunk=replace(piece(0).chunk, data=b"t")),
        replace(piece(0), chunk=replace(piece(0).chunk, data=b"that")),
        replace(piece(0), chunk=replace(piece(0).chunk, total_bytes=1)),
        replace(piece(0), chunk=replace(piece(0).chunk, term=9)),
        replace(piece(1), chunk=replace(piece(1).chunk, offset=0)),
    ],
)
def test_a_source_that_sends_a_wrong_piece_is_left(wrong: ImagePiece) -> None:
    node = fetching()
    node.hears((P[1], offer(image(4))))
    turn = node.hears((P[0], wrong))
    assert blames(turn) == [(P[0], "sends a piece that is not in the snapshot")]
    assert (turn.jobs, told(turn, P[1])) == ([], [FetchPiece(4, 0)])
    assert node.hears((P[0], piece(0))).jobs == [], "for this life"
    assert not node.hears((P[0], offer(image(4)))).sends
    assert node.core.transfer.sources == [P[1]]
    assert len(node.hears((P[1], piece(0))).jobs) == 1


def test_a_source_that_sends_nothing_has_a_turn_like_any() -> None:
    node = fetching()
    node.hears((P[1], offer(image(4))))
    turns = [node.fires("beat") for _ in range(5)]
    assert [FetchPiece(4, 0) in told(turn, P[0]) for turn in turns] == [True, True, True, True, False]
    assert FetchPiece(4, 0) in told(turns[-1], P[1])
    assert node.hears((P[0], piece(0))).jobs == [], "it is late"


def test_what_is_late_or_unasked_is_passed_over() -> None:
    node = fetching()
    for sender, m in (
        (P[1], piece(0)),
        (P[0], piece(1)),
        (P[0], replace(piece(0), chunk=replace(piece(0).chunk, index=9))),
    ):
        turn = node.hears((sender, m))
        assert (turn.jobs, blames(turn)) == ([], [])


def test_a_piece_that_could_not_be_stored_is_asked_for_again() -> None:
    node = fetching()
    (job,) = node.hears((P[0], piece(0))).jobs
    assert node.hears((P[0], piece(0))).jobs == [], "one at a time"
    assert not done(node, job, Failed("no room")).sends
    assert FetchPiece(4, 0) in told(node.fires("beat"), P[0])


def test_a_newer_one_is_fetched_when_the_source_has_the_old_one_no_more() -> None:
    node = fetching()
    assert told(node.hears((P[1], offer(image(6)))), P[1]) == []
    assert told(node.hears((P[0], offer(image(6)))), P[0]) == [FetchPiece(6, 0)]


def test_a_snapshot_that_is_no_longer_needed_is_given_up() -> None:
    node = fetching()
    node.hears(*[(P[0], decision(height)) for height in (1, 2)])
    node.fires("pause")
    decides(node, 3, 4)
    node.fires("pause")
    node.fires("beat")
    assert node.core.transfer.fetched is None
    assert not node.hears((P[1], offer(image(4)))).sends


def test_it_says_how_far_it_is() -> None:
    assert fetching().core.standing().note == f"is behind, and fetches a snapshot: 0 of {len(DATA)} bytes"


def test_while_the_disk_is_full_nothing_is_fetched() -> None:
    node = OneNode(config=SMALL)
    node.step(Stalled("full"))
    assert not node.hears((P[0], offer(image(4)))).sends
