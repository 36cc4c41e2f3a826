"""Votes and proposals, and the bytes that validators sign of them.

What is signed is canonical: heights and rounds have a fixed size, a vote for nil names no block, and the chain is named
in it, so that a signature counts in no other chain. Whose vote it is, is not in it: the key says that. The extension of
a precommit is signed by itself.

Source: CometBFT 0.38, ``spec/core/encoding.md`` (Sign bytes), ``spec/consensus/signing.md``, ``types/canonical.go``.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import ADDRESS, BLOCK_ID, NIL, BlockID, check_address
from quorate.ledger.comet.headers import CHAIN_ID_BYTES_MAX
from quorate.ledger.comet.proto import (
    INT32,
    INT64,
    SFIXED64,
    BytesKind,
    EnumKind,
    Field,
    MessageKind,
    MessageType,
    TextKind,
)
from quorate.ledger.comet.times import TIMESTAMP, ZERO_TIME, Timestamp
from quorate.ledger.comet.wire_reader import delimited

SIGNATURE_BYTES: Final = 64
"""Of Ed25519, the only keys here. CometBFT has room for those of other keys."""
EXTENSION_BYTES_MAX: Final = 1 << 20
"""CometBFT bounds an extension by its messages between nodes, of 1 MiB."""
STEPS_KEPT: Final = 64
"""Of so many steps and blocks it is remembered what all their votes have in common."""


class SignedMessageType(enum.IntEnum):
    """What is signed (SignedMsgType)."""

    UNKNOWN = 0
    PREVOTE = 1
    PRECOMMIT = 2
    PROPOSAL = 32


PREVOTE: Final = SignedMessageType.PREVOTE
PRECOMMIT: Final = SignedMessageType.PRECOMMIT


class Vote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A prevote or precommit of one validator, for a block or for nil."""

    type: SignedMessageType = SignedMessageType.UNKNOWN
    height: int = 0
    round: int = 0
    block_id: BlockID = NIL
    timestamp: Timestamp = ZERO_TIME
    validator_address: bytes = b""
    validator_index: int = 0
    signature: bytes = b""
    extension: bytes = b""
    extension_signature: bytes = b""

    def check(self) -> None:
        """Raises ValueError for what is no vote, whatever the chain."""
        if self.type not in (PREVOTE, PRECOMMIT):
            raise ValueError(f"vote: type {self.type}, neither prevote nor precommit")
        if self.height < 1 or self.round < 0 or self.validator_index < 0:
            raise ValueError(f"vote: height {self.height}, round {self.round}, validator {self.validator_index}")
        if not (self.block_id.is_nil or self.block_id.is_complete):
            raise ValueError("vote: its block is neither nil nor complete")
        check_address("vote: validator", self.validator_address)
        check_signature("vote", self.signature)
        if self.type == PREVOTE or self.block_id.is_nil:
            if self.extension or self.extension_signature:
                raise ValueError("vote: only a precommit for a block has an extension")
        elif self.extension_signature:
            check_signature("vote: extension", self.extension_signature)
        elif self.extension:
            raise ValueError("vote: an extension without a signature")


class Proposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A proposer's word for a block. ``pol_round``: that of the prevotes that it was seen valid in; -1 if it is new."""

    type: SignedMessageType = SignedMessageType.PROPOSAL
    height: int = 0
    round: int = 0
    pol_round: int = 0
    block_id: BlockID = NIL
    timestamp: Timestamp = ZERO_TIME
    signature: bytes = b""

    def check(self) -> None:
        """Raises ValueError for what is no proposal, whatever the chain."""
        if self.type != SignedMessageType.PROPOSAL:
            raise ValueError(f"proposal: type {self.type}")
        if self.height < 1 or self.round < 0 or not -1 <= self.pol_round < self.round:
            raise ValueError(f"proposal: height {self.height}, round {self.round}, of round {self.pol_round}")
        if not self.block_id.is_complete:
            raise ValueError("proposal: its block is not complete")
        check_signature("proposal", self.signature)


class CanonicalVote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is signed of a vote."""

    type: SignedMessageType
    height: int
    round: int
    block_id: BlockID | None
    timestamp: Timestamp
    chain_id: str


class CanonicalProposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is signed of a proposal."""

    type: SignedMessageType
    height: int
    round: int
    pol_round: int
    block_id: BlockID | None
    timestamp: Timestamp
    chain_id: str


