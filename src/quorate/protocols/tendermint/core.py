"""Tendermint: a replicated log in heights and rounds, where less than a third of the power lies.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv 1807.04938). ``height.py`` is its
algorithm 1, rule by rule, for one height.

How it works. A height decides one block in CometBFT's format. ``Height`` is fed with what comes and says what is to be
done; ``OpenHeight`` turns messages into what it is fed with; here its effects become messages, records and timers.
Whose turn it is to propose, ``Committee`` knows; ``Chain`` knows what the next block must say; ``SignState`` signs,
and never two things that contradict each other; ``DecidedLog`` has the heights before. What transactions are, a
``ChainApp`` says: for the service above it is ``RequestsApp``. Double votes that are seen go into a block by
``EvidencePool``. None of these knows the core.

A height begins at a node when the app has the block before, and there is something to decide: a transaction waits,
f + 1 nodes speak of the height, or its proposer proposes. So no rounds go by while nobody asks for anything.

Messages may be lost. At each beat a node says how far it has decided, and is sent what it lacks, with commits. If
it has come no further within its height since the last beat, it passes on all votes that it has of its round and of the
one before, its own and others'; so what one correct node has received, all receive, as the paper assumes. A proposal
for a valid value carries the prevotes that make it valid. What comes for the next height is kept, one of each kind for
each node, since others may have decided a moment earlier.

Durable before it leaves: every proposal and vote that this node signs; the lock before its precommit; the valid value;
decisions; snapshots (``ChainCheckpoints``), behind which the log is dropped. A node that restarts goes on from its
newest snapshot: its app is told of the blocks after it again, and the node is in the step of what it signed last, with
its lock. One that is behind what others remember fetches a snapshot (``ChainTransfer``).

Deviations. (1) The second vote of a node for one round and step is evidence and does not count; the paper counts all.
Commits show what it would have been needed for. (2) Of rounds far ahead each node's latest is kept alone
(``heard.py``). (3) The height waits for transactions, and a proposer for its first one, while the others time out.
(4) A vote for a block whose time is not later than the block's counts as one for nothing (``commits.py``).

Limits. Requests wait at the nodes that clients sent them to, which should be all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

from quorate.kernel import Core, Env, Key, Standing
from quorate.ledger.comet.votes import Vote as CometVote
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Dropped, Leads, ReadFailed, ReadReady
from quorate.protocols.tendermint.applying import PAUSE, Applying
from quorate.protocols.tendermint.blockchain import EVIDENCE_PARAMS, Chain, chain_id_of
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Draft, Finalized, Prepared, Processed
from quorate.protocols.tendermint.checkpoints import SNAPSHOT, ChainCheckpoints
from quorate.protocols.tendermint.commits import check_decision
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
    SignedVote,
    Step,
)
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import (
    MESSAGES,
    RECORDS,
    VOTES_A_NODE_MAX,
    Checkpoint,
    Decision,
    FetchPiece,
    Here,
    ImagePiece,
    Locked,
    Offer,
    Prevote,
    Proposal,
    Stable,
    Taken,
    TendermintConfig,
    Valid,
    Votes,
)
from quorate.protocols.tendermint.named_blocks import BLOCK_BYTES_MAX, NamedBlock, decode_block, name_block
from quorate.protocols.tendermint.open_height import OpenHeight, said_of
from quorate.protocols.tendermint.requests_app import RequestsApp
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.transfer import INSTALL, SERVE, ChainTransfer

BEAT: Final = "beat"
TIMERS: Final = {"propose": Step.PROPOSE, "prevote": Step.PREVOTE, "precommit": Step.PRECOMMIT}
STALLED: Final = "the disk takes nothing"
BESIDE_TXS_BYTES: Final = 1 << 20
"""Of a block: header, commit and evidence take less."""


class Tendermint(Core):
    """One node. Public attributes may be read by checkers and status pages, and by nothing else."""

    messages = MESSAGES
    records = RECORDS
    rules_class: ClassVar[type[Height]] = Height
    signing_class: ClassVar[type[SignState]] = SignState
    open_class: ClassVar[type[OpenHeight]] = OpenHeight
    committee_class: ClassVar[type[Committee]] = Committee
    app_class: ClassVar[type[ChainApp]] = RequestsApp
    checkpoints_class: ClassVar[type[ChainCheckpoints]] = ChainCheckpoints
    transfer_class: ClassVar[type[ChainTransfer]] = ChainTransfer

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        """Raises ValueError for keys of another node, and where the powers do not fit the nodes."""
        super().__init__(env)
        if keys.node != env.id:
            raise ValueError(f"node {env.id} was given the keys of node {keys.node}")
        self.config = config
        self._keys = keys
        self.keyring = keys.keyring
        verify = keys.keyring.verify_canonical
        self.committee = self.committee_class(env.peers, config.powers, keys.keyring)
        self.chain = Chain(chain_id_of(keys.cluster), self.committee, config.genesis_s, verify)
        self.evidence = EvidencePool(self.chain.id, EVIDENCE_PARAMS, verify)
        self.app = self.app_class(env, config)
        # Durable, with what each of them says is.
        self.log = DecidedLog(env, config.batch_bytes_max)
        self.checkpoints = self.checkpoints_class(env, config, keys, self.chain, self.log)
        self.signed = self.signing_class(env, keys, self.chain.id)
        self.lock: Locked | None = None
        self.valid: Valid | None = None
        # Volatile.
        self.applying = Applying(env, self.app, self.chain, self.evidence, self.checkpoints)
        self.transfer = self.transfer_class(env, self.checkpoints)
        self.open = self._open(1)
        self._early: dict[int, dict[type, Proposal | Prevote]] = {}  # by node, one of each kind for the next height
        self._built: NamedBlock | None = None  # the new value that this node made last
        self._wanted: int | None = None  # the round for which a new value is to be made
        self._draft: Draft | None = None  # what the app was asked to fill for it
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
        self._answers: dict[type, Callable[[Any], None]] = {
            Prepared: self._prepared,
            Processed: self._processed,
            Finalized: self.applying.finalized,
            Committed: self._applied,
        }

    def _open(self, number: int) -> OpenHeight:
        return self.open_class(number, self._keys, self.chain, self.rules_class)

    # --- a life ---

    def restore(self, record: Any) -> None:
        """One durable record."""
        if isinstance(record, Decision):
            self.log.recover(record)
            self._leave(record.height)
        elif isinstance(record, Taken | Stable):
            self.checkpoints.restore(record)
            if isinstance(record, Taken) and record.image.height >= self.signed.height:
                self._leave(record.image.height)
        elif isinstance(record, Valid):
            self.valid = record
            if isinstance(record, Locked):
                self.lock = record
        else:
            self.signed.restore(record)

    def _leave(self, height: int) -> None:
        """It is decided: nothing that was signed for it matters any more."""
        self.signed.advance_to(height + 1)
        self.lock = self.valid = None

    def checkpoint(self) -> Iterator[Any]:
        """The snapshots, and the log since the older one."""
        yield from self.checkpoints.records()
        yield from self.log.decisions
        yield from self.signed.records()
        if self.lock is not None:
            yield self.lock
        if self.valid is not None and self.valid is not self.lock:
            yield self.valid

    def start(self) -> None:
        """What was recovered is decided; the app is told of it again. This node goes on after what it signed last."""
        image = self.checkpoints.newest()
        if image is not None:
            self.applying.stand_on(image)
            if not self.log.decisions:
                self.log.reset(image.height)
        self.applying.recover(self.log.after(image.height if image is not None else 0))
        self._take_answers()
        if self.signed.height == 1:
            self._resume()
        self._go_on()
        self.applying.recovered()
        self.on_timer(BEAT)

    def _go_on(self) -> None:
        """On to the next height, once all before are applied, with what others said of it already."""
        if self.applying.is_busy or self.open.number == self.signed.height:
            return
        self.open = self._open(self.signed.height)
        self._resume()
        early, self._early = self._early, {}
        for sender, messages in early.items():
            for m in messages.values():
                if isinstance(m, Proposal):
                    self.on_proposal(sender, m)
                else:
                    self.on_prevote(sender, m)

    def _resume(self) -> None:
        last = self.signed.last
        if last is None:
            return
        own, rules, node = self.signed.proposal, self.open.rules, self.env.id
        if own is not None:
            rules.on_said(said_of(node, own, decode_block(own.block)))
        for (round, step), vote in self.signed.votes.items():
            rules.on_said(SignedVote(node, step, round, vote.value, vote.signature, vote.time_ns))
        locked, valid = (
            (kept.round, decode_block(kept.block).name) if kept else None for kept in (self.lock, self.valid)
        )
        rules.resume(*last, locked, valid)

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        if self._is_stalled:
            self.env.deliver(Dropped(tuple(values), STALLED))
        else:
            self.app.submit(values)

    def read(self, tokens: Sequence[int]) -> None:
        """A write that a client was told of is locked at f + 1 correct nodes, until they have decided it."""
        is_behind = self.lock is not None or self.applying.is_busy
        self.env.deliver(ReadFailed(tuple(tokens), "a write is under way") if is_behind else ReadReady(tuple(tokens)))

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full, take nothing in and sign nothing."""
        self._is_stalled = why is not None

    def standing(self) -> Standing:
        """As ``Core.standing``; a height counts as a term. Nobody is elected: they take turns."""
        rules = self.open.rules
        leader = self.committee.proposer(rules.round)
        role = "proposer" if leader == self.env.id else "voter" if self.committee.has(self.env.id) else "learner"
        return Standing(role, leader, self.open.number, self.app.index, self.transfer.note())

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
            if vote.height == self.open.number and not self.applying.is_busy:
                why = self.open.on_vote(vote)
                if why is not None:
                    self._judge_sender(sender, why)
                    return

    def on_decision(self, sender: int, m: Decision) -> None:
        """Of any node, if it is proven."""
        if m.height != self.open.number or self.applying.is_busy or self._is_stalled:
            return
        block = self._proven(m)
        if block is not None:
            self._decide(m, block)
        else:
            self.env.blame(sender, "sent a decision without a proof")

    def _proven(self, m: Decision) -> NamedBlock | None:
        """The next block, if this decides it."""
        try:
            block = decode_block(m.block)
            check_decision(self.chain, block, m.commit)
        except ValueError:
            return None
        return block if self.chain.refusal(block.block) is None else None

    def on_here(self, sender: int, m: Here) -> None:
        """Help it, if it is behind."""
        if not self._is_stalled:
            self.log.on_here(sender, m)
            if m.height <= self.log.base:
                self.transfer.offer(sender)

    def on_checkpoint(self, sender: int, m: Checkpoint) -> None:
        """Of a validator."""
        if not self._is_stalled:
            self.checkpoints.on_checkpoint(sender, m)

    def on_offer(self, sender: int, m: Offer) -> None:
        """A snapshot, for a node that is behind."""
        if not self._is_stalled and not self.applying.is_busy:
            self.transfer.on_offer(sender, m, self.signed.height)

    def on_fetch_piece(self, sender: int, m: FetchPiece) -> None:
        """Of a snapshot that is here."""
        self.transfer.on_fetch_piece(sender, m)

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        """Of the snapshot that this node fetches."""
        self.transfer.on_image_piece(sender, m)

    def _is_open(self, sender: int, m: Proposal | Prevote) -> bool:
        """Whether it is of the open height. If it is of the next one, it is kept."""
        is_busy = self.applying.is_busy
        if m.height == self.signed.height + (not is_busy):
            self._early.setdefault(sender, {})[type(m)] = m
        return m.height == self.open.number and not is_busy

    def _judge_sender(self, sender: int, why: str | None) -> None:
        if why is not None:
            self.env.blame(sender, why)

    def on_timer(self, key: Key) -> None:
        """A step took too long; or a beat."""
        if key == BEAT:
            self.env.set_timer(BEAT, self.config.beat_s)
            self._beat()
        elif key == PAUSE:
            self.applying.resume()
            self._take_answers()
            self._go_on()
        elif isinstance(key, str):
            round = self._timeouts.pop(TIMERS[key], None)
            if round is not None:
                self.open.rules.on_timeout(TIMERS[key], round)

    def on_done(self, key: Key, result: Any) -> None:
        """A snapshot was taken, a piece of one was read or stored, or a job of the app ended."""
        if key == SNAPSHOT:
            self.checkpoints.taken(result)
        elif key == INSTALL:
            self._install(self.transfer.written(result))
        elif isinstance(key, tuple) and key[0] == SERVE:
            self.transfer.read(key[1], result)
        else:
            self.app.done(key, result)

    def _install(self, offer: Offer | None) -> None:
        """The state is that of a snapshot that was fetched."""
        if offer is None or offer.image.height < self.signed.height or self.applying.is_busy or self._is_stalled:
            return
        self.checkpoints.install(offer)
        self.applying.stand_on(offer.image)
        self._leave(offer.image.height)
        self._end_timeouts()
        self._go_on()

    def _beat(self) -> None:
        """Say how far this node is; and, if it waits, what it has."""
        self.log.beat()
        self.app.beat()
        self.transfer.beat(self.signed.height)
        self.checkpoints.resend()
        rules, others = self.open.rules, self.env.others
        self.env.send(others, Here(self.signed.height))
        place, self._place = self._place, (self.open.number, rules.round, rules.step)
        if not rules.is_started or place != self._place:
            return
        own = self.signed.proposal
        if own is not None and own.round == rules.round:
            self.env.send(others, own)
        votes = tuple(self.open.votes(range(max(0, rules.round - 1), rules.round + 1)))
        if votes:
            self.env.send(others, Votes(votes))

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
        self._go_on()

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
