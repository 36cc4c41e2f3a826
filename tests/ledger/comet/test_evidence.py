"""Evidence: two votes, and attacks on light clients; each way in which it proves nothing, by its words."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.block_ids import NIL, BlockID, PartSetHeader
from quorate.ledger.comet.evidence import (
    DUPLICATE_VOTE,
    LIGHT_CLIENT_ATTACK,
    MISCONDUCT,
    DuplicateVoteEvidence,
    EvidenceList,
    LightClientAttackEvidence,
    duplicate_votes,
    evidence_bytes,
    evidence_id,
)
from quorate.ledger.comet.evidence_checks import (
    blamed,
    is_too_old,
    verify_duplicate_votes,
    verify_light_client_attack,
)
from quorate.ledger.comet.json_shapes import of_json, to_json
from quorate.ledger.comet.light_blocks import LightBlock
from quorate.ledger.comet.params import Duration, EvidenceParams
from quorate.ledger.comet.times import NS_PER_S
from quorate.ledger.comet.votes import PRECOMMIT, PREVOTE, Vote
from quorate.parts.crypto.merkle import merkle_root

from tests.ledger.comet import chain, making

SET = making.validators({1: 10, 2: 5, 3: 3, 4: 1})
OTHERS = making.validators({11: 10, 12: 5})
ONE = BlockID(making.HASH, PartSetHeader(1, making.HASH))
OTHER = BlockID(making.HASH, PartSetHeader(2, making.HASH))
LIAR = SET.validators[1].address


def vote(block_id: BlockID, **changes: object) -> Vote:
    made = Vote(PREVOTE, 7, 0, block_id, making.at(7), LIAR, 1, bytes(64))
    return making.sign(replace(made, **changes))


def pair(one: Vote, other: Vote) -> DuplicateVoteEvidence:
    return duplicate_votes(one, other, SET.validators, making.at(7))


GOOD = pair(vote(ONE), vote(OTHER))


def test_two_votes_are_evidence_in_either_order() -> None:
    assert pair(vote(OTHER), vote(ONE)) == GOOD
    assert (GOOD.validator_power, GOOD.total_voting_power) == (5, 19)
    assert GOOD.vote_a.block_id == ONE  # fewer parts, as the hashes are equal
    assert pair(vote(ONE), vote(NIL)).vote_a.block_id == NIL
    verify_duplicate_votes(GOOD, making.CHAIN, SET, making.at(7))


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (replace(GOOD, vote_a=GOOD.vote_b, vote_b=GOOD.vote_a), "not in the order of their blocks"),
        (replace(GOOD, vote_b=GOOD.vote_a), "are for one block"),
        (replace(GOOD, vote_b=vote(OTHER, height=8)), "of two steps"),
        (replace(GOOD, vote_b=vote(OTHER, round=1)), "of two steps"),
        (replace(GOOD, vote_b=vote(OTHER, type=PRECOMMIT)), "of two steps"),
        (replace(GOOD, vote_b=vote(OTHER, validator_address=SET.validators[0].address)), "of two validators"),
        (replace(GOOD, vote_a=replace(GOOD.vote_a, signature=bytes(64))), "the signature of the first vote"),
        (replace(GOOD, vote_b=replace(GOOD.vote_b, timestamp=making.at(8))), "the signature of the second vote"),
        (replace(GOOD, validator_power=6), "a power of 6 of 19, not 5 of 19"),
        (replace(GOOD, total_voting_power=20), "a power of 5 of 20"),
        (replace(GOOD, timestamp=making.at(8)), "a time of"),
    ],
)
def test_two_votes_that_prove_nothing(piece: DuplicateVoteEvidence, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        verify_duplicate_votes(piece, making.CHAIN, SET, making.at(7))


def test_votes_for_another_chain_and_of_a_stranger() -> None:
    with pytest.raises(ValueError, match="the signature of the first vote"):
        verify_duplicate_votes(GOOD, "other", SET, making.at(7))
    with pytest.raises(ValueError, match="is not a validator at height 7"):
        verify_duplicate_votes(GOOD, making.CHAIN, OTHERS, making.at(7))
    with pytest.raises(ValueError, match="is not a validator"):
        duplicate_votes(vote(ONE), vote(OTHER), OTHERS.validators, making.at(7))


def test_the_evidence_of_the_recorded_chain() -> None:
    found = 0
    for height in chain.heights():
        for piece in height.block.evidence.evidence:
            assert isinstance(piece, DuplicateVoteEvidence)
            then = chain.height(piece.height)
            verify_duplicate_votes(piece, chain.chain_id(), then.validator_set, then.block.header.time)
            made = duplicate_votes(piece.vote_b, piece.vote_a, then.validators, then.block.header.time)
            assert made == piece
            data = DUPLICATE_VOTE.encode(piece)
            for bit in range(len(data) * 8):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                with pytest.raises(ValueError, match=r"."):  # in words
                    refuse_flipped(bytes(flipped), piece, height.block.evidence)
            found += 1
    assert found == 2


def refuse_flipped(data: bytes, piece: DuplicateVoteEvidence, pieces: EvidenceList) -> None:
    found = DUPLICATE_VOTE.decode_exact(data)
    then = chain.height(piece.height)
    if EvidenceList((found,)).hash() != pieces.hash():  # what is not signed, as the index of the validator, is hashed
        raise ValueError("another evidence_hash")
    verify_duplicate_votes(found, chain.chain_id(), then.validator_set, then.block.header.time)


# Attacks on light clients. The chain: validators SET at all heights, in round 0.
COMMON = making.header(5, SET, SET)
REAL = making.block(9, SET).signed_header


def attack(light: LightBlock, common: int, *who: int) -> LightClientAttackEvidence:
    """Who: by place in the set."""
    liars = tuple(SET.validators[i] for i in who)
    return LightClientAttackEvidence(light, common, liars, SET.power(), making.at(common))


def verify(piece: LightClientAttackEvidence, trusted: Any = REAL) -> None:
    verify_light_client_attack(piece, making.header(piece.common_height, SET, SET), SET, trusted)


LUNATIC = attack(making.block(9, SET, app_hash=b"lunatic", absent={3}), 5, 0, 1, 2)
EQUIVOCATION = attack(making.block(9, SET, data_hash=making.HASH[::-1], nil={2}), 9, 0, 1, 3)
AMNESIA = attack(making.block(9, SET, data_hash=making.HASH[::-1], round_=1), 9)
FORWARD = attack(making.block(12, SET, time=making.at(8)), 5, 0, 1, 2, 3)


def test_three_kinds_of_attack_and_one_on_the_future() -> None:
    for piece in (LUNATIC, EQUIVOCATION, AMNESIA):
        verify(piece)
    assert blamed(AMNESIA, SET, REAL) == []
    verify(replace(FORWARD, byzantine_validators=tuple(blamed(FORWARD, SET, REAL))))


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (attack(making.block(9, SET), 9), "the block is the chain's own"),
        (attack(making.block(12, SET, app_hash=b"x"), 5, 0, 1, 2, 3), "the chain, which may still come to it"),
        (replace(LUNATIC, byzantine_validators=LUNATIC.byzantine_validators[:2]), "it blames 2 validators, not the 3"),
        (replace(LUNATIC, byzantine_validators=LUNATIC.byzantine_validators[::-1]), "it blames 3 validators"),
        (replace(AMNESIA, byzantine_validators=SET.validators), "it blames 4 validators, not the 0"),
        (replace(LUNATIC, total_voting_power=20), "a total power of 20, not 19"),
        (replace(LUNATIC, timestamp=making.at(6)), "not of the common header's height and time"),
        (replace(LUNATIC, common_height=10), "common height 10, block of height 9"),
        (attack(making.block(9, SET, app_hash=b"lunatic"), 9, 0, 1, 2, 3), "the common height must be lower"),
        (attack(making.block(9, OTHERS), 5), "it takes more than 1/3"),
        (attack(making.block(9, SET, app_hash=b"lunatic", absent={0}), 5, 1, 2, 3), "it takes more than 2/3"),
    ],
)
def test_attacks_that_were_none(piece: LightClientAttackEvidence, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        verify(piece)


def test_the_blame_is_not_moved_to_another_key() -> None:
    """The address of the liar, with the key of somebody innocent, whom the app would punish."""
    innocent = making.validator(50, 10)
    moved = replace(LUNATIC.byzantine_validators[0], pub_key=innocent.pub_key)
    with pytest.raises(ValueError, match="is not the address of its key"):
        verify(replace(LUNATIC, byzantine_validators=(moved, *LUNATIC.byzantine_validators[1:])))


@pytest.mark.parametrize("piece", [GOOD, LUNATIC, EQUIVOCATION, AMNESIA])
def test_bytes_json_and_hash(piece: Any) -> None:
    assert MISCONDUCT.decode_exact(MISCONDUCT.encode(piece)) == piece
    assert of_json(MISCONDUCT, to_json(MISCONDUCT, piece)) == piece
    assert EvidenceList((piece, piece)).hash() == merkle_root([evidence_bytes(piece)] * 2)


def test_what_tells_evidence_apart() -> None:
    """Of an attack the header and the common height, whoever signed."""
    fewer = attack(making.block(9, SET, app_hash=b"lunatic", absent={2, 3}), 5, 0, 1)
    assert evidence_bytes(fewer) != evidence_bytes(LUNATIC)
    assert evidence_id(fewer) == evidence_id(LUNATIC) != evidence_id(EQUIVOCATION)
    assert evidence_id(replace(LUNATIC, common_height=6)) != evidence_id(LUNATIC)
    assert evidence_id(GOOD) != evidence_id(pair(vote(ONE), vote(NIL)))


def test_evidence_is_too_old_when_it_is_older_than_both_limits() -> None:
    params = EvidenceParams(10, Duration(60), 1 << 20)
    for height, age_s, old in ((18, 61, True), (17, 61, False), (18, 60, False)):
        assert is_too_old(GOOD, height, GOOD.timestamp.plus_ns(age_s * NS_PER_S), params) is old


def test_evidence_that_lacks_a_part() -> None:
    with pytest.raises(ValueError, match="DuplicateVoteEvidence: Missing required argument 'vote_a'"):
        DUPLICATE_VOTE.decode(b"")
    with pytest.raises(ValueError, match=r"\.conflicting_block: LightBlock: Missing required"):
        LIGHT_CLIENT_ATTACK.decode(b"\x0a\x00")
