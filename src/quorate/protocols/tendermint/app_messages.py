"""What Tendermint sends and keeps besides (``messages.py``) where an ABCI app stands behind the chain; and its jobs."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import RESPONSE, ResponseCheckTx, ResponseFinalizeBlock
from quorate.ledger.comet.param_updates import ChainParams
from quorate.ledger.comet.params import BLOCK_BYTES_MAX
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.validators import PowerChange
from quorate.parts.wire import Index, Natural
from quorate.protocols.tendermint.chain_app import Finalized

TX_BYTES_MAX: Final = 1 << 20
"""Of a transaction, as CometBFT's default is (``max_tx_bytes``)."""
TXS_MAX: Final = 1024
"""In one message."""

Tx: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=TX_BYTES_MAX)]
Answered: TypeAlias = Annotated[bytes, Meta(max_length=BLOCK_BYTES_MAX)]
"""An app's answer, encoded."""


class Transactions(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Transactions that wait at the sender, where its app accepted them. The receiver's own app has its say."""

    txs: Annotated[tuple[Tx, ...], Meta(min_length=1, max_length=TXS_MAX)]


# --- records ---


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What the app said of the genesis: its version, and its answer to InitChain."""

    app_version: Natural
    answer: Answered


class Outcome(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The app's answer to FinalizeBlock of this height. It is durable before the app is asked to commit."""

    height: Index
    answer: Answered


# --- jobs ---


class AskApp(msgspec.Struct, frozen=True):
    """Put the request to the app, in the order in which these jobs come. Result: its answer, which was checked.

    While it commits, no CheckTxs is under way.
    """

    request: Request


class CheckTxs(msgspec.Struct, frozen=True):
    """May these wait for a block; or still wait, as they did until now? Result: a ResponseCheckTx for each."""

    txs: tuple[bytes, ...]
    is_recheck: bool = False


APP_JOBS: Final = (AskApp, CheckTxs)


# --- outputs ---


class TxChecked(msgspec.Struct, frozen=True):
    """What came of a transaction that was submitted here: the app's answer, and why it does not wait (empty: it does).

    No answer: the app was not asked.
    """

    tx: bytes
    answer: ResponseCheckTx | None
    why: str = ""


class EvidenceTaken(msgspec.Struct, frozen=True):
    """What came of a piece that somebody showed this node: why it is not taken; empty: it waits, or a block has it."""

    piece: bytes
    why: str


class BlockApplied(msgspec.Struct, frozen=True):
    """The app has kept a block. After a restart this comes once more for all that the log has.

    ``validators`` and ``params`` are those of this height, ``answer`` is that to FinalizeBlock, encoded.
    """

    height: int
    block: bytes
    commit: bytes
    answer: bytes
    validators: CometValidatorSet
    params: ChainParams
    retain_height: int


class LogBegins(msgspec.Struct, frozen=True):
    """The app has the state after this height, and the next BlockApplied is the one that follows. It comes at the start
    if the log does not begin with the first block, and when the app took over the state of others."""

    height: int


class LogDropped(msgspec.Struct, frozen=True):
    """What the log had up to this height is not needed any more: a journal may be written anew without it."""

    height: int


class BeyondReach(msgspec.Struct, frozen=True):
    """The blocks that this node lacks are in nobody's log, and its app, which has a state, can take over no other.

    The layer above ends the node with these words.
    """

    why: str


def finalized_of(answer: bytes) -> Finalized:
    """What the chain needs of the answer to a FinalizeBlock. Raises ValueError for bytes that are none."""
    said = RESPONSE.decode(answer)
    if not isinstance(said, ResponseFinalizeBlock):
        raise ValueError(f"a {type(said).__name__} in place of the answer to FinalizeBlock")
    return _finalized(said, answer)


def finalized_by(said: ResponseFinalizeBlock) -> Finalized:
    """The same of an answer that just came."""
    return _finalized(said, RESPONSE.encode(said))


def _finalized(said: ResponseFinalizeBlock, answer: bytes) -> Finalized:
    changes = tuple([PowerChange(update.pub_key.address, update.power) for update in said.validator_updates])
    return Finalized(said.tx_results, said.app_hash, changes, said.consensus_param_updates, answer)
