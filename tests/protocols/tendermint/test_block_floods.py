"""What the bytes of a liar cost: how many blocks are decoded, whatever it sends, and how often."""

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.block_ids import BlockID
from quorate.ledger.comet.commits import COMMIT, NO_SIG
from quorate.ledger.comet.part_sets import split
from quorate.protocols.tendermint import commits, open_height
from quorate.protocols.tendermint.effects import Equivocation, Step
from quorate.protocols.tendermint.heard import FAR_ROUNDS
from quorate.protocols.tendermint.messages import Decision
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, name_of_id
from quorate.protocols.tendermint.open_height import LOOKS_MAX

from tests.protocols.tendermint.alone import Alone
from tests.protocols.tendermint.one_node import (
    OTHERS,
    A,
    B,
    C,
    P,
    block,
    decision,
    precommit,
    prevote,
    proof_for,
    proposal,
    proposer_of,
)

FLOOD = 40


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was decoded of what came."""
    found: list[bytes] = []

    def decode(data: bytes) -> NamedBlock:
        found.append(data)
        return decode_block(data)

    for module in (open_height, commits):
        monkeypatch.setattr(module, "decode_block", decode)
    return found


def flood(alone: Alone, round: int, sender: int) -> list[str | None]:
    """Proposals of bytes that are no block, each of others."""
    open = alone.current.open
    return [open.on_proposal(sender, replace(proposal(round, A), block=b"%d" % i)) for i in range(FLOOD)]


def values(alone: Alone, round: int = 0) -> list[bytes]:
    return [one.value for one in alone.rules.heard.proposals(round)]


def test_of_one_round_two_blocks_are_decoded(decoded: list[bytes]) -> None:
    alone = Alone()
    wrong = "proposed what is not a block"
    assert flood(alone, 0, P[0]) == [wrong, wrong, *[None] * (FLOOD - 2)]
    assert alone.current.open.on_proposal(P[0], proposal(0, A)) is None
    assert (values(alone), len(decoded)) == ([], LOOKS_MAX)


def test_a_block_for_which_votes_speak_is_decoded_all_the_same(decoded: list[bytes]) -> None:
    """A correct node has taken it; the proposer told this one something else first."""
    alone = Alone()
    flood(alone, 0, P[0])
    for count, (node, make) in enumerate(((P[1], prevote), (P[2], prevote), (P[1], precommit), (P[2], precommit))):
        alone.current.open.on_vote(make(node, 0, A))
        assert alone.rules.heard.supported_count(0) == (count > 0), "one value, in whichever step"
    assert alone.current.open.on_proposal(P[0], proposal(0, A)) is None
    assert values(alone) == [block(A).name]
    assert flood(alone, 0, P[0]) == [None] * FLOOD
    assert len(decoded) == LOOKS_MAX + 1


def test_precommits_speak_for_a_block_too(decoded: list[bytes]) -> None:
    alone = Alone()
    flood(alone, 0, P[0])
    for node in (P[1], P[2]):
        alone.current.open.on_vote(precommit(node, 0, A))
    assert alone.current.open.on_proposal(P[0], proposal(0, A)) is None
    assert (values(alone), len(decoded)) == ([block(A).name], LOOKS_MAX + 1)


def test_the_second_proposal_shows_the_lie_and_the_third_is_not_looked_at(decoded: list[bytes]) -> None:
    alone = Alone()
    for content in (A, B, C, B, A):
        assert alone.current.open.on_proposal(P[0], proposal(0, content)) is None
    assert [type(effect) for effect in alone.rules.take()] == [Equivocation]
    assert values(alone) == [block(A).name, block(B).name]
    assert decoded == [block(A).data, block(B).data]


def test_what_is_known_is_not_decoded_again(decoded: list[bytes]) -> None:
    alone = Alone()
    for _ in range(FLOOD):
        assert alone.current.open.on_proposal(P[0], proposal(0, A)) is None
    assert len(decoded) == 1


def test_who_does_not_propose_is_not_listened_to(decoded: list[bytes]) -> None:
    alone = Alone()
    assert flood(alone, 0, P[1]) == ["proposed out of turn"] * FLOOD
    assert decoded == []


def test_all_rounds_together_cost_two_blocks_for_each_that_is_near(decoded: list[bytes]) -> None:
    alone = Alone()
    for round in range(3 * FAR_ROUNDS):
        flood(alone, round, proposer_of(round))
    assert len(decoded) == LOOKS_MAX * (FAR_ROUNDS + 1)


def test_a_decision_is_not_decoded_before_it_is_proven(decoded: list[bytes]) -> None:
    alone = Alone()
    true = decision()
    parts, _ = split(b"no block")
    fake = NamedBlock(name_of_id(BlockID(block(A).id.hash, parts)), b"no block", block(A).block)
    commit = COMMIT.decode(proof_for(Step.PRECOMMIT, 0, fake, OTHERS))
    place = next(i for i, entry in enumerate(commit.signatures) if entry != NO_SIG)
    entries = list(commit.signatures)
    entries[place] = replace(entries[place], signature=bytes(64))
    for wrong in (
        replace(true, block=b"no block"),
        replace(true, block=block(B).data),
        Decision(1, fake.data, COMMIT.encode(replace(commit, signatures=tuple(entries)))),
        Decision(1, fake.data, proof_for(Step.PRECOMMIT, 0, fake, OTHERS[:2])),
    ):
        turn = alone.do(alone.deciding.on_decision, P[1], wrong)
        assert [blame.why for blame in turn.blames] == ["sent a decision without a proof"]
    assert decoded == []
    alone.do(alone.deciding.on_decision, P[1], true)
    assert (alone.returned, decoded) == (True, [true.block])


def test_a_commit_of_the_same_bytes_under_another_header_decides_nothing() -> None:
    """The name that the votes say has two hashes, and both count."""
    alone = Alone()
    fake = replace(block(A), name=name_of_id(replace(block(A).id, hash=bytes(32))))
    alone.do(alone.deciding.on_decision, P[1], Decision(1, fake.data, proof_for(Step.PRECOMMIT, 0, fake, OTHERS)))
    assert (alone.returned, alone.current.next) == (False, 1)
