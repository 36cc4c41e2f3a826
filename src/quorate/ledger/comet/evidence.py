"""Evidence: what a block may hold to prove that validators misbehaved, and what is hashed of it.

Two votes of one validator for one step, for different blocks. Or a block that was signed for light clients and is not
the chain's. What is here is their form; ``evidence_checks`` says whether they hold.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (Evidence), ``spec/consensus/evidence.md``,
``types/evidence.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

import msgspec

from quorate.ledger.comet.block_ids import PART_SET_HEADER, BlockID
from quorate.ledger.comet.light_blocks import LIGHT_BLOCK, LightBlock
from quorate.ledger.comet.params import BLOCK_BYTES_MAX
from quorate.ledger.comet.proto import (
    INT64,
    ChoiceType,
    Field,
    MessageKind,
    MessageType,
)
from quorate.ledger.comet.times import TIMESTAMP, ZERO_TIME, Timestamp
from quorate.ledger.comet.validators import VALIDATOR, VALIDATORS_MAX, CometValidator
from quorate.ledger.comet.votes import VOTE, Vote
from quorate.ledger.comet.wire_reader import uvarint
from quorate.parts.crypto.merkle import merkle_root

EVIDENCE_MAX: Final = 1 << 12
"""Pieces of evidence in one block. Ours; CometBFT bounds their bytes by a parameter of the chain."""


class DuplicateVoteEvidence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Two votes of one validator for one step. The powers and the time are those of the votes' height."""

    vote_a: Vote
    vote_b: Vote
    total_voting_power: int = 0
    validator_power: int = 0
    timestamp: Timestamp = ZERO_TIME

    def check(self) -> None:
        """Raises ValueError unless the votes are in the order of their blocks, which makes equal pairs equal bytes."""
        if block_order(self.vote_a.block_id) >= block_order(self.vote_b.block_id):
            raise ValueError("evidence: its votes are for one block, or not in the order of their blocks")

    @property
    def height(self) -> int:
        """Of the misbehaviour."""
        return self.vote_a.height

    @property
    def time(self) -> Timestamp:
        """Of the block of that height."""
        return self.timestamp


class LightClientAttackEvidence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A block for light clients that is not the chain's. ``common_height``: the last one on which both agree."""

    conflicting_block: LightBlock
    common_height: int = 0
    byzantine_validators: tuple[CometValidator, ...] = ()
    total_voting_power: int = 0
    timestamp: Timestamp = ZERO_TIME

    def check(self) -> None:
        """Raises ValueError for heights and powers that cannot be."""
        if not 1 <= self.common_height <= self.conflicting_block.header.height:
            raise ValueError(
                f"evidence: common height {self.common_height}, block of height {self.conflicting_block.header.height}"
            )
        if self.total_voting_power < 1:
            raise ValueError(f"evidence: a total power of {self.total_voting_power}")

    @property
    def height(self) -> int:
        """Of the misbehaviour: at the common height the liars were validators for sure."""
        return self.common_height

    @property
    def time(self) -> Timestamp:
        """Of the block of the common height."""
        return self.timestamp


Misconduct: TypeAlias = DuplicateVoteEvidence | LightClientAttackEvidence
"""One piece of evidence (Evidence)."""


class EvidenceList(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a block has of it."""

    evidence: tuple[Misconduct, ...] = ()

    def hash(self) -> bytes:
        """What the header calls ``evidence_hash``: the root over the pieces' encodings, without their kinds."""
        return evidence_root(self.evidence)


DUPLICATE_VOTE: Final = MessageType(
    DuplicateVoteEvidence,
    Field(1, "vote_a", MessageKind(VOTE)),
    Field(2, "vote_b", MessageKind(VOTE)),
    Field(3, "total_voting_power", INT64),
    Field(4, "validator_power", INT64),
    Field(5, "timestamp", MessageKind(TIMESTAMP), always=True),
    check=DuplicateVoteEvidence.check,
)
LIGHT_CLIENT_ATTACK: Final = MessageType(
    LightClientAttackEvidence,
    Field(1, "conflicting_block", MessageKind(LIGHT_BLOCK)),
    Field(2, "common_height", INT64),
    Field(3, "byzantine_validators", MessageKind(VALIDATOR), count_max=VALIDATORS_MAX),
    Field(4, "total_voting_power", INT64),
    Field(5, "timestamp", MessageKind(TIMESTAMP), always=True),
    bytes_max=VALIDATORS_MAX * 512,
    check=LightClientAttackEvidence.check,
)
MISCONDUCT: Final[ChoiceType[Misconduct]] = ChoiceType(
    "Evidence", {1: DUPLICATE_VOTE, 2: LIGHT_CLIENT_ATTACK}, bytes_max=VALIDATORS_MAX * 512
)
EVIDENCE_LIST: Final = MessageType(
    EvidenceList, Field(1, "evidence", MessageKind(MISCONDUCT), count_max=EVIDENCE_MAX), bytes_max=BLOCK_BYTES_MAX
)


def block_order(block_id: BlockID) -> bytes:
    """What two votes of one evidence are ordered by: the block's hash, then its parts."""
    return block_id.hash + PART_SET_HEADER.encode(block_id.part_set_header)


def duplicate_votes(
    one: Vote, other: Vote, validators: Sequence[CometValidator], time: Timestamp
) -> DuplicateVoteEvidence:
    """Evidence of two votes, in any order. ``validators``: those of the votes' height; ``time``: of its block.

    Raises ValueError for a validator who is not one of them.
    """
    first, second = sorted((one, other), key=lambda vote: block_order(vote.block_id))
    power = next((v.voting_power for v in validators if v.address == one.validator_address), None)
    if power is None:
        raise ValueError(f"evidence: {one.validator_address.hex()} is not a validator")
    return DuplicateVoteEvidence(first, second, sum(v.voting_power for v in validators), power, time)


def evidence_bytes(piece: Misconduct) -> bytes:
    """A leaf of the evidence hash."""
    if isinstance(piece, DuplicateVoteEvidence):
        return DUPLICATE_VOTE.encode(piece)
    return LIGHT_CLIENT_ATTACK.encode(piece)


def evidence_root(pieces: Iterable[Misconduct]) -> bytes:
    """The hash of a block's evidence."""
    return merkle_root(list(map(evidence_bytes, pieces)))


def evidence_id(piece: Misconduct) -> bytes:
    """What tells one piece from another, so that none is committed twice (Evidence.Hash).

    Of a light client attack, only the header and the common height count: the same attack with other signatures is the
    same. CometBFT copies 31 bytes of the header's hash and leaves a zero in place of the last, and so does this.
    """
    if isinstance(piece, DuplicateVoteEvidence):
        return sha256(DUPLICATE_VOTE.encode(piece)).digest()
    header_hash = piece.conflicting_block.header.hash()
    return sha256(header_hash[:31] + b"\0" + uvarint(piece.common_height << 1)).digest()  # zigzag
