"""Changes of a chain's parameters by its app, and how many bytes of transactions fit into a block under them.

Source: CometBFT 0.38, ``types/params.go`` (Update, ValidateBasic, ValidateUpdate), ``types/block.go`` (MaxDataBytes);
``spec/abci/abci++_app_requirements.md`` (Consensus Parameters).
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.ledger.comet.params import (
    BLOCK_BYTES_MAX,
    ABCIParams,
    BlockParams,
    ConsensusParams,
    EvidenceParams,
    ValidatorParams,
    VersionParams,
)

ED25519: Final = "ed25519"
KEY_TYPES: Final = (ED25519, "secp256k1")
"""ABCIPubKeyTypesToNames"""
HEADER_BYTES_MAX: Final = 626
BLOCK_OVERHEAD_BYTES: Final = 11
COMMIT_OVERHEAD_BYTES: Final = 94
COMMIT_SIG_BYTES: Final = 110 + 3
"""MaxCommitSigBytes, and what is around each in a commit. Of Ed25519: CometBFT 0.38.26 leaves room for others."""


class ChainParams(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All parameters of a chain: ConsensusParams without a gap."""

    block: BlockParams
    evidence: EvidenceParams
    validator: ValidatorParams = ValidatorParams((ED25519,))
    version: VersionParams = VersionParams()
    abci: ABCIParams = ABCIParams()

    def whole(self) -> ConsensusParams:
        """The same in the form that travels."""
        return ConsensusParams(self.block, self.evidence, self.validator, self.version, self.abci)


def updated_params(params: ChainParams, update: ConsensusParams | None, height: int = 0) -> ChainParams:
    """The parameters after an update, which the app made of the block of this height; 0: of the genesis.

    Raises ValueError for ones that no chain may have.
    """
    if update is None:
        return params
    if update.abci is not None and height:
        check_enable_height(params.abci, update.abci, height)
    found = ChainParams(
        update.block or params.block,
        update.evidence or params.evidence,
        update.validator or params.validator,
        update.version or params.version,
        update.abci or params.abci,
    )
    check_params(found)
    return found


def check_params(params: ChainParams) -> None:
    """Raises ValueError that names the parameter, and what it may be."""
    block, evidence = params.block, params.evidence
    bytes_max = BLOCK_BYTES_MAX if block.max_bytes == -1 else block.max_bytes
    if not 0 < bytes_max <= BLOCK_BYTES_MAX:
        raise ValueError(f"block.max_bytes is {block.max_bytes}: it is -1, or from 1 to {BLOCK_BYTES_MAX}")
    if block.max_gas < -1:
        raise ValueError(f"block.max_gas is {block.max_gas}: it is at least -1")
    if evidence.max_age_num_blocks <= 0:
        raise ValueError(f"evidence.max_age_num_blocks is {evidence.max_age_num_blocks}: it is at least 1")
    if evidence.max_age_duration.ns() <= 0:
        raise ValueError(f"evidence.max_age_duration is {evidence.max_age_duration.ns()} ns: it is at least 1")
    if not 0 <= evidence.max_bytes <= bytes_max:
        raise ValueError(f"evidence.max_bytes is {evidence.max_bytes}: it is from 0 to block.max_bytes")
    for kind in params.validator.pub_key_types:
        if kind not in KEY_TYPES:
            raise ValueError(f"validator.pub_key_types has {kind!r}, which is not known")
    if ED25519 not in params.validator.pub_key_types:
        raise ValueError(f"validator.pub_key_types lacks {ED25519!r}, which all keys of nodes are")
    if params.abci.vote_extensions_enable_height < 0:
        height = params.abci.vote_extensions_enable_height
        raise ValueError(f"abci.vote_extensions_enable_height is {height}: it is at least 1, or 0 for never")


def check_enable_height(params: ABCIParams, update: ABCIParams, height: int) -> None:
    """Raises ValueError if vote extensions may not begin where the update, made at this height, says."""
    # ValidateUpdate: what has begun stays as it is, and what has not may begin later than now, or never.
    old, new = params.vote_extensions_enable_height, update.vote_extensions_enable_height
    if old == new:
        return
    what = f"abci.vote_extensions_enable_height becomes {new} at height {height}"
    if 0 < old <= height:
        raise ValueError(f"{what}: vote extensions are on since height {old}, and stay on: leave it as it is")
    if 0 < new <= height:
        raise ValueError(f"{what}: vote extensions can only begin later: write {height + 1} or more")


def data_bytes_max(params: BlockParams, validators: int, evidence_bytes: int, limit: int = BLOCK_BYTES_MAX) -> int:
    """How many bytes the transactions of a block may take; 0 if nothing is left. ``limit``: of a block, the node's."""
    bytes_max = limit if params.max_bytes == -1 else min(limit, params.max_bytes)
    commit = COMMIT_OVERHEAD_BYTES + COMMIT_SIG_BYTES * validators
    return max(0, bytes_max - BLOCK_OVERHEAD_BYTES - HEADER_BYTES_MAX - commit - evidence_bytes)
