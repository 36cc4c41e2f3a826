"""Evidence that waits at a node that serves clients' requests: kept, told to all, and let go.

``test_accusing.py`` has more of it, with an ABCI app: the part is the same. Here is what the core around it does.
"""

import pytest
from msgspec.structs import replace

from quorate.kernel import Done, Stalled, Turn
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct
from quorate.parts.log.replicated import Chunk, TakeCommonSnapshot, Written
from quorate.protocols.tendermint.accusing import HEARD_BYTES_MAX, WAITING_MAX
from quorate.protocols.tendermint.app_messages import EvidenceTaken
from quorate.protocols.tendermint.current_height import STALLED
from quorate.protocols.tendermint.messages import Accusation, Decision, ImagePiece, PendingEvidence, Proposal

from tests.protocols.tendermint.double_votes import MINE, decision_with, evidence
from tests.protocols.tendermint.one_node import (
    ME,
    TWO,
    A,
    B,
    OneNode,
    P,
    blames,
    decision,
    prevote,
    said,
    told,
    written,
)
from tests.protocols.tendermint.snapshots import DATA, SMALL, TREE, image, info, offer

PEER, LIAR = P[0], P[1]
FIRST, SECOND = evidence(LIAR), evidence(LIAR, 2)


def data_of(piece: Misconduct) -> bytes:
    return MISCONDUCT.encode(piece)


def decides(node: OneNode, *heights: int) -> Turn:
    return node.hears(*[(PEER, decision(height)) for height in heights])


def shows(node: OneNode, piece: Misconduct) -> Turn:
    return node.hears((ME, Accusation(1, data_of(piece))))


def tells(node: OneNode, piece: Misconduct, height: int, sender: int = PEER) -> Turn:
    return node.hears((sender, Accusation(height, data_of(piece))))


def kept(turn: Turn) -> list[PendingEvidence]:
    return [record for record in written(turn) if isinstance(record, PendingEvidence)]


def accused(turn: Turn) -> list[Accusation]:
    """What all others are told."""
    return [m for m in told(turn, PEER) if isinstance(m, Accusation) and m in told(turn, P[2])]


def waiting(node: OneNode) -> list[Misconduct]:
    return list(node.core.evidence.waiting.values())


def proposed(turn: Turn) -> list[Misconduct]:
    """In the block that this node proposes."""
    (m,) = [m for m in said(turn) if isinstance(m, Proposal)]
    return list(BLOCK.decode(m.block).evidence.evidence)


def test_what_is_shown_is_kept_told_to_all_and_in_the_next_block() -> None:
    node = OneNode()
    turn = shows(node, FIRST)
    assert list(turn.outputs) == [
        EvidenceTaken(data_of(FIRST), "evidence: no height is known here that it could be of")
    ]
    decides(node, *range(1, MINE))
    turn, data = shows(node, FIRST), data_of(FIRST)
    assert kept(turn) == [PendingEvidence(MINE - 1, None, data)]
    assert accused(turn) == [Accusation(MINE - 1, data)]
    assert list(turn.outputs) == [EvidenceTaken(data, "")]
    assert [len(accused(node.fires("beat"))) for _ in range(5)] == [1, 1, 0, 1, 0]
    assert not node.core.current.open.rules.is_started, "no block is made for evidence alone"
    assert proposed(node.submits(TWO)) == [FIRST]
    node.hears((PEER, decision_with(MINE, FIRST)))
    assert (waiting(node), node.core.accusing.kept) == ([], {})
    turn = shows(node, FIRST)
    assert (list(turn.outputs), kept(turn), accused(turn)) == ([EvidenceTaken(data, "")], [], []), "a block has it"


def test_what_does_not_hold_or_comes_at_a_bad_time_is_refused() -> None:
    node = OneNode()
    decides(node, 1)
    (taken,) = shows(node, replace(FIRST, total_voting_power=7)).outputs
    assert "of 7, not" in taken.why
    node.step(Stalled("full"))
    assert list(shows(node, FIRST).outputs) == [EvidenceTaken(data_of(FIRST), STALLED)]
    assert kept(tells(node, FIRST, 1)) == []
    node.step(Stalled(None))
    assert len(kept(tells(node, FIRST, 1))) == 1


def test_votes_that_this_node_saw_are_kept_and_told_when_their_height_is_decided() -> None:
    node = OneNode()
    node.hears(*[(LIAR, prevote(LIAR, 0, values)) for values in (A, B)])
    turn = decides(node, 1)
    (record,) = kept(turn)
    assert (record.height, record.source, waiting(node)) == (1, None, [MISCONDUCT.decode(record.piece)])
    assert accused(turn) == [Accusation(1, record.piece)]


