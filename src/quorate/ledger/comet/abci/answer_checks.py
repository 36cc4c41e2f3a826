"""What an app's answer must be, beside its type: the rules that only request and answer together show.

An engine stops at an answer that breaks one, as CometBFT 0.38 does (``state/execution.go``); the app's side checks the
same before it sends, so that whoever writes the app reads of it in the app's own log.

Source: CometBFT 0.38, ``spec/abci/abci++_methods.md``, ``abci++_app_requirements.md``.
"""

from __future__ import annotations

from quorate.ledger.comet.abci.contents import ValidatorUpdate
from quorate.ledger.comet.abci.request_messages import (
    Request,
    RequestEcho,
    RequestFinalizeBlock,
    RequestPrepareProposal,
)
from quorate.ledger.comet.abci.response_messages import (
    ProposalStatus,
    Response,
    ResponseEcho,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
    ResponsePrepareProposal,
    ResponseProcessProposal,
    ResponseVerifyVoteExtension,
    VerifyStatus,
)
from quorate.ledger.comet.validators import TOTAL_POWER_MAX
from quorate.ledger.comet.wire_reader import uvarint_bytes


def check_answer(request: Request, response: Response) -> None:
    """Raises ValueError for an answer of the right type that no engine can act on."""
    match request, response:
        case RequestEcho(message=sent), ResponseEcho(message=echoed):
            if echoed != sent:
                raise ValueError("another message than the one that was sent")
        case _, ResponseInfo(last_block_height=height):
            if height < 0:
                raise ValueError(f"last_block_height is {height}")
        case _, ResponseInitChain(validators=updates):
            _check_updates(updates)
        case RequestPrepareProposal(max_tx_bytes=most), ResponsePrepareProposal(txs=txs):
            size = sum(map(tx_bytes_in_block, txs))
            if size > most:
                raise ValueError(f"transactions of {size} bytes in a block, at most {most}")
        case _, ResponseProcessProposal(status=ProposalStatus.UNKNOWN):
            raise ValueError("status UNKNOWN: it must be ACCEPT or REJECT")
        case _, ResponseVerifyVoteExtension(status=VerifyStatus.UNKNOWN):
            raise ValueError("status UNKNOWN: it must be ACCEPT or REJECT")
        case RequestFinalizeBlock(txs=txs), ResponseFinalizeBlock(tx_results=results, validator_updates=updates):
            if len(results) != len(txs):
                raise ValueError(f"{len(results)} tx_results for {len(txs)} txs")
            _check_updates(updates)


def tx_bytes_in_block(tx: bytes) -> int:
    """What a transaction takes of ``max_tx_bytes``: its length and its tag count too."""
    size = len(tx)
    return 1 + uvarint_bytes(size) + size


def _check_updates(updates: tuple[ValidatorUpdate, ...]) -> None:
    if len({update.pub_key for update in updates}) != len(updates):
        raise ValueError("validator updates: two for one key")
    if sum(update.power for update in updates) > TOTAL_POWER_MAX:
        raise ValueError(f"validator updates: more power than {TOTAL_POWER_MAX}")
