"""Proposing: getValue() of the paper, and what a proposer says.

The app fills a new value (``ChainApp.prepare``). It is asked once a round, as soon as there is something to propose.
What this node signed for the round before a crash is proposed again as it was. A valid value of an earlier round goes
out with the prevotes that make it one.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Env
from quorate.parts.log.replicated import Leads
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.chain_app import ChainApp, Draft, Prepared
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import EnterRound, GetValue, SendProposal
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.lock_state import LockState
from quorate.protocols.tendermint.named_blocks import BLOCK_BYTES_MAX, NamedBlock, decode_block, name_block
from quorate.protocols.tendermint.signing import SignState

BESIDE_TXS_BYTES: Final = 1 << 20
"""Of a block: header, commit and evidence take less."""


class Proposing:
    """Nothing of it is durable but what ``SignState`` keeps."""

    def __init__(
        self,
        env: Env,
        current: CurrentHeight,
        chain: Chain,
        evidence: EvidencePool,
        app: ChainApp,
        signed: SignState,
        locks: LockState,
    ) -> None:
        self._env = env
        self._current = current
        self._chain = chain
        self._evidence = evidence
        self._app = app
        self._signed = signed
        self._locks = locks
        self._built: NamedBlock | None = None  # the new value that this node made last
        self._wanted: int | None = None  # the round for which a new value is to be made
        self._draft: Draft | None = None  # what the app was asked to fill for it

    def wake(self) -> None:
        """Begin the height, if there is something to decide."""
        rules = self._current.open.rules
        if not rules.is_started and (self._app.has_something or rules.heard.is_awaited):
            rules.start()

    def on_enter_round(self, effect: EnterRound) -> None:
        """What was wanted for an earlier round is wanted no more."""
        self.stop()
        self._env.deliver(Leads(self._current.open.number, self._chain.committee.proposer(effect.round)))

    def on_get_value(self, effect: GetValue) -> None:
        """For ``build``."""
        self._wanted = effect.round

    def stop(self) -> None:
        """Nothing is to be made."""
        self._wanted = self._draft = None

    def build(self) -> bool:
        """A new value, as soon as there is something to propose; what was signed for this round before, if anything.

        Whether the app was asked, so that it may have answered.
        """
        if self._wanted is None:
            return False
        own = self._signed.proposal
        if own is not None and own.round == self._wanted:
            self._use(decode_block(own.block))
        elif self._draft is None and self._app.has_something:
            self._draft = self._new_draft(self._wanted)
            self._app.prepare(self._draft)
            return True
        return False

    def _new_draft(self, round: int) -> Draft:
        chain, time = self._chain, self._chain.next_time
        return Draft(
            round=round,
            height=chain.state.next_height,
            time=time,
            proposer_address=chain.committee.address(self._env.id),
            next_validators_hash=chain.state.next_validators.hash(),
            last_commit=chain.last_commit,
            evidence=self._evidence.to_propose(chain.state.next_height, time),
            bytes_max=BLOCK_BYTES_MAX - BESIDE_TXS_BYTES,
        )

    def prepared(self, answer: Prepared) -> None:
        """The transactions of a new block. It may come too late."""
        draft = self._draft
        if draft is None or (answer.height, answer.round) != (draft.height, draft.round) or self._wanted is None:
            return
        self._use(name_block(self._chain.draft(self._env.id, answer.txs, draft.evidence)))

    def _use(self, block: NamedBlock) -> None:
        assert self._wanted is not None
        round, self._wanted = self._wanted, None
        self._built = block
        self._current.open.rules.on_built(round, block.name)

    def on_send_proposal(self, effect: SendProposal) -> None:
        """The valid value with its proof, or the new one."""
        block, proof, valid = self._built, None, self._locks.valid
        if valid is not None and effect.valid_round == valid.round:
            block, proof = decode_block(valid.block), valid.proof
        assert block is not None, "neither a new value nor a valid one"
        time_ns = self._chain.vote_ns(self._env.wall_ns, block.block)
        proposal = self._signed.propose(effect.round, block, effect.valid_round, proof, time_ns)
        if proposal is not None:
            self._env.broadcast(proposal)
