"""What ABCI messages contain: validators and their votes as an app sees them, misbehaviour, snapshots, proofs.

Source: CometBFT 0.38, ``proto/tendermint/abci/types.proto``, ``spec/abci/abci++_methods.md``.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import ADDRESS
from quorate.ledger.comet.commits import BlockIDFlag
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, Misconduct
from quorate.ledger.comet.proto import (
    INT32,
    INT64,
    UINT32,
    UINT64,
    BytesKind,
    EnumKind,
    Field,
    MessageKind,
    MessageType,
    TextKind,
)
from quorate.ledger.comet.times import TIMESTAMP, ZERO_TIME, Timestamp
from quorate.ledger.comet.validators import PUBLIC_KEY, VALIDATORS_MAX, ValidatorKey
from quorate.ledger.comet.votes import EXTENSION_BYTES_MAX, SIGNATURE_BYTES

ABCI_BYTES_MAX: Final = 1 << 27
"""Of one message. Ours: a block has 100 MiB at most, and CometBFT takes messages of 2 GiB."""
BLOB_BYTES_MAX: Final = 1 << 24
"""Of a key, a value, a chunk of a snapshot (16 MB there), a hash that the app chooses."""
PROOF_OPS_MAX: Final = 1 << 10

BLOB: Final = BytesKind(BLOB_BYTES_MAX)


class MisbehaviorType(enum.IntEnum):
    """Kinds of evidence."""

    UNKNOWN = 0
    DUPLICATE_VOTE = 1
    LIGHT_CLIENT_ATTACK = 2


class VotingValidator(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A validator without its key (Validator)."""

    address: bytes = b""
    power: int = 0


class ValidatorUpdate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A validator's new power, with which the app changes the set. 0 removes it."""

    pub_key: ValidatorKey = ValidatorKey()
    power: int = 0

    def check(self) -> None:
        """Raises ValueError for a key of another kind and a power below zero."""
        self.pub_key.check()
        if self.power < 0:
            raise ValueError(f"validator update: power {self.power}")


class VoteInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a validator did for the last block."""

    validator: VotingValidator = VotingValidator()
    block_id_flag: BlockIDFlag = BlockIDFlag.UNKNOWN


class ExtendedVoteInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The same with the extension of its precommit."""

    validator: VotingValidator = VotingValidator()
    vote_extension: bytes = b""
    extension_signature: bytes = b""
    block_id_flag: BlockIDFlag = BlockIDFlag.UNKNOWN


class CommitInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last block's commit."""

    round: int = 0
    votes: tuple[VoteInfo, ...] = ()


class ExtendedCommitInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The same with extensions."""

    round: int = 0
    votes: tuple[ExtendedVoteInfo, ...] = ()


class Misbehavior(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Evidence as the app hears of it, of one validator."""

    type: MisbehaviorType = MisbehaviorType.UNKNOWN
    validator: VotingValidator = VotingValidator()
    height: int = 0
    time: Timestamp = ZERO_TIME
    total_voting_power: int = 0


class AppSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A state of the app that others can take over, in chunks (Snapshot)."""

    height: int = 0
    format: int = 0
    chunks: int = 0
    hash: bytes = b""
    metadata: bytes = b""


class ProofOp(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a proof; what it means, its type says."""

    type: str = ""
    key: bytes = b""
    data: bytes = b""


class ProofOps(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A proof of what a query found, from the value to the app's hash."""

    ops: tuple[ProofOp, ...] = ()


_FLAG: Final = EnumKind(BlockIDFlag)

VOTING_VALIDATOR: Final = MessageType(VotingValidator, Field(1, "address", ADDRESS), Field(3, "power", INT64))
VALIDATOR_UPDATE: Final = MessageType(
    ValidatorUpdate,
    Field(1, "pub_key", MessageKind(PUBLIC_KEY), always=True),
    Field(2, "power", INT64),
    check=ValidatorUpdate.check,
)
VOTE_INFO: Final = MessageType(
    VoteInfo, Field(1, "validator", MessageKind(VOTING_VALIDATOR), always=True), Field(3, "block_id_flag", _FLAG)
)
EXTENDED_VOTE_INFO: Final = MessageType(
    ExtendedVoteInfo,
    Field(1, "validator", MessageKind(VOTING_VALIDATOR), always=True),
    Field(3, "vote_extension", BytesKind(EXTENSION_BYTES_MAX)),
    Field(4, "extension_signature", BytesKind(SIGNATURE_BYTES)),
    Field(5, "block_id_flag", _FLAG),
)
COMMIT_INFO: Final = MessageType(
    CommitInfo, Field(1, "round", INT32), Field(2, "votes", MessageKind(VOTE_INFO), count_max=VALIDATORS_MAX)
)
EXTENDED_COMMIT_INFO: Final = MessageType(
    ExtendedCommitInfo,
    Field(1, "round", INT32),
    Field(2, "votes", MessageKind(EXTENDED_VOTE_INFO), count_max=VALIDATORS_MAX),
)
MISBEHAVIOR: Final = MessageType(
    Misbehavior,
    Field(1, "type", EnumKind(MisbehaviorType)),
    Field(2, "validator", MessageKind(VOTING_VALIDATOR), always=True),
    Field(3, "height", INT64),
    Field(4, "time", MessageKind(TIMESTAMP), always=True),
    Field(5, "total_voting_power", INT64),
)
SNAPSHOT: Final = MessageType(
    AppSnapshot,
    Field(1, "height", UINT64),
    Field(2, "format", UINT32),
    Field(3, "chunks", UINT32),
    Field(4, "hash", BLOB),
    Field(5, "metadata", BLOB),
)
PROOF_OP: Final = MessageType(ProofOp, Field(1, "type", TextKind(256)), Field(2, "key", BLOB), Field(3, "data", BLOB))
PROOF_OPS: Final = MessageType(ProofOps, Field(1, "ops", MessageKind(PROOF_OP), count_max=PROOF_OPS_MAX))


def misbehaviors(piece: Misconduct) -> tuple[Misbehavior, ...]:
    """What the app hears of a piece of evidence."""
    height, time, total = piece.height, piece.time, piece.total_voting_power
    if isinstance(piece, DuplicateVoteEvidence):
        liar = VotingValidator(piece.vote_a.validator_address, piece.validator_power)
        return (Misbehavior(MisbehaviorType.DUPLICATE_VOTE, liar, height, time, total),)
    kind = MisbehaviorType.LIGHT_CLIENT_ATTACK
    liars = [VotingValidator(v.pub_key.address, v.voting_power) for v in piece.byzantine_validators]
    return tuple(Misbehavior(kind, liar, height, time, total) for liar in liars)
