"""Acting: what the rules of a height ask for becomes messages, records and timers; the rules hear what the app says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quorate.kernel import Env
from quorate.ledger.comet.votes import Vote as CometVote
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Leads
from quorate.protocols.tendermint.chain_app import Committed, Draft, Finalized, Prepared, Processed
from quorate.protocols.tendermint.chain_life import ChainLife
from quorate.protocols.tendermint.effects import (
    Decide,
    EnterRound,
    Equivocation,
    GetValue,
    Judge,
    KeepValid,
    Lock,
    SendProposal,
    SendVote,
    SetTimeout,
)
from quorate.protocols.tendermint.messages import Decision, Locked, Prevote, TendermintConfig, Valid
from quorate.protocols.tendermint.named_blocks import BLOCK_BYTES_MAX, NamedBlock, decode_block, name_block

BESIDE_TXS_BYTES: Final = 1 << 20
"""Of a block: header, commit and evidence take less."""


class Acting(ChainLife):
    """Each effect of the rules has a method, and each answer of the app."""

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env, config, keys=keys)
        self._actions: dict[type, Callable[[Any], None]] = {
            EnterRound: self._entered,
            GetValue: self._want,
            Judge: self._judge,
            SendProposal: self._propose,
            SendVote: self._vote,
            Lock: self._locked,
            KeepValid: self._keep,
            SetTimeout: self._time,
            Decide: self._decided,
            Equivocation: self._blame,
        }
        self._answers: dict[type, Callable[[Any], None]] = {
            Prepared: self._prepared,
            Processed: self._processed,
            Finalized: self.applying.finalized,
            Committed: self._applied,
        }

    # --- what the app answers ---

    def _take_answers(self) -> None:
        while answers := self.app.take():
            for answer in answers:
                self._answers[type(answer)](answer)

    def _prepared(self, answer: Prepared) -> None:
        """The transactions of a new block. It may come too late."""
        draft = self._draft
        if draft is None or (answer.height, answer.round) != (draft.height, draft.round) or self._wanted is None:
            return
        self._propose_new(name_block(self.chain.draft(self.env.id, answer.txs, draft.evidence)))

    def _processed(self, answer: Processed) -> None:
        rules = self.open.rules
        if answer.value in rules.validity:
            rules.on_judged(answer.value, answer.is_valid)

    def _applied(self, answer: Committed) -> None:
        self.applying.committed(answer)

    # --- what the rules ask for ---

    def settle(self) -> None:
        """Once a step: do all that the rules ask for."""
        while not self._is_stalled:
            self._take_answers()
            if self.applying.is_busy:
                return
            self._wake()
            self._build()
            height, effects = self.open, self.open.rules.take()
            if not effects:
                return
            for effect in effects:
                if not self.applying.is_busy and self.open is height:  # else it is decided, and the rest was for nobody
                    self._actions[type(effect)](effect)

    def _wake(self) -> None:
        """Begin the height, if there is something to decide."""
        rules = self.open.rules
        if not rules.is_started and (self.app.has_something or rules.heard.is_awaited):
            rules.start()

    def _build(self) -> None:
        """A new value, as soon as there is something to propose; what was signed for this round before, if anything."""
        if self._wanted is None:
            return
        own = self.signed.proposal
        if own is not None and own.round == self._wanted:
            self._propose_new(decode_block(own.block))
        elif self._draft is None and self.app.has_something:
            state, time = self.chain.state, self.chain.next_time
            evidence = self.evidence.to_propose(state.next_height, time)
            self._draft = Draft(
                round=self._wanted,
                height=state.next_height,
                time=time,
                proposer_address=self.committee.address(self.env.id),
                next_validators_hash=state.next_validators.hash(),
                last_commit=self.chain.last_commit,
                evidence=evidence,
                bytes_max=BLOCK_BYTES_MAX - BESIDE_TXS_BYTES,
            )
            self.app.prepare(self._draft)
            self._take_answers()

    def _propose_new(self, block: NamedBlock) -> None:
        assert self._wanted is not None
        round, self._wanted = self._wanted, None
        self._built = block
        self.open.rules.on_built(round, block.name)

    def _entered(self, effect: EnterRound) -> None:
        self._wanted = self._draft = None
        self.env.deliver(Leads(self.open.number, self.committee.proposer(effect.round)))

    def _want(self, effect: GetValue) -> None:
        self._wanted = effect.round

    def _judge(self, effect: Judge) -> None:
        """valid(v): it is the chain's next block, its evidence holds, and the app accepts it."""
        block = self.open.block_of(effect.value)
        header, pieces = block.block.header, block.block.evidence.evidence
        if self.chain.refusal(block.block) or self.evidence.refusal(pieces, header.height, header.time):
            self.open.rules.on_judged(effect.value, False)
        else:
            self.app.process(block)

    def _propose(self, effect: SendProposal) -> None:
        """The valid value with its proof, or the new one."""
        block, proof = self._built, None
        if self.valid is not None and effect.valid_round == self.valid.round:
            block, proof = decode_block(self.valid.block), self.valid.proof
        assert block is not None, "neither a new value nor a valid one"
        time_ns = self.chain.vote_ns(self.env.wall_ns, block.block)
        proposal = self.signed.propose(effect.round, block, effect.valid_round, proof, time_ns)
        if proposal is not None:
            self.env.broadcast(proposal)

    def _vote(self, effect: SendVote) -> None:
        vote = self._signed_vote(effect)
        if vote is not None:
            self.env.broadcast(vote)

    def _signed_vote(self, effect: SendVote) -> Prevote | None:
        """Of a validator; the others look on."""
        if not self.committee.has(self.env.id):
            return None
        block = None if effect.value is None else self.open.block_of(effect.value).block
        time_ns = self.chain.vote_ns(self.env.wall_ns, block)
        return self.signed.vote(effect.step, effect.round, effect.value, time_ns)

    def _locked(self, effect: Lock) -> None:
        """Before the precommit that stands for it, in the same Turn."""
        block, proof = self.open.block_of(effect.value), self.open.proof_of(effect.round, effect.value)
        self.lock = self.valid = Locked(self.open.number, effect.round, block.data, proof)
        self.env.persist(self.lock)

    def _keep(self, effect: KeepValid) -> None:
        if self.valid is None or self.valid.round != effect.round:
            block, proof = self.open.block_of(effect.value), self.open.proof_of(effect.round, effect.value)
            self.valid = Valid(self.open.number, effect.round, block.data, proof)
            self.env.persist(self.valid)

    def _time(self, effect: SetTimeout) -> None:
        self._timeouts[effect.step] = effect.round
        self.env.set_timer(effect.step.name.lower(), self.config.timeout_s(effect.step, effect.round))

    def _decided(self, effect: Decide) -> None:
        block = self.open.block_of(effect.value)
        self._decide(Decision(self.open.number, block.data, self.open.commit_of(effect.round, block)), block)

    def _blame(self, effect: Equivocation) -> None:
        found = self.open.contradiction(effect)
        what = "proposals"
        if isinstance(found.first, CometVote) and isinstance(found.second, CometVote):
            self.evidence.saw(found.first, found.second)
            what = "votes"
        self.env.blame(found.node, f"signed two {what} for one round", found)

    def _decide(self, decision: Decision, block: NamedBlock) -> None:
        """Nothing that was signed for this height matters any more; the app is asked what comes of it."""
        self.log.add(decision)
        self._leave(decision.height)
        self._end_timeouts()
        self.applying.add(decision, block)
        self._take_answers()

    def _end_timeouts(self) -> None:
        self._wanted = self._draft = None
        for step in self._timeouts:
            self.env.cancel_timer(step.name.lower())
        self._timeouts.clear()
