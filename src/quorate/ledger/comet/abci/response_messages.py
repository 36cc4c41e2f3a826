"""What an app answers. An exception instead of an answer stops the node, as does an answer to something else.

Events stay as bytes until somebody asks for them (``results.APP_EVENT``).

Source: CometBFT 0.38, ``proto/tendermint/abci/types.proto``, ``spec/abci/abci++_methods.md``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci.contents import (
    ABCI_BYTES_MAX,
    BLOB,
    PROOF_OPS,
    SNAPSHOT,
    VALIDATOR_UPDATE,
    AppSnapshot,
    ProofOps,
    ValidatorUpdate,
)
from quorate.ledger.comet.blocks import TXS_MAX
from quorate.ledger.comet.headers import APP_HASH_BYTES_MAX
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.proto import (
    INT64,
    UINT32,
    UINT64,
    BytesKind,
    ChoiceType,
    EnumKind,
    Field,
    MessageKind,
    MessageType,
)
from quorate.ledger.comet.results import DATA, EVENT, EVENTS_MAX, EXEC_TX_RESULT, TEXT, ExecTxResult
from quorate.ledger.comet.validators import VALIDATORS_MAX
from quorate.ledger.comet.votes import EXTENSION_BYTES_MAX

SNAPSHOTS_MAX: Final = 1 << 10
CHUNKS_MAX: Final = 1 << 16


class OfferResult(enum.IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    ABORT = 2
    REJECT = 3
    REJECT_FORMAT = 4
    REJECT_SENDER = 5


class ApplyResult(enum.IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    ABORT = 2
    RETRY = 3
    RETRY_SNAPSHOT = 4
    REJECT_SNAPSHOT = 5


class ProposalStatus(enum.IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    REJECT = 2


class VerifyStatus(enum.IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    REJECT = 2


class ResponseException(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The app cannot go on."""

    error: str = ""


class ResponseEcho(msgspec.Struct, frozen=True, array_like=True, gc=False):
    message: str = ""


