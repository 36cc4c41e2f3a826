"""Validators as CometBFT encodes and hashes them. Their keys are Ed25519; other kinds of key are refused by name.

Who proposes, and how sets change, is not here: this is formats, and sums of power.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (Validator, ValidatorSet), ``types/validator.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import ADDRESS, ADDRESS_BYTES
from quorate.ledger.comet.proto import INT64, BytesKind, Field, MessageKind, MessageType
from quorate.parts.crypto.merkle import merkle_root

PUBLIC_KEY_BYTES: Final = 32
OTHER_KEY_BYTES_MAX: Final = 4096
VALIDATORS_MAX: Final = 10_000
"""MaxVotesCount: a commit of more is refused."""
SETS_KEPT: Final = 8
"""Whose hash is remembered: each header names two, and they seldom change."""
TOTAL_POWER_MAX: Final = (2**63 - 1) // 8
"""MaxTotalVotingPower"""


class ValidatorKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The key of a validator: a oneof, of which only Ed25519 counts here."""

    ed25519: bytes = b""
    secp256k1: bytes = b""
    mldsa65: bytes = b""

    def check(self) -> None:
        """Raises ValueError unless it is an Ed25519 key."""
        if self.secp256k1 or self.mldsa65:
            raise ValueError(f"a key of {'secp256k1' if self.secp256k1 else 'ML-DSA-65'}: only Ed25519 is supported")
        if len(self.ed25519) != PUBLIC_KEY_BYTES:
            raise ValueError(f"an Ed25519 key of {len(self.ed25519)} bytes, not {PUBLIC_KEY_BYTES}")

    @property
    def address(self) -> bytes:
        """The name of the validator: the first 20 bytes of the key's SHA-256."""
        return key_address(self.ed25519)


class SimpleValidator(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is hashed of a validator: a leaf of ``validators_hash``."""

    pub_key: ValidatorKey | None = None
    voting_power: int = 0


class CometValidator(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A validator, with its claim to propose."""

    address: bytes = b""
    pub_key: ValidatorKey = ValidatorKey()
    voting_power: int = 0
    proposer_priority: int = 0

    def check(self) -> None:
        """Raises ValueError for a key that is none, an address that is not the key's, or a power below zero."""
        self.pub_key.check()
        if self.voting_power < 0:
            raise ValueError(f"validator: power {self.voting_power}")
        if self.address != self.pub_key.address:
            raise ValueError(f"validator: {self.address.hex()} is not the address of its key")


class CometValidatorSet(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Validators in CometBFT's order: power downwards, then address. The total is written as zero, and never read."""

    validators: tuple[CometValidator, ...] = ()
    proposer: CometValidator | None = None
    total_voting_power: int = 0

    def check(self) -> None:
        """Raises ValueError for no validators, one twice, too much power, or a proposer who is not one of them."""
        if not self.validators:
            raise ValueError("validator set: there are none")
        if len(self.by_address()) != len(self.validators):
            raise ValueError("validator set: a validator is in it twice")
        if self.power() > TOTAL_POWER_MAX:
            raise ValueError(f"validator set: a power of {self.power()}, at most {TOTAL_POWER_MAX}")
        if self.proposer is None or self.proposer.address not in self.by_address():
            raise ValueError("validator set: its proposer is not one of its validators")

    def by_address(self) -> Mapping[bytes, CometValidator]:
        """Each validator by its address."""
        return {validator.address: validator for validator in self.validators}

    def power(self) -> int:
        """The sum of the powers."""
        return sum(validator.voting_power for validator in self.validators)

    def hash(self) -> bytes:
        """What headers call ``validators_hash``."""
        return validators_hash((validator.pub_key.ed25519, validator.voting_power) for validator in self.validators)


PUBLIC_KEY: Final = MessageType(
    ValidatorKey,
    Field(1, "ed25519", BytesKind(PUBLIC_KEY_BYTES)),
    Field(2, "secp256k1", BytesKind(OTHER_KEY_BYTES_MAX)),
    Field(4, "mldsa65", BytesKind(OTHER_KEY_BYTES_MAX)),
    check=ValidatorKey.check,
)
SIMPLE_VALIDATOR: Final = MessageType(
    SimpleValidator, Field(1, "pub_key", MessageKind(PUBLIC_KEY)), Field(2, "voting_power", INT64)
)
VALIDATOR: Final = MessageType(
    CometValidator,
    Field(1, "address", ADDRESS),
    Field(2, "pub_key", MessageKind(PUBLIC_KEY), always=True),
    Field(3, "voting_power", INT64),
    Field(4, "proposer_priority", INT64),
    check=CometValidator.check,
)
VALIDATOR_SET: Final = MessageType(
    CometValidatorSet,
    Field(1, "validators", MessageKind(VALIDATOR), count_max=VALIDATORS_MAX),
    Field(2, "proposer", MessageKind(VALIDATOR)),
    Field(3, "total_voting_power", INT64),
    bytes_max=VALIDATORS_MAX * 128,
    check=CometValidatorSet.check,
)


def key_address(public_key: bytes) -> bytes:
    """The address of an Ed25519 key."""
    return sha256(public_key).digest()[:ADDRESS_BYTES]


def validators_hash(validators: Iterable[tuple[bytes, int]]) -> bytes:
    """The root over public keys and powers, in the order of the set."""
    return _root_of(tuple(validators))


@lru_cache(maxsize=SETS_KEPT)
def _root_of(validators: tuple[tuple[bytes, int], ...]) -> bytes:
    return merkle_root(
        [SIMPLE_VALIDATOR.encode(SimpleValidator(ValidatorKey(key), power)) for key, power in validators]
    )
