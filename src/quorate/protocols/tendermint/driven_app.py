"""DrivenApp: a chain's app that speaks ABCI 0.38, wherever it runs: what it is asked, when, and what is kept of it.

How it works. Each request is a job (``AskApp``), done in order by the layer above. A life begins with Info. The app is
asked to begin the chain, if it has no block; it hears of those that it has not committed, one after the other, while
the chain goes through its log; of the others it is not told again, as their outcomes are kept. Only then is it ready.

Transactions, until a block has them, are the affair of ``Pooling``.

A block is also proposed if the app's hash has changed, so that the header after it has the new one (needProofBlock).
If it has changed by a block of no transactions, as with an app that hashes the height, the next one waits for a beat:
otherwise the chain would go on as fast as it can. (CometBFT waits timeout_commit after each block.)

Durable: the app's answer to InitChain (Begun), and to each FinalizeBlock (Outcome), before it is asked to commit.

An app that cannot be right ends the node (AppEnded): one that is ahead, of another chain, or that answers otherwise
than it did.

Source: CometBFT 0.38, ``consensus/replay.go``, ``state/execution.go``, ``consensus/state.go`` (needProofBlock).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from quorate.kernel import AppEnded, Env, Key
from quorate.ledger.comet.abci.handshake import RESET, HandshakeFailed, Heights, plan
from quorate.ledger.comet.abci.request_messages import (
    RequestCommit,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.abci.response_messages import (
    RESPONSE,
    ProposalStatus,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseInfo,
    VerifyStatus,
)
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.evidence import EVIDENCE_LIST, EvidenceList
from quorate.ledger.comet.param_updates import data_bytes_max
from quorate.ledger.comet.results import last_results_hash
from quorate.protocols.tendermint import app_requests
from quorate.protocols.tendermint.app_messages import (
    AskApp,
    Begun,
    Outcome,
    TxChecked,
    finalized_by,
    finalized_of,
)
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.chain_app import (
    AppReady,
    ChainApp,
    Committed,
    Draft,
    Extended,
    Finalized,
    Prepared,
    Processed,
    Verified,
)
from quorate.protocols.tendermint.effects import SignedVote
from quorate.protocols.tendermint.extensions import LastExtensions
from quorate.protocols.tendermint.mempool import Mempool
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import NamedBlock
from quorate.protocols.tendermint.pooling import Pooling
from quorate.protocols.tendermint.questions import Questions

ENGINE: Final = RequestInfo("0.38.26", 11, 8, "2.0.0")
"""What an app is told of its engine: the CometBFT whose ways this has, its block and P2P protocols, and ABCI's."""
NOT_READY: Final = "the app is not ready yet"
MEND: Final = "What to do: mend the app, and see that it is the same on all nodes"


class Greeted(AppReady, frozen=True):
    """``begun``: what the app said of the genesis, if it was asked now."""

    begun: Begun | None


class Informed(AppReady, frozen=True):
    """Where the app stands, by its own word. It is not ready yet."""

    info: ResponseInfo


