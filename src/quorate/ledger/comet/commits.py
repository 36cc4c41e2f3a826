"""Commits: the precommits that decided a block, one entry a validator, in the order of the set. And BFT time.

Whoever did not vote in time is absent, with empty fields and the zero time. A vote for nil counts for the time of the
next block and not for the decision. A commit with extensions stays with the nodes; the next block has the one without.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (Commit, CommitSig), ``spec/consensus/bft-time.md``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import ADDRESS, BLOCK_ID, NIL, BlockID, check_address
from quorate.ledger.comet.proto import INT32, INT64, BytesKind, EnumKind, Field, MessageKind, MessageType
from quorate.ledger.comet.times import TIMESTAMP, ZERO_TIME, Timestamp, weighted_median
from quorate.ledger.comet.validators import VALIDATORS_MAX, CometValidator
from quorate.ledger.comet.votes import (
    EXTENSION_BYTES_MAX,
    PRECOMMIT,
    SIGNATURE_BYTES,
    SignedMessageType,
    Vote,
    check_signature,
    vote_sign_bytes,
)
from quorate.parts.crypto.merkle import merkle_root

EXTENDED_COMMIT_BYTES_MAX: Final = 64 << 20
"""Ours; CometBFT has no bound of its own."""


class BlockIDFlag(enum.IntEnum):
    """What a validator's precommit was for."""

    UNKNOWN = 0
    ABSENT = 1
    COMMIT = 2
    NIL = 3


ABSENT: Final = BlockIDFlag.ABSENT
FOR_BLOCK: Final = BlockIDFlag.COMMIT
FOR_NIL: Final = BlockIDFlag.NIL


