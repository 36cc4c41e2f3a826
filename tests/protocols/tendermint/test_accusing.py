"""Evidence that waits for a block: kept, told to all until a block has it, and looked at before it is believed."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Job, Send, Stalled, Turn
from quorate.ledger.comet.abci.request_messages import RequestFinalizeBlock
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.divergence import attack_evidence
from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct, duplicate_votes
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.ledger.comet.params import Duration, EvidenceParams
from quorate.ledger.comet.validators import key_address
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.protocols.tendermint.accusing import HEARD_BYTES_MAX, WAITING_MAX, is_due
from quorate.protocols.tendermint.app_messages import AskApp, EvidenceTaken
from quorate.protocols.tendermint.commits import commit_of
from quorate.protocols.tendermint.current_height import STALLED
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Accusation, PendingEvidence, Precommit
from quorate.protocols.tendermint.named_blocks import NamedBlock, name_of_id
from quorate.protocols.tendermint.signed_bytes import comet_vote, vote_bytes

from tests.protocols.tendermint.one_app_node import OneAppNode
from tests.protocols.tendermint.one_node import (
    CHAIN_ID,
    KEYRING,
    ME,
    OTHERS,
    SCHEME,
    A,
    B,
    blames,
    block,
    prevote,
    written,
)
from tests.protocols.tendermint.one_node import as_said as as_said_vote

PEER, LIAR = OTHERS[0], OTHERS[1]
HASH = bytes(range(32))


def double(node: OneAppNode, height: int = 1, round: int = 0, liar: int = LIAR) -> Misconduct:
    """Two prevotes of the liar."""
    time, validators = node.blocks[height - 1].header.time, node.applied[height - 1].validators.validators
    votes = []
    for name in (block(A).name, block(B).name):
        data = vote_bytes(CHAIN_ID, Step.PREVOTE, height, round, name, time.ns())
        vote = comet_vote(Step.PREVOTE, height, round, name, time.ns())
        address = key_address(KEYRING.public(liar))
        votes.append(replace(vote, validator_address=address, signature=SCHEME.keys(liar).sign_canonical(data)))
    return duplicate_votes(votes[0], votes[1], validators, time)


def attack(node: OneAppNode, height: int = 2, common: int = 1) -> Misconduct:
    """A block that ME, which has almost all of the power, signed for a light client."""
    blocks, validators = node.blocks, [applied.validators for applied in node.applied]
    header = replace(blocks[height - 1].header, app_hash=HASH)
    block_id = BlockID(header.hash(), PartSetHeader(1, HASH))
    named = NamedBlock(name_of_id(block_id), b"", replace(blocks[height - 1], header=header))
    time_ns = header.time.ns() + 1_000_000
    signature = SCHEME.keys(ME).sign_canonical(vote_bytes(CHAIN_ID, Step.PRECOMMIT, height, 0, named.name, time_ns))
    vote = Precommit(height, 0, named.name, ME, time_ns, signature)
    commit = commit_of(node.core.committee, height, 0, named, [as_said_vote(vote)])
    after = blocks[height].last_commit
    assert after is not None
    true = LightBlock(SignedHeader(blocks[height - 1].header, after), validators[height - 1])
    before = blocks[common].last_commit
    assert before is not None
    first = LightBlock(SignedHeader(blocks[common - 1].header, before), validators[common - 1])
    return attack_evidence(LightBlock(SignedHeader(header, commit), validators[height - 1]), true, first)


def chain(**options: Any) -> OneAppNode:
    """Of three heights."""
    node = OneAppNode(**options)
    node.submits(b"a=1")
    assert len(node.blocks) == 3
    return node


def shows(node: OneAppNode, piece: Misconduct) -> Turn:
    return node.hears(ME, Accusation(1, MISCONDUCT.encode(piece)))


def told(turn: Turn) -> list[Send]:
    return [send for send in turn.sends if isinstance(send.message, Accusation)]


def kept(turn: Turn) -> list[PendingEvidence]:
    return [record for record in written(turn) if isinstance(record, PendingEvidence)]


def outcome(turn: Turn) -> str:
    (why,) = [output.why for output in turn.outputs if isinstance(output, EvidenceTaken)]
    return why


def in_blocks(node: OneAppNode) -> list[Misconduct]:
    return [piece for block in node.blocks for piece in block.evidence.evidence]


# --- what somebody shows ---


@pytest.mark.parametrize("make", [double, attack])
def test_what_is_shown_is_kept_told_to_all_and_in_the_next_block(make: Callable[[OneAppNode], Misconduct]) -> None:
    node = chain()
    piece = make(node)
    turn, data = shows(node, piece), MISCONDUCT.encode(piece)
    assert kept(turn) == [PendingEvidence(3, None, data)]
    assert [(send.to, send.message) for send in told(turn)] == [(node.core.env.others, Accusation(3, data))]
    assert list(turn.outputs) == [EvidenceTaken(data, "")]
    again = shows(node, piece)
    assert (outcome(again), kept(again), told(again)) == ("", [], [])
    for _ in range(3):
        node.beats()
    assert len(node.blocks) == 3, "no block is made for evidence alone"
    node.submits(b"b=2")
    assert node.blocks[3].evidence.evidence == (piece,)
    assert (node.core.evidence.waiting, node.core.accusing.kept) == ({}, {})
    again = shows(node, piece)
    assert (outcome(again), kept(again), told(again)) == ("", [], []), "a block has it"
    node.submits(b"c=3")
    assert in_blocks(node) == [piece]


def test_what_does_not_hold_is_refused_and_nobody_blamed() -> None:
    node = chain()
    for data, why in (
        (MISCONDUCT.encode(replace(double(node), total_voting_power=5)), "of 5, not"),
        (MISCONDUCT.encode(replace(attack(node), total_voting_power=5)), "a total power of 5"),
        (MISCONDUCT.encode(replace(attack(node), common_height=9)), "above|common height"),
        (b"nothing", ""),
    ):
        turn = node.hears(ME, Accusation(1, data))
        assert outcome(turn)
        assert why.split("|")[-1] in outcome(turn)
        assert (kept(turn), told(turn), blames(turn)) == ([], [], [])
    node.node.step(Stalled("full"))
    assert outcome(shows(node, double(node))) == STALLED


def test_larger_than_a_block_takes() -> None:
    node = chain()
    node.core.evidence.params = EvidenceParams(100, Duration(10**6), 300)
    assert "a block takes 300" in outcome(shows(node, double(node)))


def test_no_more_than_there_is_room_for() -> None:
    node = chain()
    for round in range(WAITING_MAX):
        assert outcome(shows(node, double(node, round=round))) == ""
    assert "too much" in outcome(shows(node, double(node, 2)))
    assert outcome(shows(node, double(node))) == "", "it waits already"
    assert len(node.core.accusing.kept) == WAITING_MAX


def test_it_is_told_again_ever_more_seldom() -> None:
    node = chain()
    shows(node, double(node))
    beats = [beat for beat in range(1, 200) if told(node.beats())]
    assert beats == [1, 2, 4, 8, 16, 32, 64, 128, 192]
    assert [beat for beat in range(1, 200) if is_due(beat)] == beats


# --- what this node saw ---


def test_votes_that_this_node_saw_are_kept_and_told_when_their_height_is_decided() -> None:
    node = OneAppNode()
    for values in (A, B):
        node.hears(LIAR, prevote(LIAR, 0, values, 2))
    assert not any(map(kept, node.turns))
    before = len(node.turns)
    node.submits(b"a=1")
    (record,) = [record for turn in node.turns[before:] for record in kept(turn)]
    assert (record.height, record.source) == (2, None)
    assert [send.message for turn in node.turns[before:] for send in told(turn)] == [Accusation(2, record.piece)]
    assert in_blocks(node) == [MISCONDUCT.decode(record.piece)]


# --- what others tell ---


@pytest.mark.parametrize("make", [double, attack])
def test_what_another_node_tells_is_kept_and_not_passed_on(make: Callable[[OneAppNode], Misconduct]) -> None:
    node = chain()
    piece = make(node)
    turn = node.hears(PEER, Accusation(3, MISCONDUCT.encode(piece)))
    assert kept(turn) == [PendingEvidence(3, PEER, MISCONDUCT.encode(piece))]
    assert (told(turn), list(turn.outputs), blames(turn)) == ([], [], [])
    assert not any(told(node.beats()) for _ in range(8))
    node.submits(b"b=2")
    assert in_blocks(node) == [piece]


def wrong(node: OneAppNode) -> list[bytes]:
    piece = double(node)
    assert not isinstance(attack(node), type(piece))
    return [
        b"nothing",
        MISCONDUCT.encode(replace(piece, validator_power=7)),
        MISCONDUCT.encode(replace(piece, vote_a=replace(piece.vote_a, signature=bytes(64)))),  # type: ignore[union-attr]
        MISCONDUCT.encode(replace(attack(node), byzantine_validators=())),
    ]


@pytest.mark.parametrize("which", range(4))
def test_who_tells_what_does_not_hold_is_blamed_and_not_heard_until_the_next_beat(which: int) -> None:
    node = chain()
    good, lie = MISCONDUCT.encode(double(node)), Accusation(3, wrong(node)[which])
    turn = node.hears(PEER, lie)
    assert [who for who, _ in blames(turn)] == [PEER]
    assert kept(turn) == []
    assert kept(node.hears(PEER, Accusation(3, good))) == []
    assert blames(node.hears(PEER, lie)) == []
    node.beats()
    assert len(kept(node.hears(PEER, Accusation(3, good)))) == 1


def test_what_cannot_be_judged_here_is_dropped_without_a_word() -> None:
    node = chain()
    late = replace(double(node), vote_a=replace(double(node).vote_a, height=9))  # type: ignore[union-attr]
    for height, piece in ((99, double(node)), (3, late)):
        turn = node.hears(PEER, Accusation(height, MISCONDUCT.encode(piece)))
        assert (kept(turn), blames(turn)) == ([], []), (height, piece)
    node.core.evidence.params = EvidenceParams(1, Duration(0, 1), 1 << 20)
    turn = node.hears(PEER, Accusation(3, MISCONDUCT.encode(double(node))))
    assert (kept(turn), blames(turn)) == ([], []), "too old"


def test_so_much_of_one_sender_is_looked_at_between_two_beats() -> None:
    node = chain()
    data = [MISCONDUCT.encode(double(node, round=round)) for round in range(40)]
    size = len(data[0])
    turns = [node.hears(PEER, Accusation(3, data[0])) for _ in range(HEARD_BYTES_MAX // size)]
    assert sum(len(kept(turn)) for turn in turns) == 1
    assert kept(node.hears(PEER, Accusation(3, data[1]))) == [], "no more until a beat"
    assert len(kept(node.hears(LIAR, Accusation(3, data[1])))) == 1, "of another"
    node.beats()
    for one in data:
        node.hears(PEER, Accusation(3, one))
        node.beats()
    assert sum(record.source == PEER for record in node.core.accusing.kept.values()) == WAITING_MAX // 4
    assert outcome(shows(node, double(node, 2))) == "", "there is room for what is shown here"


# --- after a crash ---


def records_of(node: OneAppNode) -> list[Any]:
    return [record for turn in node.turns for record in written(turn)]


@pytest.mark.parametrize("is_whole", [True, False], ids=["a journal", "a checkpoint"])
def test_what_waited_waits_after_a_restart_and_is_told_again(is_whole: bool) -> None:
    node = chain()
    first, second = double(node), double(node, 2)
    shows(node, first)
    node.submits(b"b=2")
    shows(node, second)
    other = double(node, 3)
    node.hears(PEER, Accusation(node.core.evidence.last, MISCONDUCT.encode(other)))
    records = records_of(node) if is_whole else list(node.core.checkpoint())
    later = OneAppNode(node.app, records)
    assert list(later.core.evidence.waiting.values()) == [second, other], "a block has the first"
    assert [send.message.piece for send in told(later.beats())] == [MISCONDUCT.encode(second)]
    last = OneAppNode(node.app, records_of(node) if is_whole else list(later.core.checkpoint()))
    last.submits(b"c=3")
    assert in_blocks(last) == [first, second, other]


def test_until_the_log_is_read_what_waited_stays_in_a_checkpoint() -> None:
    node = chain()
    shows(node, double(node))
    later = OneAppNode(node.app, list(node.core.checkpoint()), hold=lambda job: True)
    (record,) = [record for record in later.core.checkpoint() if isinstance(record, PendingEvidence)]
    assert record.piece == MISCONDUCT.encode(double(node))


def test_what_waited_is_taken_in_at_the_height_after_which_it_came() -> None:
    """What this node knew before a snapshot is forgotten when it stands on that."""

    def is_third(job: Job) -> bool:
        request = job.work.request if isinstance(job.work, AskApp) else None
        return isinstance(request, RequestFinalizeBlock) and request.height == 3

    node = chain()
    shows(node, double(node))
    later = OneAppNode(KVStoreApp(), list(node.core.checkpoint()), hold=is_third)
    assert (later.core.evidence.last, later.core.evidence.waiting) == (2, {})
    later.release()
    assert list(later.core.evidence.waiting.values()) == [double(node)]
