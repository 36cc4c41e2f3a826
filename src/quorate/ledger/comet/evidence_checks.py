"""Whether evidence holds, and whom it blames.

Raises ValueError, which says why not. Who asks has the chain: the validators, the headers and commits of the heights.

Source: CometBFT 0.38, ``spec/consensus/evidence.md``, ``evidence/verify.go``, ``types/evidence.go``.
"""

from __future__ import annotations

from quorate.ledger.comet.commits import FOR_BLOCK
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, LightClientAttackEvidence, Misconduct
from quorate.ledger.comet.headers import Header
from quorate.ledger.comet.light_blocks import SignedHeader
from quorate.ledger.comet.light_client import TRUST_LEVEL_MIN, check_whole
from quorate.ledger.comet.params import EvidenceParams
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import CometValidator, CometValidatorSet
from quorate.ledger.comet.verification import verify_commit_light, verify_commit_trusting
from quorate.ledger.comet.votes import vote_sign_bytes
from quorate.parts.crypto.zip215 import VerifySignature, verify_zip215


def is_too_old(piece: Misconduct, height: int, time: Timestamp, params: EvidenceParams) -> bool:
    """Whether evidence has expired at this height and time of the chain: it is older than both limits."""
    age_ns = time.ns() - piece.time.ns()
    return age_ns > params.max_age_duration.ns() and height - piece.height > params.max_age_num_blocks


def verify_duplicate_votes(
    piece: DuplicateVoteEvidence,
    chain_id: str,
    validators: CometValidatorSet,
    time: Timestamp,
    verify: VerifySignature = verify_zip215,
) -> None:
    """Raises ValueError unless one of the validators signed both votes.

    ``validators``: those of the votes' height; ``time``: of its block.
    """
    piece.check()
    first, second = piece.vote_a, piece.vote_b
    if (first.height, first.round, first.type) != (second.height, second.round, second.type):
        raise ValueError("evidence: the votes are of two steps")
    if first.validator_address != second.validator_address:
        raise ValueError("evidence: the votes are of two validators")
    validator = validators.by_address().get(first.validator_address)
    if validator is None:
        raise ValueError(f"evidence: {first.validator_address.hex()} is not a validator at height {first.height}")
    if (piece.validator_power, piece.total_voting_power) != (validator.voting_power, validators.power()):
        raise ValueError(
            f"evidence: a power of {piece.validator_power} of {piece.total_voting_power}, "
            f"not {validator.voting_power} of {validators.power()}"
        )
    if piece.timestamp != time:
        raise ValueError(f"evidence: a time of {piece.timestamp.text()}, not {time.text()}")
    for vote, which in ((first, "first"), (second, "second")):
        if not verify(validator.pub_key.ed25519, vote_sign_bytes(chain_id, vote), vote.signature):
            raise ValueError(f"evidence: the signature of the {which} vote is wrong")


def verify_light_client_attack(
    piece: LightClientAttackEvidence,
    common: Header,
    validators: CometValidatorSet,
    trusted: SignedHeader,
    verify: VerifySignature = verify_zip215,
) -> None:
    """Raises ValueError unless the block was signed as one of the chain, is not one, and it blames the right ones.

    ``common`` and ``validators``: the chain's header and validators at the common height. ``trusted``: the chain's at
    the height of the block, or its last one, if the block is above it; of its commit, round and flags count alone.
    """
    block, chain_id = piece.conflicting_block, trusted.header.chain_id
    piece.check()
    check_whole(block)
    if common.height != piece.common_height or piece.timestamp != common.time:
        raise ValueError("evidence: it is not of the common header's height and time")
    if common.height != block.header.height:
        verify_commit_trusting(chain_id, validators, block.commit, TRUST_LEVEL_MIN, verify)
    elif is_lunatic(piece, trusted.header):
        raise ValueError("evidence: the block follows on none of the chain, so the common height must be lower")
    verify_commit_light(chain_id, block.validator_set, block.commit.block_id, block.header.height, block.commit, verify)
    if piece.total_voting_power != validators.power():
        raise ValueError(f"evidence: a total power of {piece.total_voting_power}, not {validators.power()}")
    if block.header.height > trusted.header.height and block.header.time > trusted.header.time:
        raise ValueError("evidence: the block is later than the chain, which may still come to it")
    if block.header.hash() == trusted.header.hash():
        raise ValueError("evidence: the block is the chain's own")
    expected = blamed(piece, validators, trusted)
    found = [(validator.address, validator.voting_power) for validator in piece.byzantine_validators]
    if found != [(validator.address, validator.voting_power) for validator in expected]:
        raise ValueError(f"evidence: it blames {len(found)} validators, not the {len(expected)} that misbehaved")
    for validator in piece.byzantine_validators:
        validator.check()  # an app is told the key's address, which must not be another's


def is_lunatic(piece: LightClientAttackEvidence, trusted: Header) -> bool:
    """Whether the block's header follows on no state of the chain, and not just on another choice of transactions."""
    header = piece.conflicting_block.header
    return (
        header.validators_hash != trusted.validators_hash
        or header.next_validators_hash != trusted.next_validators_hash
        or header.consensus_hash != trusted.consensus_hash
        or header.app_hash != trusted.app_hash
        or header.last_results_hash != trusted.last_results_hash
    )


def blamed(
    piece: LightClientAttackEvidence, validators: CometValidatorSet, trusted: SignedHeader
) -> list[CometValidator]:
    """The validators that the attack convicts, in the order of a set. Of amnesia (two rounds), nobody: no block says
    who changed its mind without a reason.
    """
    block, found = piece.conflicting_block, []
    if is_lunatic(piece, trusted.header):
        known = validators.by_address()
        for signature in block.commit.signatures:
            if signature.block_id_flag == FOR_BLOCK and signature.validator_address in known:
                found.append(known[signature.validator_address])
    elif trusted.commit.round == block.commit.round:  # equivocation: the same validators in the same order
        entries = zip(block.validator_set.validators, block.commit.signatures, trusted.commit.signatures, strict=True)
        for validator, one, other in entries:
            if one.block_id_flag == other.block_id_flag == FOR_BLOCK:
                found.append(validator)
    return sorted(found, key=lambda validator: (-validator.voting_power, validator.address))
