"""ABCIApp: the base class of an app that an engine drives by ABCI 0.38.

How it works. Override the calls that your app needs; each takes its request and returns its response, and the others do
what CometBFT's ``BaseApplication`` does: accept everything, change nothing. ``answer`` puts a request to the call that
it is for. The same app runs behind a socket (``quorate.service.abci.app_server``), where any engine can drive it, and
in the process of a node. There is one call at a time.

What is durable is the app's own affair: what FinalizeBlock did becomes so in Commit, and Info tells of the last height
that was. An engine that crashes in between asks for the block again.

Departures from BaseApplication: PrepareProposal counts what transactions take in a block, tags and lengths too, as the
engine does; there, only the transactions count, and a block may come out too large.

Source: CometBFT 0.38, ``spec/abci/abci++_methods.md``, ``abci/types/application.go``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.abci.answer_checks import check_answer, tx_bytes_in_block
from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import ANSWERS, ProposalStatus, Response, VerifyStatus
from quorate.ledger.comet.results import ExecTxResult


class AppMistake(Exception):
    """An app that returned what is no answer to the call. The text names the call."""


class ABCIApp:
    """An app. Calls come one at a time, on one thread; an exception out of one stops the engine that asked."""

    # --- the query connection ---

    def info(self, request: requests.RequestInfo) -> responses.ResponseInfo:
        """Where the app stands. ``last_block_height``: of the last Commit, 0 before the first."""
        return responses.ResponseInfo()

    def query(self, request: requests.RequestQuery) -> responses.ResponseQuery:
        """Read the state that is committed."""
        return responses.ResponseQuery()

    # --- the mempool connection ---

    def check_tx(self, request: requests.RequestCheckTx) -> responses.ResponseCheckTx:
        """Whether a transaction may wait for a block: with a code other than 0 it may not."""
        return responses.ResponseCheckTx()

    # --- the consensus connection ---

    def init_chain(self, request: requests.RequestInitChain) -> responses.ResponseInitChain:
        """Begin a chain. What the response leaves empty stays as the genesis has it."""
        return responses.ResponseInitChain()

    def prepare_proposal(self, request: requests.RequestPrepareProposal) -> responses.ResponsePrepareProposal:
        """The transactions of a block that this node proposes, of at most ``max_tx_bytes``."""
        chosen: list[bytes] = []
        room = request.max_tx_bytes
        for tx in request.txs:
            room -= tx_bytes_in_block(tx)
            if room < 0:
                break
            chosen.append(tx)
        return responses.ResponsePrepareProposal(tuple(chosen))

    def process_proposal(self, request: requests.RequestProcessProposal) -> responses.ResponseProcessProposal:
        """Whether to vote for a block. Deterministic, and accepting all that ``prepare_proposal`` makes."""
        return responses.ResponseProcessProposal(ProposalStatus.ACCEPT)

    def extend_vote(self, request: requests.RequestExtendVote) -> responses.ResponseExtendVote:
        """What goes with this node's vote for the block."""
        return responses.ResponseExtendVote()

    def verify_vote_extension(
        self, request: requests.RequestVerifyVoteExtension
    ) -> responses.ResponseVerifyVoteExtension:
        """Whether another's vote counts, with what goes with it. Deterministic, and accepting all honest ones."""
        return responses.ResponseVerifyVoteExtension(VerifyStatus.ACCEPT)

    def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
        """Run a block that is decided: a result for each transaction, and the hash of the state after it.

        Deterministic. Nothing of it is durable before ``commit``.
        """
        return responses.ResponseFinalizeBlock(tx_results=(ExecTxResult(),) * len(request.txs))

    def commit(self, request: requests.RequestCommit) -> responses.ResponseCommit:
        """Make the last block's outcome durable, and what ``query`` and ``check_tx`` see."""
        return responses.ResponseCommit()

    # --- the snapshot connection ---

    def list_snapshots(self, request: requests.RequestListSnapshots) -> responses.ResponseListSnapshots:
        """The snapshots that others may have of this node."""
        return responses.ResponseListSnapshots()

    def offer_snapshot(self, request: requests.RequestOfferSnapshot) -> responses.ResponseOfferSnapshot:
        """Whether to begin with this snapshot. UNKNOWN, the default, ends state sync for an app that has none."""
        return responses.ResponseOfferSnapshot()

    def load_snapshot_chunk(self, request: requests.RequestLoadSnapshotChunk) -> responses.ResponseLoadSnapshotChunk:
        """A chunk of one of the listed snapshots; empty: it is gone."""
        return responses.ResponseLoadSnapshotChunk()

    def apply_snapshot_chunk(self, request: requests.RequestApplySnapshotChunk) -> responses.ResponseApplySnapshotChunk:
        """Take a chunk of the snapshot that was accepted."""
        return responses.ResponseApplySnapshotChunk()

    # --- for who drives the app ---

    def answer(self, request: Request) -> Response:
        """The app's answer to any request, Echo and Flush too. Raises AppMistake, and what the call raises."""
        name = CALLS[type(request)]
        response: Response = getattr(self, name)(request)
        if type(response) is not ANSWERS[type(request)]:
            expected = ANSWERS[type(request)].__name__
            raise AppMistake(f"{type(self).__name__}.{name} returned {type(response).__name__}, not {expected}")
        try:
            check_answer(request, response)
        except ValueError as error:
            raise AppMistake(f"what {type(self).__name__}.{name} returned breaks a rule: {error}") from None
        return response

    def _echo(self, request: requests.RequestEcho) -> responses.ResponseEcho:
        return responses.ResponseEcho(request.message)

    def _flush(self, request: requests.RequestFlush) -> responses.ResponseFlush:
        return responses.ResponseFlush()


CALLS: Final[Mapping[type[Request], str]] = {
    requests.RequestEcho: "_echo",
    requests.RequestFlush: "_flush",
    requests.RequestInfo: "info",
    requests.RequestInitChain: "init_chain",
    requests.RequestQuery: "query",
    requests.RequestCheckTx: "check_tx",
    requests.RequestCommit: "commit",
    requests.RequestListSnapshots: "list_snapshots",
    requests.RequestOfferSnapshot: "offer_snapshot",
    requests.RequestLoadSnapshotChunk: "load_snapshot_chunk",
    requests.RequestApplySnapshotChunk: "apply_snapshot_chunk",
    requests.RequestPrepareProposal: "prepare_proposal",
    requests.RequestProcessProposal: "process_proposal",
    requests.RequestExtendVote: "extend_vote",
    requests.RequestVerifyVoteExtension: "verify_vote_extension",
    requests.RequestFinalizeBlock: "finalize_block",
}
"""The method that answers each request."""
