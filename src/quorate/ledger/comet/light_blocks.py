"""What a light client reads: a header with the commit that decided it, and the validators who signed.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (LightBlock, SignedHeader), ``types/light.go``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.ledger.comet.commits import COMMIT, Commit
from quorate.ledger.comet.headers import HEADER, Header
from quorate.ledger.comet.proto import Field, MessageKind, MessageType
from quorate.ledger.comet.validators import VALIDATOR_SET, VALIDATORS_MAX, CometValidatorSet


class SignedHeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A header and its commit. Whether the signatures hold is another question."""

    header: Header
    commit: Commit

    def check(self) -> None:
        """Raises ValueError unless the commit is for the header."""
        if self.commit.height != self.header.height:
            raise ValueError(f"the commit is of height {self.commit.height}, the header of {self.header.height}")
        if self.commit.block_id.hash != self.header.hash():
            raise ValueError("the commit is for another header")


class LightBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A signed header and the validators of its height."""

    signed_header: SignedHeader
    validator_set: CometValidatorSet

    @property
    def header(self) -> Header:
        """What is decided."""
        return self.signed_header.header

    @property
    def commit(self) -> Commit:
        """What decided it."""
        return self.signed_header.commit

    def check(self) -> None:
        """Raises ValueError unless the header has the hash of the validators."""
        if self.validator_set.hash() != self.header.validators_hash:
            raise ValueError("the validators are not those of the header")


SIGNED_HEADER: Final = MessageType(
    SignedHeader,
    Field(1, "header", MessageKind(HEADER)),
    Field(2, "commit", MessageKind(COMMIT)),
    bytes_max=VALIDATORS_MAX * 128 + 4096,
    check=SignedHeader.check,
)
LIGHT_BLOCK: Final = MessageType(
    LightBlock,
    Field(1, "signed_header", MessageKind(SIGNED_HEADER)),
    Field(2, "validator_set", MessageKind(VALIDATOR_SET)),
    bytes_max=VALIDATORS_MAX * 256 + 8192,
    check=LightBlock.check,
)