def test_slander_is_blamed_and_nothing_more_is_looked_at_until_the_next_beat() -> None:
    node = OneNode()
    decides(node, 1)
    lie = replace(FIRST, vote_a=replace(FIRST.vote_a, signature=bytes(64)))
    turn = tells(node, lie, 1)
    assert ([who for who, _ in blames(turn)], kept(turn)) == ([PEER], [])
    turn = tells(node, FIRST, 1)
    assert (blames(turn), kept(turn)) == ([], [])
    assert len(kept(tells(node, FIRST, 1, P[2]))) == 1, "of another"
    node.fires("beat")
    turn = tells(node, evidence(LIAR, round=1), 1)
    assert [record.source for record in kept(turn)] == [PEER]
    assert accused(turn) == [], "it is not passed on"


def test_a_flood_of_what_is_true_has_an_end() -> None:
    node = OneNode()
    decides(node, 1)
    pieces = [evidence(PEER, round=round) for round in range(WAITING_MAX)]
    turn = node.hears(*[(PEER, Accusation(1, data_of(piece))) for piece in pieces])
    assert 0 < sum(len(record.piece) for record in kept(turn)) <= HEARD_BYTES_MAX
    for _ in range(8):
        node.fires("beat")
        node.hears(*[(PEER, Accusation(1, data_of(piece))) for piece in pieces])
    assert len(waiting(node)) == WAITING_MAX // 4
    assert list(shows(node, FIRST).outputs) == [EvidenceTaken(data_of(FIRST), "")], "there is room for others'"


# --- crashes ---


def a_life() -> list[object]:
    """What a node writes that is shown one piece and told of another, until a block has the first."""
    node, records = OneNode(), []
    for turn in (
        decides(node, 1),
        shows(node, FIRST),
        decides(node, 2),
        tells(node, SECOND, 2),
        decides(node, 3),
        node.hears((PEER, decision_with(4, FIRST))),
    ):
        records += written(turn)
    return records


LIFE = a_life()


@pytest.mark.parametrize("count", range(len(LIFE) + 1))
@pytest.mark.parametrize("is_whole", [True, False], ids=["a journal", "a checkpoint"])
def test_after_each_write_a_crash_takes_nothing_that_waits(count: int, is_whole: bool) -> None:
    records = LIFE[:count]
    node = OneNode(records if is_whole else OneNode(records).recovered)
    pieces = [MISCONDUCT.decode(record.piece) for record in records if isinstance(record, PendingEvidence)]
    decided = [record for record in records if isinstance(record, Decision)]
    due = [piece for piece in pieces if not (piece == FIRST and len(decided) == 4)]
    assert waiting(node) == due
    assert accused(node.first) == [Accusation(1, data_of(piece)) for piece in due if piece == FIRST], "its own"


def test_the_life_has_both_pieces() -> None:
    assert [type(record).__name__ for record in LIFE] == [
        *("Decision", "PendingEvidence", "Decision", "PendingEvidence", "Decision", "Decision"),
    ]


# --- snapshots ---


def test_at_a_snapshot_what_waits_is_forgotten_by_all_and_after_a_restart_too() -> None:
    node, records = OneNode(config=SMALL), []
    records += written(decides(node, 1))
    records += written(shows(node, FIRST))
    turn = decides(node, 2)
    records += written(turn)
    assert (waiting(node), node.core.accusing.kept, list(node.core.accusing.records())) == ([], {}, [])
    (taken,) = shows(node, SECOND).outputs
    assert "no height is known" in taken.why
    node.fires("pause")
    (job,) = [job for job in turn.jobs if isinstance(job.work, TakeCommonSnapshot)]
    records += written(node.step(Done(job.key, info(image(2)), job.path)))
    again = OneNode(records, config=SMALL)
    assert again.core.checkpoints.images == [image(2)]
    decides(again, 3)
    assert (waiting(again), again.core.accusing.kept) == ([], {}), "nobody would vote for a block that has it"
    assert list(shows(again, evidence(LIAR, 3)).outputs) == [EvidenceTaken(data_of(evidence(LIAR, 3)), "")]


def test_a_snapshot_that_was_fetched_takes_the_place_of_what_waits() -> None:
    node = OneNode(config=SMALL)
    decides(node, 1)
    shows(node, FIRST)
    node.hears((PEER, offer(image(4))))
    for offset in range(0, len(DATA), 4):
        piece = ImagePiece(Chunk(4, 4, offset, DATA[offset : offset + 4], len(DATA)), TREE.proof(offset // 4))
        (job,) = node.hears((PEER, piece)).jobs
        end = min(offset + 4, len(DATA))
        node.step(Done(job.key, Written(4, 4, end, end == len(DATA)), job.path))
    assert node.core.log.base == 4
    assert (waiting(node), node.core.accusing.kept) == ([], {})
    assert [accused(node.fires("beat")) for _ in range(4)] == [[]] * 4