class CommitSig(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One validator's precommit in a commit."""

    block_id_flag: BlockIDFlag = BlockIDFlag.UNKNOWN
    validator_address: bytes = b""
    timestamp: Timestamp = ZERO_TIME
    signature: bytes = b""

    def check(self) -> None:
        """Raises ValueError for an absent one with content, and one that lacks some."""
        if self.block_id_flag == ABSENT:
            if self != NO_SIG:
                raise ValueError("commit: an absent validator has an address, a time or a signature")
            return
        if self.block_id_flag == BlockIDFlag.UNKNOWN:
            raise ValueError("commit: a signature without a flag")
        check_address("commit: validator", self.validator_address)
        check_signature("commit", self.signature)


NO_SIG: Final = CommitSig(ABSENT)


class Commit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The precommits of a round. That of height 0, before the first block, is empty."""

    height: int = 0
    round: int = 0
    block_id: BlockID = NIL
    signatures: tuple[CommitSig, ...] = ()

    def check(self) -> None:
        """Raises ValueError for a commit that is none, whoever the validators are."""
        if self.height < 0 or self.round < 0:
            raise ValueError(f"commit: height {self.height}, round {self.round}")
        if self.height and (self.block_id.is_nil or not self.signatures):
            raise ValueError(f"commit: {'no block' if self.block_id.is_nil else 'no signatures'}")

    def hash(self) -> bytes:
        """What the next header calls ``last_commit_hash``: height, round and block are not in it."""
        return merkle_root([COMMIT_SIG.encode(signature) for signature in self.signatures])

    def vote(self, index: int, kind: SignedMessageType = PRECOMMIT) -> Vote:
        """The precommit that this entry, which is not absent, stands for; or the prevote, if it is made of those."""
        found = self.signatures[index]
        block_id = self.block_id if found.block_id_flag == FOR_BLOCK else NIL
        at, address = found.timestamp, found.validator_address
        return Vote(kind, self.height, self.round, block_id, at, address, index, found.signature)

    def sign_bytes(self, chain_id: str, index: int, kind: SignedMessageType = PRECOMMIT) -> bytes:
        """What the validator of this entry signed."""
        return vote_sign_bytes(chain_id, self.vote(index, kind))


class ExtendedCommitSig(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One validator's precommit with its extension."""

    block_id_flag: BlockIDFlag = BlockIDFlag.UNKNOWN
    validator_address: bytes = b""
    timestamp: Timestamp = ZERO_TIME
    signature: bytes = b""
    extension: bytes = b""
    extension_signature: bytes = b""

    def check(self) -> None:
        """Raises ValueError as for a CommitSig, and for an extension where none belongs."""
        self.plain().check()
        if self.block_id_flag != FOR_BLOCK and (self.extension or self.extension_signature):
            raise ValueError("commit: only a precommit for the block has an extension")
        if self.extension_signature:
            check_signature("commit: extension", self.extension_signature)
        elif self.extension:
            raise ValueError("commit: an extension without a signature")

    def plain(self) -> CommitSig:
        """The same without the extension."""
        return CommitSig(self.block_id_flag, self.validator_address, self.timestamp, self.signature)


class ExtendedCommit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A commit with the extensions of the votes."""

    height: int = 0
    round: int = 0
    block_id: BlockID = NIL
    extended_signatures: tuple[ExtendedCommitSig, ...] = ()

    def check(self) -> None:
        """Raises ValueError as for a Commit."""
        self.plain().check()

    def plain(self) -> Commit:
        """The commit that the next block has."""
        return Commit(self.height, self.round, self.block_id, tuple(sig.plain() for sig in self.extended_signatures))


_FLAG: Final = EnumKind(BlockIDFlag)
_SIGNATURE: Final = BytesKind(SIGNATURE_BYTES)

COMMIT_SIG: Final = MessageType(
    CommitSig,
    Field(1, "block_id_flag", _FLAG),
    Field(2, "validator_address", ADDRESS),
    Field(3, "timestamp", MessageKind(TIMESTAMP), always=True),
    Field(4, "signature", _SIGNATURE),
    check=CommitSig.check,
)
COMMIT: Final = MessageType(
    Commit,
    Field(1, "height", INT64),
    Field(2, "round", INT32),
    Field(3, "block_id", MessageKind(BLOCK_ID), always=True),
    Field(4, "signatures", MessageKind(COMMIT_SIG), count_max=VALIDATORS_MAX),
    bytes_max=VALIDATORS_MAX * 128,
    check=Commit.check,
)
EXTENDED_COMMIT_SIG: Final = MessageType(
    ExtendedCommitSig,
    Field(1, "block_id_flag", _FLAG),
    Field(2, "validator_address", ADDRESS),
    Field(3, "timestamp", MessageKind(TIMESTAMP), always=True),
    Field(4, "signature", _SIGNATURE),
    Field(5, "extension", BytesKind(EXTENSION_BYTES_MAX)),
    Field(6, "extension_signature", _SIGNATURE),
    check=ExtendedCommitSig.check,
)
EXTENDED_COMMIT: Final = MessageType(
    ExtendedCommit,
    Field(1, "height", INT64),
    Field(2, "round", INT32),
    Field(3, "block_id", MessageKind(BLOCK_ID), always=True),
    Field(4, "extended_signatures", MessageKind(EXTENDED_COMMIT_SIG), count_max=VALIDATORS_MAX),
    bytes_max=EXTENDED_COMMIT_BYTES_MAX,
    check=ExtendedCommit.check,
)


def block_time(commit: Commit, validators: Mapping[bytes, CometValidator]) -> Timestamp:
    """The time of the block that follows: the median of the precommits' times, by power.

    ``validators``: those of the commit, by address. Raises ValueError for a signature of somebody else.
    """
    times = []
    for signature in commit.signatures:
        if signature.block_id_flag != ABSENT:
            validator = validators.get(signature.validator_address)
            if validator is None:
                raise ValueError(f"commit: {signature.validator_address.hex()} is not one of its validators")
            times.append((signature.timestamp, validator.voting_power))
    return weighted_median(times)