class ResponseFlush(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that was asked before is answered."""


class ResponseInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the app stands: the last height that it has made durable, 0 if none."""

    data: str = ""
    version: str = ""
    app_version: int = 0
    last_block_height: int = 0
    last_block_app_hash: bytes = b""


class ResponseInitChain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the app wants otherwise than the genesis says."""

    consensus_params: ConsensusParams | None = None
    validators: tuple[ValidatorUpdate, ...] = ()
    app_hash: bytes = b""


class ResponseQuery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    code: int = 0
    log: str = ""
    info: str = ""
    index: int = 0
    key: bytes = b""
    value: bytes = b""
    proof_ops: ProofOps | None = None
    height: int = 0
    codespace: str = ""


class ResponseCheckTx(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Code 0: it may wait in the mempool."""

    code: int = 0
    data: bytes = b""
    log: str = ""
    info: str = ""
    gas_wanted: int = 0
    gas_used: int = 0
    events: tuple[bytes, ...] = ()
    codespace: str = ""


class ResponseCommit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """It is durable. Blocks below the height need not be kept; 0: keep all."""

    retain_height: int = 0


class ResponseListSnapshots(msgspec.Struct, frozen=True, array_like=True, gc=False):
    snapshots: tuple[AppSnapshot, ...] = ()


class ResponseOfferSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    result: OfferResult = OfferResult.UNKNOWN


class ResponseLoadSnapshotChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    chunk: bytes = b""


class ResponseApplySnapshotChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    result: ApplyResult = ApplyResult.UNKNOWN
    refetch_chunks: tuple[int, ...] = ()
    reject_senders: tuple[str, ...] = ()


class ResponsePrepareProposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The transactions of the block, in order."""

    txs: tuple[bytes, ...] = ()


class ResponseProcessProposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    status: ProposalStatus = ProposalStatus.UNKNOWN


class ResponseExtendVote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    vote_extension: bytes = b""


class ResponseVerifyVoteExtension(msgspec.Struct, frozen=True, array_like=True, gc=False):
    status: VerifyStatus = VerifyStatus.UNKNOWN


class ResponseFinalizeBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of the block: a result for each transaction. Updates of validators act two heights later."""

    events: tuple[bytes, ...] = ()
    tx_results: tuple[ExecTxResult, ...] = ()
    validator_updates: tuple[ValidatorUpdate, ...] = ()
    consensus_param_updates: ConsensusParams | None = None
    app_hash: bytes = b""


Response: TypeAlias = (
    ResponseException
    | ResponseEcho
    | ResponseFlush
    | ResponseInfo
    | ResponseInitChain
    | ResponseQuery
    | ResponseCheckTx
    | ResponseCommit
    | ResponseListSnapshots
    | ResponseOfferSnapshot
    | ResponseLoadSnapshotChunk
    | ResponseApplySnapshotChunk
    | ResponsePrepareProposal
    | ResponseProcessProposal
    | ResponseExtendVote
    | ResponseVerifyVoteExtension
    | ResponseFinalizeBlock
)

ANSWERS: Final[Mapping[type[requests.Request], type[Response]]] = {
    requests.RequestEcho: ResponseEcho,
    requests.RequestFlush: ResponseFlush,
    requests.RequestInfo: ResponseInfo,
    requests.RequestInitChain: ResponseInitChain,
    requests.RequestQuery: ResponseQuery,
    requests.RequestCheckTx: ResponseCheckTx,
    requests.RequestCommit: ResponseCommit,
    requests.RequestListSnapshots: ResponseListSnapshots,
    requests.RequestOfferSnapshot: ResponseOfferSnapshot,
    requests.RequestLoadSnapshotChunk: ResponseLoadSnapshotChunk,
    requests.RequestApplySnapshotChunk: ResponseApplySnapshotChunk,
    requests.RequestPrepareProposal: ResponsePrepareProposal,
    requests.RequestProcessProposal: ResponseProcessProposal,
    requests.RequestExtendVote: ResponseExtendVote,
    requests.RequestVerifyVoteExtension: ResponseVerifyVoteExtension,
    requests.RequestFinalizeBlock: ResponseFinalizeBlock,
}
"""What answers what."""

_APP_HASH: Final = BytesKind(APP_HASH_BYTES_MAX)
_EVENTS: Final = Field(7, "events", EVENT, count_max=EVENTS_MAX)

RESPONSE: Final[ChoiceType[Response]] = ChoiceType(
    "Response",
    {
        1: MessageType(ResponseException, Field(1, "error", TEXT)),
        2: MessageType(ResponseEcho, Field(1, "message", TEXT)),
        3: MessageType(ResponseFlush),
        4: MessageType(
            ResponseInfo,
            Field(1, "data", TEXT),
            Field(2, "version", TEXT),
            Field(3, "app_version", UINT64),
            Field(4, "last_block_height", INT64),
            Field(5, "last_block_app_hash", _APP_HASH),
        ),
        6: MessageType(
            ResponseInitChain,
            Field(1, "consensus_params", MessageKind(CONSENSUS_PARAMS)),
            Field(2, "validators", MessageKind(VALIDATOR_UPDATE), count_max=VALIDATORS_MAX),
            Field(3, "app_hash", _APP_HASH),
        ),
        7: MessageType(
            ResponseQuery,
            Field(1, "code", UINT32),
            Field(3, "log", TEXT),
            Field(4, "info", TEXT),
            Field(5, "index", INT64),
            Field(6, "key", BLOB),
            Field(7, "value", BLOB),
            Field(8, "proof_ops", MessageKind(PROOF_OPS)),
            Field(9, "height", INT64),
            Field(10, "codespace", TEXT),
        ),
        9: MessageType(
            ResponseCheckTx,
            Field(1, "code", UINT32),
            Field(2, "data", DATA),
            Field(3, "log", TEXT),
            Field(4, "info", TEXT),
            Field(5, "gas_wanted", INT64),
            Field(6, "gas_used", INT64),
            _EVENTS,
            Field(8, "codespace", TEXT),
        ),
        12: MessageType(ResponseCommit, Field(3, "retain_height", INT64)),
        13: MessageType(ResponseListSnapshots, Field(1, "snapshots", MessageKind(SNAPSHOT), count_max=SNAPSHOTS_MAX)),
        14: MessageType(ResponseOfferSnapshot, Field(1, "result", EnumKind(OfferResult))),
        15: MessageType(ResponseLoadSnapshotChunk, Field(1, "chunk", BLOB)),
        16: MessageType(
            ResponseApplySnapshotChunk,
            Field(1, "result", EnumKind(ApplyResult)),
            Field(2, "refetch_chunks", UINT32, count_max=CHUNKS_MAX),
            Field(3, "reject_senders", TEXT, count_max=CHUNKS_MAX),
        ),
        17: MessageType(ResponsePrepareProposal, Field(1, "txs", DATA, count_max=TXS_MAX)),
        18: MessageType(ResponseProcessProposal, Field(1, "status", EnumKind(ProposalStatus))),
        19: MessageType(ResponseExtendVote, Field(1, "vote_extension", BytesKind(EXTENSION_BYTES_MAX))),
        20: MessageType(ResponseVerifyVoteExtension, Field(1, "status", EnumKind(VerifyStatus))),
        21: MessageType(
            ResponseFinalizeBlock,
            Field(1, "events", EVENT, count_max=EVENTS_MAX),
            Field(2, "tx_results", MessageKind(EXEC_TX_RESULT), count_max=TXS_MAX),
            Field(3, "validator_updates", MessageKind(VALIDATOR_UPDATE), count_max=VALIDATORS_MAX),
            Field(4, "consensus_param_updates", MessageKind(CONSENSUS_PARAMS)),
            Field(5, "app_hash", _APP_HASH),
        ),
    },
    bytes_max=ABCI_BYTES_MAX,
)