class DrivenApp(ChainApp):
    """``chain`` and ``last_extensions`` are the core's, to be read."""

    chain: Chain
    last_extensions: LastExtensions

    def __init__(self, env: Env, config: TendermintConfig) -> None:
        super().__init__(env, config)
        self.pooling = Pooling(env, config)
        self.outcomes: dict[int, bytes] = {}
        """The app's answers to FinalizeBlock, by height: from the one after ``base`` on, without a gap."""
        self.base = 0
        """The height before the first that the log has."""
        self._base_hash = b""
        self.app_height = 0
        """Of the last block that the app has committed."""
        self._questions = Questions(env)
        self._info: ResponseInfo | None = None
        self._is_ready = False
        self._is_proof_due = True  # also before the first block (consensus/state.go)
        self._waits_for_beat = False
        self._block: NamedBlock | None = None  # the app was asked what comes of it
        self._draft: Draft | None = None  # it waits until transactions are checked again

    @property
    def mempool(self) -> Mempool:
        """What waits for a block."""
        return self.pooling.mempool

    @property
    def is_ready(self) -> bool:
        return self._is_ready

    @property
    def has_something(self) -> bool:
        # A node that lacks the extensions of the last votes proposes nothing, as in CometBFT.
        is_due = (self._is_proof_due and not self._waits_for_beat) or len(self.mempool) > 0
        return is_due and self.last_extensions.find() is not None

    def restore(self, record: Outcome) -> None:
        """One that was durable."""
        self.outcomes[record.height] = record.answer

    def greet(self) -> None:
        """A life of the node begins."""
        self._questions.ask(AskApp(ENGINE))

    # --- transactions ---

    def submit(self, values: Sequence[bytes]) -> None:
        if not self._is_ready:
            for tx in values:
                self.env.deliver(TxChecked(tx, None, NOT_READY))
            return
        self.pooling.submit(values)

    def hear(self, sender: int, txs: Sequence[bytes]) -> None:
        if self._is_ready:
            self.pooling.hear(sender, txs)

    def settle(self) -> None:
        """At the end of a turn."""
        self.pooling.settle()

    # --- blocks ---

    def prepare(self, draft: Draft) -> None:
        if self.pooling.is_rechecking:
            self._draft = draft
            return
        chain = self.chain
        evidence_bytes = len(EVIDENCE_LIST.encode(EvidenceList(draft.evidence))) if draft.evidence else 0
        validators = len(chain.state.validators.validators)
        bytes_max = min(draft.bytes_max, data_bytes_max(chain.params.block, validators, evidence_bytes))
        txs = self.pooling.first(bytes_max)
        extensions = self.last_extensions.find()
        assert extensions is not None, "without them there is nothing to propose"
        request = app_requests.prepare_proposal(draft, txs, bytes_max, chain.state.last_validators, extensions)
        self._questions.ask(AskApp(request), (draft.height, draft.round))

    def process(self, block: NamedBlock) -> None:
        bytes_max = self.chain.params.block.max_bytes
        if 0 <= bytes_max < len(block.data):
            self.answer(Processed(block.name, False))
            return
        self._questions.ask(AskApp(app_requests.process_proposal(block, self.chain.state.last_validators)), block.name)

    def extend(self, block: NamedBlock, round: int) -> None:
        self._questions.ask(AskApp(app_requests.extend_vote(block, self.chain.state.last_validators)), (round, block))

    def verify(self, height: int, vote: SignedVote) -> None:
        address = self.chain.committee.address(vote.node)
        self._questions.ask(AskApp(app_requests.verify_vote_extension(height, vote, address)), (vote.round, vote.node))

    def finalize(self, block: NamedBlock, commit: Commit) -> None:
        """Questions about blocks that were not decided are not asked again."""
        self._questions.forget_failed()
        self._block, self._draft = block, None
        height = block.block.header.height
        outcome = self.outcomes.get(height)
        if outcome is not None and height <= self.app_height:
            self._finalized(finalized_of(outcome))
        else:
            self._questions.ask(AskApp(app_requests.finalize_block(block, self.chain.state.last_validators)))

    def _finalized(self, said: Finalized) -> None:
        assert self._block is not None, "the app was asked about a block"
        block, height = self._block.block, self._block.block.header.height
        known = self.outcomes.get(height)
        if known is not None and known != said.answer:
            self._check_same(height, finalized_of(known), said)
            said = finalized_of(known)  # texts may differ: the first ones stay
        self.index += len(block.data.txs)
        self._is_proof_due = said.app_hash != block.header.app_hash
        self._waits_for_beat = not block.data.txs
        self.answer(said)

    def _check_same(self, height: int, known: Finalized, said: Finalized) -> None:
        for what, one, other in (
            ("app_hash", known.app_hash.hex(), said.app_hash.hex()),
            ("results", last_results_hash(known.results).hex(), last_results_hash(said.results).hex()),
            ("validator updates", str(known.changes), str(said.changes)),
            ("parameters", str(known.params), str(said.params)),
        ):
            if one != other:
                raise AppEnded(
                    f"the app ran block {height} again and answers otherwise than at first: {what} {other}, and not "
                    f"{one}. {MEND}"
                )

    def commit(self, height: int, said: Finalized) -> None:
        """The outcome is durable before the app is asked to keep it."""
        if height not in self.outcomes:
            self.outcomes[height] = said.answer
            self.env.persist(Outcome(height, said.answer))
        assert self._block is not None, "the app was asked about a block"
        self.pooling.decided(self._block.block.data.txs, [result.code == 0 for result in said.results])
        if height <= self.app_height:
            if height == self.app_height:
                self._check_hash(height, said.app_hash)
            self.answer(Committed(height))
        else:
            self._questions.ask(AskApp(RequestCommit()), height)

    def _committed(self, height: int, retain_height: int) -> None:
        self.app_height = height
        self._questions.forget_failed()  # what was asked of votes and blocks of this height
        self.pooling.applied()
        self.answer(Committed(height, max(0, retain_height)))

    # --- the start ---

    def begin_after(self, index: int, app_hash: bytes, *, is_proof_due: bool) -> None:
        """Where the log begins, there were so many transactions, and the app had this hash."""
        self.index, self._base_hash = index, app_hash
        self._is_proof_due = is_proof_due

    def forget(self, height: int) -> None:
        """The log begins after this height."""
        self.base = height
        self.outcomes = {above: answer for above, answer in self.outcomes.items() if above > height}

    def took_over(self) -> None:
        """The app has the state from which the log goes on."""
        self.app_height = self.base
        self._ready(None)

    def welcome(self, info: ResponseInfo) -> None:
        """What the app has, and what it must hear of."""
        height = self.base + len(self.outcomes)
        heights = Heights(app=info.last_block_height, store=height, state=height, base=self.base + 1 if height else 0)
        try:
            todo = plan(heights)
        except HandshakeFailed as error:
            raise AppEnded(str(error)) from None
        self._info = info
        self.app_height = info.last_block_height
        if 0 < self.base == self.app_height:
            self._check_hash(self.base, self._base_hash)
        if todo.begins:
            self._questions.ask(AskApp(self.genesis))
        else:
            self._ready(None)

    @property
    def genesis(self) -> RequestInitChain:
        """What the app is asked if it has no block. The chain may have some: then it is as it was."""
        return self._genesis

    def know_genesis(self, chain: Chain) -> None:
        """The chain, before its first block and before the app had its say."""
        self.chain = self.pooling.chain = chain
        self._genesis = app_requests.init_chain(chain)

    def _ready(self, begun: Begun | None) -> None:
        self._is_ready = True
        self.answer(Greeted(begun))

    def _check_hash(self, height: int, expected: bytes) -> None:
        """The app is where it says it is."""
        found = b"" if self._info is None else self._info.last_block_app_hash
        if self._info is not None and self._info.last_block_height == height and found != expected:
            raise AppEnded(
                f"the app is at height {height} with the hash {found.hex() or 'empty'}, and the chain has "
                f"{expected.hex() or 'empty'}. What to do: see whether the app belongs to this chain; {RESET}"
            )

    # --- answers ---

    def done(self, key: Key, result: Any) -> None:
        if self.pooling.done(key, result):
            if self._draft is not None and not self.pooling.is_rechecking:
                draft, self._draft = self._draft, None
                self.prepare(draft)
            return
        asked = self._questions.done(key, result)
        if asked is not None:
            self._answered(asked[0].request, asked[1], result)

    def _answered(self, request: Any, about: Any, result: Any) -> None:
        match request:
            case RequestPrepareProposal():
                height, round = about
                self.answer(Prepared(height, round, result.txs))
            case RequestProcessProposal():
                self.answer(Processed(about, result.status == ProposalStatus.ACCEPT))
            case RequestExtendVote():
                round, block = about
                self.answer(Extended(request.height, round, block.name, result.vote_extension))
            case RequestVerifyVoteExtension():
                round, node = about
                self.answer(Verified(request.height, round, node, result.status == VerifyStatus.ACCEPT))
            case RequestFinalizeBlock():
                assert isinstance(result, ResponseFinalizeBlock), "the answer is of the request's kind"
                self._finalized(finalized_by(result))
            case RequestCommit():
                assert isinstance(result, ResponseCommit), "the answer is of the request's kind"
                self._committed(about, result.retain_height)
            case RequestInfo():
                self.answer(Informed(result))
            case RequestInitChain():
                assert self._info is not None, "Info comes first"
                self._ready(Begun(self._info.app_version, RESPONSE.encode(result)))

    def beat(self) -> None:
        self._waits_for_beat = False
        self._questions.beat()
        self.pooling.beat()
