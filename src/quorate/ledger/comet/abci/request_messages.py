"""What an engine asks of an app: sixteen calls.

Source: CometBFT 0.38, ``proto/tendermint/abci/types.proto``, ``spec/abci/abci++_methods.md``.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import msgspec

from quorate.ledger.comet.abci.contents import (
    ABCI_BYTES_MAX,
    BLOB,
    COMMIT_INFO,
    EXTENDED_COMMIT_INFO,
    MISBEHAVIOR,
    SNAPSHOT,
    VALIDATOR_UPDATE,
    AppSnapshot,
    CommitInfo,
    ExtendedCommitInfo,
    Misbehavior,
    ValidatorUpdate,
)
from quorate.ledger.comet.block_ids import ADDRESS, HASH
from quorate.ledger.comet.blocks import TXS_MAX
from quorate.ledger.comet.headers import CHAIN_ID_BYTES_MAX
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.proto import (
    BOOL,
    INT64,
    UINT32,
    UINT64,
    BytesKind,
    ChoiceType,
    EnumKind,
    Field,
    MessageKind,
    MessageType,
    TextKind,
)
from quorate.ledger.comet.results import DATA, TEXT
from quorate.ledger.comet.times import TIMESTAMP, ZERO_TIME, Timestamp
from quorate.ledger.comet.validators import VALIDATORS_MAX
from quorate.ledger.comet.votes import EXTENSION_BYTES_MAX


class CheckTxType(enum.IntEnum):
    """Whether a transaction is new, or was in the mempool while a block was decided."""

    NEW = 0
    RECHECK = 1


class RequestEcho(msgspec.Struct, frozen=True, array_like=True, gc=False):
    message: str = ""


class RequestFlush(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Answer all that was asked before. Apps in Go answer nothing until this comes."""


class RequestInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who asks; the answer says where the app stands."""

    version: str = ""
    block_version: int = 0
    p2p_version: int = 0
    abci_version: str = ""


class RequestInitChain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Begin a chain, from its genesis."""

    time: Timestamp = ZERO_TIME
    chain_id: str = ""
    consensus_params: ConsensusParams | None = None
    validators: tuple[ValidatorUpdate, ...] = ()
    app_state_bytes: bytes = b""
    initial_height: int = 0


class RequestQuery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Read the app's state, at a height (0: the last), with a proof or without."""

    data: bytes = b""
    path: str = ""
    height: int = 0
    prove: bool = False


