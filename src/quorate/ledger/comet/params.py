"""What a chain's app may set: limits of blocks and evidence, kinds of keys, vote extensions. Two of them are hashed.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (ConsensusParams), ``types/params.go``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from quorate.ledger.comet.proto import INT32, INT64, UINT64, Field, MessageKind, MessageType, TextKind
from quorate.ledger.comet.times import NS_PER_S

BLOCK_BYTES_MAX: Final = 104_857_600
"""MaxBlockSizeBytes"""
KEY_TYPES_MAX: Final = 16
KEY_TYPE_BYTES_MAX: Final = 64


class Duration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A span of time. Both parts have one sign."""

    seconds: int = 0
    nanos: int = 0

    @classmethod
    def of_ns(cls, ns: int) -> Duration:
        """So many nanoseconds; a negative span has two negative parts."""
        sign = -1 if ns < 0 else 1
        return cls(sign * (abs(ns) // NS_PER_S), sign * (abs(ns) % NS_PER_S))

    def ns(self) -> int:
        """In nanoseconds."""
        return self.seconds * NS_PER_S + self.nanos

    def check(self) -> None:
        """Raises ValueError unless it fits 63 bits of nanoseconds and its parts have one sign."""
        if abs(self.nanos) >= NS_PER_S or self.seconds * self.nanos < 0 or abs(self.ns()) >= 2**63:
            raise ValueError(f"{self.seconds} s and {self.nanos} ns are not a duration")


class BlockParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Most bytes of a block, -1: as many as CometBFT allows; most gas of its transactions, -1: no limit."""

    max_bytes: int = 0
    max_gas: int = 0


class EvidenceParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How old evidence may be: it has expired when it is older than both; and most bytes of it in a block."""

    max_age_num_blocks: int = 0
    max_age_duration: Duration = Duration()
    max_bytes: int = 0


class ValidatorParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Kinds of keys that validators may have, as "ed25519"."""

    pub_key_types: tuple[str, ...] = ()


class VersionParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The app's protocol, as headers have it."""

    app: int = 0


class ABCIParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From which height precommits have extensions; 0: from none."""

    vote_extensions_enable_height: int = 0


class ConsensusParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All of them; in an update, None is what stays as it is."""

    block: BlockParams | None = None
    evidence: EvidenceParams | None = None
    validator: ValidatorParams | None = None
    version: VersionParams | None = None
    abci: ABCIParams | None = None


class HashedParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What ``consensus_hash`` is the hash of."""

    block_max_bytes: int = 0
    block_max_gas: int = 0


DURATION: Final = MessageType(Duration, Field(1, "seconds", INT64), Field(2, "nanos", INT32), check=Duration.check)
BLOCK_PARAMS: Final = MessageType(BlockParams, Field(1, "max_bytes", INT64), Field(2, "max_gas", INT64))
EVIDENCE_PARAMS: Final = MessageType(
    EvidenceParams,
    Field(1, "max_age_num_blocks", INT64),
    Field(2, "max_age_duration", MessageKind(DURATION), always=True),
    Field(3, "max_bytes", INT64),
)
VALIDATOR_PARAMS: Final = MessageType(
    ValidatorParams, Field(1, "pub_key_types", TextKind(KEY_TYPE_BYTES_MAX), count_max=KEY_TYPES_MAX)
)
VERSION_PARAMS: Final = MessageType(VersionParams, Field(1, "app", UINT64))
ABCI_PARAMS: Final = MessageType(ABCIParams, Field(1, "vote_extensions_enable_height", INT64))
CONSENSUS_PARAMS: Final = MessageType(
    ConsensusParams,
    Field(1, "block", MessageKind(BLOCK_PARAMS)),
    Field(2, "evidence", MessageKind(EVIDENCE_PARAMS)),
    Field(3, "validator", MessageKind(VALIDATOR_PARAMS)),
    Field(4, "version", MessageKind(VERSION_PARAMS)),
    Field(5, "abci", MessageKind(ABCI_PARAMS)),
)
HASHED_PARAMS: Final = MessageType(HashedParams, Field(1, "block_max_bytes", INT64), Field(2, "block_max_gas", INT64))


def consensus_hash(params: BlockParams) -> bytes:
    """What headers call ``consensus_hash``."""
    return sha256(HASHED_PARAMS.encode(HashedParams(params.max_bytes, params.max_gas))).digest()
