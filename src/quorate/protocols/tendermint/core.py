"""Tendermint: a replicated log in heights and rounds, where less than a third of the power lies.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv 1807.04938). ``height.py`` is its
algorithm 1, rule by rule, for one height.

How it works. A height decides one batch of signed requests. ``Height`` is fed with what comes and says what is to be
done; ``OpenHeight`` turns messages into what it is fed with; here its effects become messages, records and timers.
Whose turn it is to propose, ``Committee`` knows; ``SignState`` signs, and never two things that contradict each other;
``PendingRequests`` has what is to be proposed, and judges what others propose; ``DecidedLog`` has the heights before.
None of these knows the core.

A height begins at a node when there is something to decide: a request waits, f + 1 nodes speak of the height, or its
proposer proposes. So no rounds go by while nobody asks for anything.

Messages may be lost. At each beat a node says how far it has decided, and is sent what it lacks, with certificates. If
it has come no further within its height since the last beat, it passes on all votes that it has of its round and of the
one before, its own and others'; so what one correct node has received, all receive, as the paper assumes. A proposal
for a valid value carries the prevotes that make it valid. What comes for the next height is kept, one of each kind for
each node, since others may have decided a moment earlier.

Durable before it leaves: every proposal and vote that this node signs; the lock before its precommit; the valid value;
decisions. A node that restarts goes on in the step of what it signed last, with its lock.

Deviations. (1) The second vote of a node for one round and step is evidence and does not count; the paper counts all.
Certificates show what it would have been needed for. (2) Of rounds far ahead each node's latest is kept alone
(``heard.py``). (3) The height waits for requests, and a proposer for its first one, while the others time out.

Limits. The log is never compacted, and members are fixed. Requests wait at the nodes that clients sent them to, which
should be all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

from quorate.kernel import Core, Env, Key, Standing
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Dropped, Leads, ReadFailed, ReadReady
from quorate.protocols.tendermint.committee import Committee
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
    SignedProposal,
    SignedVote,
    Step,
)
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import (
    MESSAGES,
    RECORDS,
    VOTES_A_NODE_MAX,
    Decision,
    Here,
    Locked,
    Prevote,
    Proposal,
    TendermintConfig,
    Valid,
    Votes,
    batch_id,
)
from quorate.protocols.tendermint.open_height import OpenHeight
from quorate.protocols.tendermint.pending import PendingRequests
from quorate.protocols.tendermint.signing import SignState

BEAT: Final = "beat"
TIMERS: Final = {"propose": Step.PROPOSE, "prevote": Step.PREVOTE, "precommit": Step.PRECOMMIT}
STALLED: Final = "the disk takes nothing"


class Tendermint(Core):
    """One node. Public attributes may be read by checkers and status pages, and by nothing else."""

    messages = MESSAGES
    records = RECORDS
    rules_class: ClassVar[type[Height]] = Height
    signing_class: ClassVar[type[SignState]] = SignState
    open_class: ClassVar[type[OpenHeight]] = OpenHeight

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        """Raises ValueError for keys of another node, and where the powers do not fit the nodes."""
        super().__init__(env)
        if keys.node != env.id:
            raise ValueError(f"node {env.id} was given the keys of node {keys.node}")
        self.config = config
        self._keys = keys
        self.keyring = keys.keyring
        self.committee = Committee(env.peers, config.powers, keys.keyring)
        self.pending = PendingRequests(env, config)
        # Durable, with what each of them says is.
        self.log = DecidedLog(env, config.batch_bytes_max)
        self.signed = self.signing_class(env, keys)
        self.lock: Locked | None = None
        self.valid: Valid | None = None
        # Volatile.
        self.open = self._open(1)
        self._early: dict[int, dict[type, Proposal | Prevote]] = {}  # by node, one of each kind for the next height
        self._built: tuple[bytes, ...] = ()  # the new value that this node made last
        self._wanted: int | None = None  # the round for which a new value is to be made
        self._timeouts: dict[Step, int] = {}  # in which round each was set
        self._place: tuple[int, int, Step] | None = None  # at the last beat
        self._is_stalled = False
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

    def _open(self, number: int) -> OpenHeight:
        return self.open_class(number, self._keys, self.committee, self.rules_class)

    # --- a life ---

    def restore(self, record: Any) -> None:
        """One durable record."""
        if isinstance(record, Decision):
            self.log.decisions.append(record)
            self.signed.advance()
            self.lock = self.valid = None
        elif isinstance(record, Valid):
            self.valid = record
            if isinstance(record, Locked):
                self.lock = record
        else:
            self.signed.restore(record)

    def checkpoint(self) -> Iterator[Any]:
        """All of it: the log is never compacted."""
        yield from self.log.decisions
        yield from self.signed.records()
        if self.lock is not None:
            yield self.lock
        if self.valid is not None and self.valid is not self.lock:
            yield self.valid

    def start(self) -> None:
        """What was recovered is decided, and is delivered again. This node goes on after what it signed last."""
        for decision in self.log.decisions:
            self.log.deliver(decision)
            self.committee.advance()
        self.open = self._open(len(self.log.decisions) + 1)
        self._resume()
        self.on_timer(BEAT)

    def _resume(self) -> None:
        last = self.signed.last
        if last is None:
            return
        own, rules, node = self.signed.proposal, self.open.rules, self.env.id
        if own is not None:
            value = batch_id(own.values)
            rules.on_said(SignedProposal(node, own.round, value, own.valid_round, own.signature, own.values))
        for (round, step), vote in self.signed.votes.items():
            rules.on_said(SignedVote(node, step, round, vote.value, vote.signature))
        locked, valid = ((kept.round, batch_id(kept.values)) if kept else None for kept in (self.lock, self.valid))
        rules.resume(*last, locked, valid)

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        if self._is_stalled:
            self.env.deliver(Dropped(tuple(values), STALLED))
        else:
            self.pending.submit(values)

    def read(self, tokens: Sequence[int]) -> None:
        """A write that a client was told of is locked at f + 1 correct nodes, until they have decided it."""
        self.env.deliver(ReadFailed(tuple(tokens), "a write is under way") if self.lock else ReadReady(tuple(tokens)))

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full, take nothing in and sign nothing."""
        self._is_stalled = why is not None

    def standing(self) -> Standing:
        """As ``Core.standing``; a height counts as a term. Nobody is elected: they take turns."""
        rules = self.open.rules
        leader = self.committee.proposer(rules.round)
        role = "proposer" if leader == self.env.id else "voter"
        return Standing(role, leader, self.open.number, self.log.index)

    # --- what comes ---

    def on_proposal(self, sender: int, m: Proposal) -> None:
        """Of the open height, or early."""
        if self._is_open(sender, m):
            self._judge_sender(sender, self.open.on_proposal(sender, m))

    def on_prevote(self, sender: int, m: Prevote) -> None:
        """From its node. Others pass it on as one of Votes."""
        if m.node != sender:
            self.env.blame(sender, "sent a vote as that of another node")
        elif self._is_open(sender, m):
            self._judge_sender(sender, self.open.on_vote(m))

    on_precommit = on_prevote

    def on_votes(self, sender: int, m: Votes) -> None:
        """Of any node; the sender answers for having checked them."""
        if len(m.votes) > VOTES_A_NODE_MAX * len(self.env.peers):
            self.env.blame(sender, "passed on more votes than two rounds have")
            return
        for vote in m.votes:
            if vote.height == self.open.number:
                why = self.open.on_vote(vote)
                if why is not None:
                    self._judge_sender(sender, why)
                    return

    def on_decision(self, sender: int, m: Decision) -> None:
        """Of any node, if it is proven."""
        if m.height != self.open.number or self._is_stalled:
            return
        if self.open.proves(m.proof, Step.PRECOMMIT, m.round, batch_id(m.values)):
            self._decide(m)
        else:
            self.env.blame(sender, "sent a decision without a proof")

    def on_here(self, sender: int, m: Here) -> None:
        """Help it, if it is behind."""
        if not self._is_stalled:
            self.log.on_here(sender, m)

    def _is_open(self, sender: int, m: Proposal | Prevote) -> bool:
        """Whether it is of the open height. If it is of the next one, it is kept."""
        if m.height == self.open.number + 1:
            self._early.setdefault(sender, {})[type(m)] = m
        return m.height == self.open.number

    def _judge_sender(self, sender: int, why: str | None) -> None:
        if why is not None:
            self.env.blame(sender, why)

    def on_timer(self, key: Key) -> None:
        """A step took too long; or a beat."""
        if key == BEAT:
            self.env.set_timer(BEAT, self.config.beat_s)
            self._beat()
        elif isinstance(key, str):
            round = self._timeouts.pop(TIMERS[key], None)
            if round is not None:
                self.open.rules.on_timeout(TIMERS[key], round)

    def on_done(self, key: Key, result: Any) -> None:
        """Signatures were checked."""
        judged = self.pending.done(key, result)
        if judged is not None:
            self.open.rules.on_judged(*judged)

    def _beat(self) -> None:
        """Say how far this node is; and, if it waits, what it has."""
        self.log.beat()
        self.pending.again()
        rules, others = self.open.rules, self.env.others
        self.env.send(others, Here(self.open.number))
        place, self._place = self._place, (self.open.number, rules.round, rules.step)
        if not rules.is_started or place != self._place:
            return
        own = self.signed.proposal
        if own is not None and own.round == rules.round:
            self.env.send(others, own)
        votes = tuple(self.open.votes(range(max(0, rules.round - 1), rules.round + 1)))
        if votes:
            self.env.send(others, Votes(votes))

    # --- what the rules ask for ---

    def settle(self) -> None:
        """Once a step: do all that the rules ask for."""
        while not self._is_stalled:
            self._wake()
            self._build()
            height, effects = self.open, self.open.rules.take()
            if not effects:
                return
            for effect in effects:
                if self.open is height:  # else it is decided, and what is left was for nobody but this node
                    self._actions[type(effect)](effect)

    def _wake(self) -> None:
        """Begin the height, if there is something to decide."""
        rules = self.open.rules
        if not rules.is_started and (self.pending.waiting or rules.heard.is_awaited):
            rules.start()

    def _build(self) -> None:
        """A new value, as soon as there is something to propose; what was signed for this round before, if anything."""
        if self._wanted is None:
            return
        own = self.signed.proposal
        values = own.values if own is not None and own.round == self._wanted else self.pending.next_batch()
        if values:
            round, self._wanted = self._wanted, None
            self._built = values
            self.open.rules.on_built(round, batch_id(values))

    def _entered(self, effect: EnterRound) -> None:
        self._wanted = None
        self.env.deliver(Leads(self.open.number, self.committee.proposer(effect.round)))

    def _want(self, effect: GetValue) -> None:
        self._wanted = effect.round

    def _judge(self, effect: Judge) -> None:
        verdict = self.pending.judge(effect.value, self.open.values_of(effect.value))
        if verdict is not None:
            self.open.rules.on_judged(effect.value, verdict)

    def _propose(self, effect: SendProposal) -> None:
        """The valid value with its proof, or the new one."""
        values, proof = self._built, None
        if self.valid is not None and effect.valid_round == self.valid.round:
            values, proof = self.valid.values, self.valid.proof
        proposal = self.signed.propose(effect.round, values, effect.valid_round, proof)
        if proposal is not None:
            self.env.broadcast(proposal)

    def _vote(self, effect: SendVote) -> None:
        vote = self.signed.vote(effect.step, effect.round, effect.value)
        if vote is not None:
            self.env.broadcast(vote)

    def _locked(self, effect: Lock) -> None:
        """Before the precommit that stands for it, in the same Turn."""
        proof = self.open.proof_of(Step.PREVOTE, effect.round, effect.value)
        self.lock = self.valid = Locked(self.open.number, effect.round, self.open.values_of(effect.value), proof)
        self.env.persist(self.lock)

    def _keep(self, effect: KeepValid) -> None:
        if self.valid is None or self.valid.round != effect.round:
            proof = self.open.proof_of(Step.PREVOTE, effect.round, effect.value)
            self.valid = Valid(self.open.number, effect.round, self.open.values_of(effect.value), proof)
            self.env.persist(self.valid)

    def _time(self, effect: SetTimeout) -> None:
        self._timeouts[effect.step] = effect.round
        self.env.set_timer(effect.step.name.lower(), self.config.timeout_s(effect.step, effect.round))

    def _decided(self, effect: Decide) -> None:
        proof = self.open.proof_of(Step.PRECOMMIT, effect.round, effect.value)
        self._decide(Decision(self.open.number, effect.round, self.open.values_of(effect.value), proof))

    def _blame(self, effect: Equivocation) -> None:
        what = "proposals" if effect.first.step is Step.PROPOSE else "votes"
        self.env.blame(effect.first.node, f"signed two {what} for one round", self.open.evidence(effect))

    def _decide(self, decision: Decision) -> None:
        """On to the next height, with what others said of it already."""
        self.log.add(decision)
        self.pending.decided(decision.values)
        self.signed.advance()
        self.lock = self.valid = self._wanted = None
        for step in self._timeouts:
            self.env.cancel_timer(step.name.lower())
        self._timeouts.clear()
        self.committee.advance()
        self.open = self._open(decision.height + 1)
        early, self._early = self._early, {}
        for sender, messages in early.items():
            for m in messages.values():
                if isinstance(m, Proposal):
                    self.on_proposal(sender, m)
                else:
                    self.on_prevote(sender, m)
