"""The order of calls that an app may expect, as a machine of states that names the first call which breaks it.

How it works. ``observe`` takes each call with its answer, in the order in which the app answered. The states follow the
grammar of the specification:

    start          = clean-start / recovery
    clean-start    = init-chain [state-sync] consensus-exec
    state-sync     = *state-sync-attempt success-sync info
    recovery       = info consensus-exec
    consensus-exec = (inf)height
    height         = *round decide commit

Of a height's rounds the names of calls say nothing that could be broken: any sequence of PrepareProposal,
ProcessProposal, ExtendVote and VerifyVoteExtension is one of some rounds. So what calls and answers *say* is checked
too, by the text of the specification beside the grammar: heights, and what was accepted before.

Echo, Flush, CheckTx, Query, ListSnapshots and LoadSnapshotChunk may come at any time. Info may too, besides its places.

Departures. CometBFT 0.38 leaves InitChain out before a state sync (``node/node.go``), against its grammar: here a state
sync may begin with or without it. A checker follows one run of the engine: begin another when the engine starts again.
As the engine may have been in the middle of a height before, ExtendVote needs no ProcessProposal before it until the
first Commit.

Source: CometBFT 0.38, ``spec/abci/abci++_comet_expected_behavior.md``; ``abci++_methods.md`` for what calls say.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from quorate.ledger.comet.abci.request_messages import (
    Request,
    RequestApplySnapshotChunk,
    RequestCommit,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestOfferSnapshot,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.abci.response_messages import (
    ApplyResult,
    OfferResult,
    ProposalStatus,
    Response,
    ResponseApplySnapshotChunk,
    ResponseInfo,
    ResponseOfferSnapshot,
    ResponseProcessProposal,
)

RoundCall: TypeAlias = RequestPrepareProposal | RequestProcessProposal | RequestExtendVote | RequestVerifyVoteExtension


class Phase(enum.Enum):
    """Where in the grammar a run stands: what came last."""

    STARTED = "the start"
    INFORMED = "Info"
    GENESIS = "InitChain"
    OFFERED = "OfferSnapshot"
    APPLYING = "ApplySnapshotChunk"
    HEIGHT = "Commit, the Info that ends a state sync, or a call of a round"
    DECIDED = "FinalizeBlock"


SYNCING: Final = (Phase.OFFERED, Phase.APPLYING)


class GrammarBroken(Exception):
    """A call that may not come where it came. ``index``: its place among those observed, from 0."""

    def __init__(self, index: int, call: str, what: str) -> None:
        super().__init__(f"call {index}, {call}: {what}")
        self.index = index
        self.call = call


class GrammarChecker:
    """Of one run of the engine against one app."""

    def __init__(self) -> None:
        self.phase = Phase.STARTED
        self.last_height = 0
        """Of the last block that the app has committed, as its answers and the calls say."""
        self._count = 0
        self._has_committed = False
        self._accepted: set[bytes] = set()
        """Hashes of the blocks that ProcessProposal accepted at this height."""
        self._offered_height = 0
        self._offered_hash = b""
        self._chunks = 0
        """Of the snapshot that the app accepted; 0: it takes none."""
        self._applied: set[int] = set()

    def observe(self, request: Request, response: Response) -> None:
        """A call and its answer. Raises GrammarBroken; use the checker no more then."""
        wrong = self._judge(request, response)
        if wrong:
            raise GrammarBroken(self._count, type(request).__name__.removeprefix("Request"), wrong)
        self._count += 1

    def _judge(self, request: Request, response: Response) -> str:
        """What is wrong with a call; empty: nothing, and it is part of the state."""
        match request, response:
            case RequestInfo(), ResponseInfo(last_block_height=height, last_block_app_hash=app_hash):
                self._inform(height, app_hash)
                return ""
            case RequestInitChain(initial_height=initial), _:
                return self._init_chain(initial)
            case RequestOfferSnapshot(), ResponseOfferSnapshot(result=offered):
                return self._offer(request, offered)
            case RequestApplySnapshotChunk(index=index), ResponseApplySnapshotChunk(result=applied):
                return self._apply(index, applied, response.refetch_chunks)
            case ((RequestPrepareProposal() | RequestVerifyVoteExtension()), _):
                return self._round(request)
            case RequestProcessProposal(), ResponseProcessProposal(status=status):
                return self._process(request, status)
            case RequestExtendVote(), _:
                return self._extend(request)
            case RequestFinalizeBlock(), _:
                return self._decide(request)
            case RequestCommit(), _:
                return self._commit()
        return ""

    # --- start ---

    def _inform(self, height: int, app_hash: bytes) -> None:
        if self.phase is Phase.STARTED:
            self.last_height, self.phase = height, Phase.INFORMED
        elif self.phase is Phase.APPLYING and self._is_restored(height, app_hash):
            self.last_height, self.phase = height, Phase.HEIGHT

    def _init_chain(self, initial_height: int) -> str:
        if self.phase not in (Phase.STARTED, Phase.INFORMED):
            return f"comes after {self.phase.value}: a chain begins once"
        if self.last_height > 0:
            return f"the app told of height {self.last_height}: its chain has begun"
        self.last_height, self.phase = max(initial_height, 1) - 1, Phase.GENESIS
        return ""

    # --- state-sync ---

    def _offer(self, request: RequestOfferSnapshot, result: OfferResult) -> str:
        if self.phase not in (Phase.STARTED, Phase.INFORMED, Phase.GENESIS, *SYNCING):
            return f"comes after {self.phase.value}: state sync is at the start"
        if self.phase is Phase.INFORMED and self.last_height > 0:
            return f"the app told of height {self.last_height}: only one without state can take a snapshot"
        if request.snapshot is None:
            return "offers no snapshot"
        self.phase = Phase.OFFERED
        self._offered_height, self._offered_hash = request.snapshot.height, request.app_hash
        self._chunks = request.snapshot.chunks if result is OfferResult.ACCEPT else 0
        self._applied.clear()
        return ""

    def _apply(self, index: int, result: ApplyResult, refetch: tuple[int, ...]) -> str:
        if self.phase not in SYNCING:
            return f"comes after {self.phase.value}, not after OfferSnapshot"
        if not self._chunks:
            return "the app has accepted no snapshot"
        if index >= self._chunks:
            return f"chunk {index} of a snapshot that has {self._chunks}"
        self.phase = Phase.APPLYING
        if result is ApplyResult.ACCEPT:
            self._applied.add(index)
        elif result is not ApplyResult.RETRY:
            self._chunks = 0  # the attempt is over: OfferSnapshot must come again
        self._applied.difference_update(refetch)
        return ""

    def _is_restored(self, height: int, app_hash: bytes) -> bool:
        is_whole = 0 < self._chunks == len(self._applied)
        return is_whole and (height, app_hash) == (self._offered_height, self._offered_hash)

    # --- consensus-exec ---

    def _round(self, request: RoundCall) -> str:
        wrong = self._at_height(request.height)
        if not wrong:
            self.phase = Phase.HEIGHT
        return wrong

    def _process(self, request: RequestProcessProposal, status: ProposalStatus) -> str:
        wrong = self._round(request)
        if not wrong and status is ProposalStatus.ACCEPT:
            self._accepted.add(request.hash)
        return wrong

    def _extend(self, request: RequestExtendVote) -> str:
        # "At most one call to ExtendVote may occur only after ProcessProposal is called."
        if self._has_committed and self.phase is Phase.HEIGHT and request.hash not in self._accepted:
            return f"for block {request.hash.hex()[:16]}, which ProcessProposal did not accept at this height"
        return self._round(request)

    def _decide(self, request: RequestFinalizeBlock) -> str:
        wrong = self._at_height(request.height)
        if not wrong:
            self.phase = Phase.DECIDED
        return wrong

    def _commit(self) -> str:
        if self.phase is not Phase.DECIDED:
            return f"comes after {self.phase.value}, not after FinalizeBlock"
        self.last_height += 1
        self.phase = Phase.HEIGHT
        self._has_committed = True
        self._accepted.clear()
        return ""

    def _at_height(self, height: int) -> str:
        """Why no call of this height may come now."""
        match self.phase:
            case Phase.STARTED:
                return "comes first: Info or InitChain must come before it"
            case Phase.INFORMED if self.last_height == 0:
                return "the app told of height 0: InitChain must come before it"
            case Phase.OFFERED | Phase.APPLYING:
                return "state sync has not ended with all chunks and the Info that tells of its height and hash"
            case Phase.DECIDED:
                return f"comes after FinalizeBlock of height {self.last_height + 1}: Commit must come before it"
        if height != self.last_height + 1:
            return f"is of height {height}; the app has committed height {self.last_height}"
        return ""