class CanonicalExtension(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is signed of a precommit's extension."""

    extension: bytes
    height: int
    round: int
    chain_id: str


_TYPE: Final = EnumKind(SignedMessageType)
_SIGNATURE: Final = BytesKind(SIGNATURE_BYTES)
_EXTENSION: Final = BytesKind(EXTENSION_BYTES_MAX)
_CHAIN_ID: Final = TextKind(CHAIN_ID_BYTES_MAX)

VOTE: Final = MessageType(
    Vote,
    Field(1, "type", _TYPE),
    Field(2, "height", INT64),
    Field(3, "round", INT32),
    Field(4, "block_id", MessageKind(BLOCK_ID), always=True),
    Field(5, "timestamp", MessageKind(TIMESTAMP), always=True),
    Field(6, "validator_address", ADDRESS),
    Field(7, "validator_index", INT32),
    Field(8, "signature", _SIGNATURE),
    Field(9, "extension", _EXTENSION),
    Field(10, "extension_signature", _SIGNATURE),
    bytes_max=EXTENSION_BYTES_MAX + 1024,
    check=Vote.check,
)
PROPOSAL: Final = MessageType(
    Proposal,
    Field(1, "type", _TYPE),
    Field(2, "height", INT64),
    Field(3, "round", INT32),
    Field(4, "pol_round", INT32),
    Field(5, "block_id", MessageKind(BLOCK_ID), always=True),
    Field(6, "timestamp", MessageKind(TIMESTAMP), always=True),
    Field(7, "signature", _SIGNATURE),
    check=Proposal.check,
)
CANONICAL_VOTE: Final = MessageType(
    CanonicalVote,
    Field(1, "type", _TYPE),
    Field(2, "height", SFIXED64),
    Field(3, "round", SFIXED64),
    Field(4, "block_id", MessageKind(BLOCK_ID)),
    Field(5, "timestamp", MessageKind(TIMESTAMP), always=True),
    Field(6, "chain_id", _CHAIN_ID),
)
_TIME: Final = CANONICAL_VOTE.by_number[5]
CANONICAL_PROPOSAL: Final = MessageType(
    CanonicalProposal,
    Field(1, "type", _TYPE),
    Field(2, "height", SFIXED64),
    Field(3, "round", SFIXED64),
    Field(4, "pol_round", INT64),
    Field(5, "block_id", MessageKind(BLOCK_ID)),
    Field(6, "timestamp", MessageKind(TIMESTAMP), always=True),
    Field(7, "chain_id", _CHAIN_ID),
)
CANONICAL_EXTENSION: Final = MessageType(
    CanonicalExtension,
    Field(1, "extension", _EXTENSION),
    Field(2, "height", SFIXED64),
    Field(3, "round", SFIXED64),
    Field(4, "chain_id", _CHAIN_ID),
)


def vote_sign_bytes(chain_id: str, vote: Vote) -> bytes:
    """What the validator signs of its vote; its address, index, signature and extension do not matter."""
    head, tail = _around_time(chain_id, vote.type, vote.height, vote.round, vote.block_id)
    return delimited(head + _TIME.write(vote.timestamp) + tail)


@lru_cache(maxsize=STEPS_KEPT)
def _around_time(
    chain_id: str, kind: SignedMessageType, height: int, round: int, block_id: BlockID
) -> tuple[bytes, bytes]:
    """The fields before a vote's time, and those after it: validators that vote alike differ in the time alone."""
    named = None if block_id.is_nil else block_id
    whole = CANONICAL_VOTE.encode(CanonicalVote(kind, height, round, named, ZERO_TIME, chain_id))
    head, _, tail = whole.rpartition(_TIME.write(ZERO_TIME))  # whose bytes are no text, so not in a chain's id
    return head, tail


def proposal_sign_bytes(chain_id: str, proposal: Proposal) -> bytes:
    """What the proposer signs."""
    block_id = None if proposal.block_id.is_nil else proposal.block_id
    p = proposal
    canonical = CanonicalProposal(p.type, p.height, p.round, p.pol_round, block_id, p.timestamp, chain_id)
    return delimited(CANONICAL_PROPOSAL.encode(canonical))


def extension_sign_bytes(chain_id: str, vote: Vote) -> bytes:
    """What the validator signs of its precommit's extension."""
    canonical = CanonicalExtension(vote.extension, vote.height, vote.round, chain_id)
    return delimited(CANONICAL_EXTENSION.encode(canonical))


def check_signature(what: str, signature: bytes) -> None:
    """Raises ValueError unless it has the size of an Ed25519 signature."""
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"{what}: a signature of {len(signature)} bytes, not {SIGNATURE_BYTES}")
