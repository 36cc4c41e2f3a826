"""Runs of ABCI calls that keep to the grammar, made by chance, by the text of the specification alone."""

import random

from quorate.ledger.comet.abci.contents import AppSnapshot
from quorate.ledger.comet.abci.request_messages import (
    Request,
    RequestApplySnapshotChunk,
    RequestCheckTx,
    RequestCommit,
    RequestEcho,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestListSnapshots,
    RequestOfferSnapshot,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.abci.response_messages import (
    ApplyResult,
    OfferResult,
    ProposalStatus,
    Response,
    ResponseApplySnapshotChunk,
    ResponseCheckTx,
    ResponseCommit,
    ResponseEcho,
    ResponseExtendVote,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
    ResponseListSnapshots,
    ResponseOfferSnapshot,
    ResponsePrepareProposal,
    ResponseProcessProposal,
    ResponseQuery,
    ResponseVerifyVoteExtension,
)

Call = tuple[Request, Response]
COMMIT: Call = (RequestCommit(), ResponseCommit())
ANY_TIME: tuple[Call, ...] = (
    (RequestEcho("a"), ResponseEcho("a")),
    (RequestCheckTx(b"t"), ResponseCheckTx()),
    (RequestQuery(b"k"), ResponseQuery()),
    (RequestListSnapshots(), ResponseListSnapshots()),
)


def info(height: int) -> Call:
    return RequestInfo(), ResponseInfo(last_block_height=height)


def init_chain(initial_height: int) -> Call:
    return RequestInitChain(initial_height=initial_height), ResponseInitChain()


def offer(height: int, chunks: int, result: OfferResult) -> Call:
    return RequestOfferSnapshot(AppSnapshot(height, 1, chunks)), ResponseOfferSnapshot(result)


def chunk(index: int, result: ApplyResult = ApplyResult.ACCEPT, refetch: tuple[int, ...] = ()) -> Call:
    return RequestApplySnapshotChunk(index), ResponseApplySnapshotChunk(result, refetch)


def prepare(height: int) -> Call:
    return RequestPrepareProposal(height=height), ResponsePrepareProposal()


def process(height: int, name: bytes, status: ProposalStatus = ProposalStatus.ACCEPT) -> Call:
    return RequestProcessProposal(height=height, hash=name), ResponseProcessProposal(status)


def extend(height: int, name: bytes) -> Call:
    return RequestExtendVote(height=height, hash=name), ResponseExtendVote()


def verify(height: int) -> Call:
    return RequestVerifyVoteExtension(height=height), ResponseVerifyVoteExtension()


def finalize(height: int) -> Call:
    return RequestFinalizeBlock(height=height), ResponseFinalizeBlock()


class Runs:
    """What chance makes of the grammar."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def run(self, heights: int) -> list[Call]:
        """start = clean-start / recovery"""
        if self.chance.random() < 0.3:
            last = self.chance.randint(1, 50)
            return self._with_others([info(last), *self.consensus(last, heights)])
        initial = self.chance.choice((0, 1, 1, 40))
        calls, last = [init_chain(initial)], max(initial, 1) - 1
        if self.chance.random() < 0.5:
            calls.insert(0, info(0))
        if self.chance.random() < 0.4:
            last = self.chance.randint(60, 90)
            calls += self.state_sync(last)
        return self._with_others(calls + self.consensus(last, heights))

    def state_sync(self, height: int) -> list[Call]:
        """state-sync = *state-sync-attempt success-sync info"""
        calls: list[Call] = []
        for _ in range(self.chance.randint(0, 2)):
            calls += self._attempt()
        chunks = self.chance.randint(1, 4)
        calls.append(offer(height, chunks, OfferResult.ACCEPT))
        for index in range(chunks):
            if self.chance.random() < 0.3:
                calls.append(chunk(index, ApplyResult.RETRY))
            calls.append(chunk(index))
        if self.chance.random() < 0.3:
            calls += [chunk(0, refetch=(chunks - 1,)), chunk(chunks - 1)]
        return [*calls, info(height)]

    def _attempt(self) -> list[Call]:
        if self.chance.random() < 0.5:
            return [offer(55, 3, OfferResult.REJECT)]
        end = self.chance.choice((ApplyResult.REJECT_SNAPSHOT, ApplyResult.RETRY_SNAPSHOT))
        applied = [chunk(index) for index in range(self.chance.randint(0, 2))]
        return [offer(55, 3, OfferResult.ACCEPT), *applied, chunk(len(applied), end)]

    def consensus(self, last: int, heights: int) -> list[Call]:
        """consensus-height = *consensus-round decide commit"""
        calls: list[Call] = []
        for height in range(last + 1, last + 1 + heights):
            for round_ in range(self.chance.randint(0, 3)):
                calls += self.round(height, b"block %d" % round_)
            calls += [finalize(height), COMMIT]
        return calls

    def round(self, height: int, name: bytes) -> list[Call]:
        """Of a proposer or another; it extends its vote for a block that it accepted."""
        is_proposer, is_seen, extends = (self.chance.random() < 0.6 for _ in range(3))
        calls = self._votes(height) + [prepare(height)] * is_proposer
        if is_seen:
            calls.append(process(height, name))
        if is_seen and extends:
            calls += [*self._votes(height), extend(height, name), *self._votes(height)]
        return calls

    def _votes(self, height: int) -> list[Call]:
        return [verify(height)] * self.chance.randint(0, 2)

    def _with_others(self, calls: list[Call]) -> list[Call]:
        """And those calls that may come at any time, after the first."""
        for _ in range(self.chance.randint(0, 5)):
            calls.insert(self.chance.randint(1, len(calls)), self.chance.choice(ANY_TIME))
        return calls