class RequestCheckTx(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """May this transaction wait in the mempool?"""

    tx: bytes = b""
    type: CheckTxType = CheckTxType.NEW


class RequestCommit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Make durable what the last FinalizeBlock did."""


class RequestListSnapshots(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which snapshots are there?"""


class RequestOfferSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Begin to take over this one? The hash is the chain's."""

    snapshot: AppSnapshot | None = None
    app_hash: bytes = b""


class RequestLoadSnapshotChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    height: int = 0
    format: int = 0
    chunk: int = 0


class RequestApplySnapshotChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    index: int = 0
    chunk: bytes = b""
    sender: str = ""


class RequestPrepareProposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Choose the transactions of a block, of those in the mempool and others, up to so many bytes."""

    max_tx_bytes: int = 0
    txs: tuple[bytes, ...] = ()
    local_last_commit: ExtendedCommitInfo = ExtendedCommitInfo()
    misbehavior: tuple[Misbehavior, ...] = ()
    height: int = 0
    time: Timestamp = ZERO_TIME
    next_validators_hash: bytes = b""
    proposer_address: bytes = b""


class RequestProcessProposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Is this block one to vote for?"""

    txs: tuple[bytes, ...] = ()
    proposed_last_commit: CommitInfo = CommitInfo()
    misbehavior: tuple[Misbehavior, ...] = ()
    hash: bytes = b""
    height: int = 0
    time: Timestamp = ZERO_TIME
    next_validators_hash: bytes = b""
    proposer_address: bytes = b""


class RequestExtendVote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What to add to the precommit for this block?"""

    hash: bytes = b""
    height: int = 0
    time: Timestamp = ZERO_TIME
    txs: tuple[bytes, ...] = ()
    proposed_last_commit: CommitInfo = CommitInfo()
    misbehavior: tuple[Misbehavior, ...] = ()
    next_validators_hash: bytes = b""
    proposer_address: bytes = b""


class RequestVerifyVoteExtension(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Is this extension of another's precommit in order?"""

    hash: bytes = b""
    validator_address: bytes = b""
    height: int = 0
    vote_extension: bytes = b""


class RequestFinalizeBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Run this block, which is decided."""

    txs: tuple[bytes, ...] = ()
    decided_last_commit: CommitInfo = CommitInfo()
    misbehavior: tuple[Misbehavior, ...] = ()
    hash: bytes = b""
    height: int = 0
    time: Timestamp = ZERO_TIME
    next_validators_hash: bytes = b""
    proposer_address: bytes = b""


Request: TypeAlias = (
    RequestEcho
    | RequestFlush
    | RequestInfo
    | RequestInitChain
    | RequestQuery
    | RequestCheckTx
    | RequestCommit
    | RequestListSnapshots
    | RequestOfferSnapshot
    | RequestLoadSnapshotChunk
    | RequestApplySnapshotChunk
    | RequestPrepareProposal
    | RequestProcessProposal
    | RequestExtendVote
    | RequestVerifyVoteExtension
    | RequestFinalizeBlock
)

_EXTENSION: Final = BytesKind(EXTENSION_BYTES_MAX)


def _txs(number: int) -> Field:
    return Field(number, "txs", DATA, count_max=TXS_MAX)


def _misbehavior(number: int) -> Field:
    return Field(number, "misbehavior", MessageKind(MISBEHAVIOR), count_max=VALIDATORS_MAX)


def _time(number: int) -> Field:
    return Field(number, "time", MessageKind(TIMESTAMP), always=True)


def _last_commit(number: int, name: str) -> Field:
    return Field(number, name, MessageKind(COMMIT_INFO), always=True)


REQUEST: Final[ChoiceType[Request]] = ChoiceType(
    "Request",
    {
        1: MessageType(RequestEcho, Field(1, "message", TEXT)),
        2: MessageType(RequestFlush),
        3: MessageType(
            RequestInfo,
            Field(1, "version", TEXT),
            Field(2, "block_version", UINT64),
            Field(3, "p2p_version", UINT64),
            Field(4, "abci_version", TEXT),
        ),
        5: MessageType(
            RequestInitChain,
            _time(1),
            Field(2, "chain_id", TextKind(CHAIN_ID_BYTES_MAX)),
            Field(3, "consensus_params", MessageKind(CONSENSUS_PARAMS)),
            Field(4, "validators", MessageKind(VALIDATOR_UPDATE), count_max=VALIDATORS_MAX),
            Field(5, "app_state_bytes", DATA),
            Field(6, "initial_height", INT64),
        ),
        6: MessageType(
            RequestQuery,
            Field(1, "data", BLOB),
            Field(2, "path", TEXT),
            Field(3, "height", INT64),
            Field(4, "prove", BOOL),
        ),
        8: MessageType(RequestCheckTx, Field(1, "tx", DATA), Field(2, "type", EnumKind(CheckTxType))),
        11: MessageType(RequestCommit),
        12: MessageType(RequestListSnapshots),
        13: MessageType(RequestOfferSnapshot, Field(1, "snapshot", MessageKind(SNAPSHOT)), Field(2, "app_hash", BLOB)),
        14: MessageType(
            RequestLoadSnapshotChunk, Field(1, "height", UINT64), Field(2, "format", UINT32), Field(3, "chunk", UINT32)
        ),
        15: MessageType(
            RequestApplySnapshotChunk, Field(1, "index", UINT32), Field(2, "chunk", BLOB), Field(3, "sender", TEXT)
        ),
        16: MessageType(
            RequestPrepareProposal,
            Field(1, "max_tx_bytes", INT64),
            _txs(2),
            Field(3, "local_last_commit", MessageKind(EXTENDED_COMMIT_INFO), always=True),
            _misbehavior(4),
            Field(5, "height", INT64),
            _time(6),
            Field(7, "next_validators_hash", HASH),
            Field(8, "proposer_address", ADDRESS),
        ),
        17: MessageType(
            RequestProcessProposal,
            _txs(1),
            _last_commit(2, "proposed_last_commit"),
            _misbehavior(3),
            Field(4, "hash", HASH),
            Field(5, "height", INT64),
            _time(6),
            Field(7, "next_validators_hash", HASH),
            Field(8, "proposer_address", ADDRESS),
        ),
        18: MessageType(
            RequestExtendVote,
            Field(1, "hash", HASH),
            Field(2, "height", INT64),
            _time(3),
            _txs(4),
            _last_commit(5, "proposed_last_commit"),
            _misbehavior(6),
            Field(7, "next_validators_hash", HASH),
            Field(8, "proposer_address", ADDRESS),
        ),
        19: MessageType(
            RequestVerifyVoteExtension,
            Field(1, "hash", HASH),
            Field(2, "validator_address", ADDRESS),
            Field(3, "height", INT64),
            Field(4, "vote_extension", _EXTENSION),
        ),
        20: MessageType(
            RequestFinalizeBlock,
            _txs(1),
            _last_commit(2, "decided_last_commit"),
            _misbehavior(3),
            Field(4, "hash", HASH),
            Field(5, "height", INT64),
            _time(6),
            Field(7, "next_validators_hash", HASH),
            Field(8, "proposer_address", ADDRESS),
        ),
    },
    bytes_max=ABCI_BYTES_MAX,
)
