"""Tendermint: a replicated log in heights and rounds, where less than a third of the power lies.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv 1807.04938). ``height.py`` is its
algorithm 1, rule by rule, for one height.

How it works. A height decides one block in CometBFT's format. ``Height`` is fed with what comes and says what is to be
done; ``OpenHeight`` turns messages into what it is fed with. ``Committee`` knows whose turn it is to propose; ``Chain``
what the next block must say; ``SignState`` signs, and never two things that contradict each other; ``DecidedLog`` has
the heights before. What transactions are, a ``ChainApp`` says: for the service above it is ``RequestsApp``. Evidence of
double votes that are seen, and what somebody shows to a node, goes into a block by ``EvidencePool``; until it is there,
``Accusing`` keeps it and tells the others.

Each part is an object that gets what it needs when it is made. Three of them hold the state of the open height that
many parts read: ``CurrentHeight``, ``SignState`` and ``LockState``. What comes goes to ``Hearing``; what the rules ask
for is done by ``Proposing``, ``Judging``, ``Casting``, ``StepTimeouts`` and ``Deciding``; ``Applying`` has what is
decided while the app works on it. ``Tendermint`` makes the parts and passes on what comes; it has no rules of its own
but the order of what a step does at its end, and that a height is opened when the app has the one before.

A height begins at a node when the app has the block before, and there is something to decide: a transaction waits,
f + 1 nodes speak of the height, or its proposer proposes. So no rounds go by while nobody asks for anything.

Messages may be lost. At each beat a node says how far it has decided, and is sent what it lacks, with commits. If
it has come no further within its height since the last beat, it passes on all votes that it has of its round and of the
one before, its own and others'; so what one correct node has received, all receive, as the paper assumes. A proposal
for a valid value carries the prevotes that make it valid. What comes for the next height is kept, one of each kind for
each node, since others may have decided a moment earlier.

Durable before it leaves: every proposal and vote that this node signs; the lock before its precommit; the valid value;
decisions; evidence that waits; snapshots (``ChainCheckpoints``), behind which the log is dropped. A node that restarts
goes on from its newest snapshot: its app is told of the blocks after it again, and the node is in the step of what it
signed last, with its lock. One that is behind what others remember fetches a snapshot (``ChainTransfer``).

Deviations. (1) The second vote of a node for one round and step is evidence and does not count; the paper counts all.
Commits show what it would have been needed for. (2) Of rounds far ahead each node's latest is kept alone
(``heard.py``). (3) The height waits for transactions, and a proposer for its first one, while the others time out.
(4) A vote for a block whose time is not later than the block's counts as one for nothing (``commits.py``).

Limits. Requests wait at the nodes that clients sent them to, which should be all; what is brought to one node alone
(``Transactions``) it tells the others of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

from quorate.kernel import Core, Env, Key, Standing
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Dropped, ReadFailed, ReadReady
from quorate.protocols.tendermint.accusing import Accusing
from quorate.protocols.tendermint.app_messages import Transactions, TxChecked
from quorate.protocols.tendermint.applying import PAUSE, Applying
from quorate.protocols.tendermint.blockchain import EVIDENCE_PARAMS, Chain, chain_id_of
from quorate.protocols.tendermint.casting import Casting
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Finalized, Prepared, Processed
from quorate.protocols.tendermint.checkpoints import SNAPSHOT, ChainCheckpoints
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.current_height import STALLED, CurrentHeight
from quorate.protocols.tendermint.deciding import Deciding
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
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.hearing import Hearing
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.judging import Judging
from quorate.protocols.tendermint.lock_state import LockState
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import (
    MESSAGES,
    RECORDS,
    Accusation,
    Checkpoint,
    Decision,
    FetchPiece,
    Here,
    ImagePiece,
    Offer,
    PendingEvidence,
    Prevote,
    Proposal,
    Stable,
    Taken,
    TendermintConfig,
    Valid,
    Votes,
)
from quorate.protocols.tendermint.open_height import OpenHeight
from quorate.protocols.tendermint.proposing import Proposing
from quorate.protocols.tendermint.repeating import Repeating
from quorate.protocols.tendermint.requests_app import RequestsApp
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.step_timeouts import StepTimeouts
from quorate.protocols.tendermint.transfer import INSTALL, SERVE, ChainTransfer

BEAT: Final = "beat"


class Tendermint(Core):
    """One node. Public attributes may be read by checkers and status pages, and by nothing else."""

    messages: ClassVar[tuple[type, ...]] = (*MESSAGES, Transactions)
    records: ClassVar[tuple[type, ...]] = RECORDS
    rules_class: ClassVar[type[Height]] = Height
    signing_class: ClassVar[type[SignState]] = SignState
    open_class: ClassVar[type[OpenHeight]] = OpenHeight
    committee_class: ClassVar[type[Committee]] = Committee
    evidence_class: ClassVar[type[EvidencePool]] = EvidencePool
    accusing_class: ClassVar[type[Accusing]] = Accusing
    app_class: ClassVar[type[ChainApp]] = RequestsApp
    checkpoints_class: ClassVar[type[ChainCheckpoints]] = ChainCheckpoints
    transfer_class: ClassVar[type[ChainTransfer]] = ChainTransfer
    judging_class: ClassVar[type[Judging]] = Judging
    casting_class: ClassVar[type[Casting]] = Casting
    deciding_class: ClassVar[type[Deciding]] = Deciding
    repeating_class: ClassVar[type[Repeating]] = Repeating

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        """Raises ValueError for keys of another node, and where the powers do not fit the nodes."""
        super().__init__(env)
        if keys.node != env.id:
            raise ValueError(f"node {env.id} was given the keys of node {keys.node}")
        self.config = config
        self.keyring = keys.keyring
        verify = keys.keyring.verify_canonical
        # The chain, and what is kept of it.
        self.committee = self.committee_class(env.peers, config.powers, keys.keyring)
        self.chain = chain = Chain(chain_id_of(keys.cluster), self.committee, config.genesis_s, verify)
        self.evidence = evidence = self.evidence_class(chain.id, EVIDENCE_PARAMS, verify)
        self.app = app = self.app_class(env, config)
        self.log = log = DecidedLog(env, config.batch_bytes_max)
        self.checkpoints = self.checkpoints_class(env, config, keys, chain, log)
        self.applying = Applying(env, app, chain, evidence, self.checkpoints)
        self.transfer = self.transfer_class(env, self.checkpoints)
        # The open height, which parts share.
        self.signed = signed = self.signing_class(env, keys, chain.id)
        self.locks = locks = LockState(env)
        self.current = current = CurrentHeight(keys, chain, signed, locks, self.open_class, self.rules_class)
        # Each part knows those before it.
        self.hearing = Hearing(env, current, self.applying, evidence)
        self.accusing = self.accusing_class(env, current, evidence)
        self.proposing = Proposing(env, current, chain, evidence, app, signed, locks)
        self.judging = self.judging_class(current, chain, evidence, app)
        self.casting = self.casting_class(env, current, chain, signed, locks)
        self.timeouts = StepTimeouts(env, config, current)
        self.deciding = self.deciding_class(
            *(env, current, chain, log),
            *(self.checkpoints, self.applying, self.proposing, self.timeouts),
        )
        self.repeating = self.repeating_class(env, current, signed, log, app, self.transfer, self.checkpoints)
        self._effects: dict[type, Callable[[Any], None]] = {
            EnterRound: self.proposing.on_enter_round,
            GetValue: self.proposing.on_get_value,
            SendProposal: self.proposing.on_send_proposal,
            Judge: self.judging.on_judge,
            SendVote: self.casting.on_send_vote,
            Lock: self.casting.on_lock,
            KeepValid: self.casting.on_keep_valid,
            SetTimeout: self.timeouts.on_set_timeout,
            Decide: self.deciding.on_decide,
            Equivocation: self.hearing.on_equivocation,
        }
        self._answers: dict[type, Callable[[Any], None]] = {
            Prepared: self.proposing.prepared,
            Processed: self.judging.processed,
            Finalized: self.applying.finalized,
            Committed: self._committed,
        }

    # --- a life ---

    def restore(self, record: Any) -> None:
        """One durable record, to the state that it is of."""
        if isinstance(record, Decision):
            self.log.recover(record)
            self.current.leave(record.height)
        elif isinstance(record, Taken | Stable):
            self.checkpoints.restore(record)
            if isinstance(record, Taken) and record.image.height >= self.current.next:
                self.current.leave(record.image.height)
        elif isinstance(record, Valid):
            self.locks.restore(record)
        elif isinstance(record, PendingEvidence):
            self.accusing.restore(record)
        else:
            self.signed.restore(record)

    def checkpoint(self) -> Iterator[Any]:
        """The snapshots, the log since the older one, what this node said since, and evidence that waits."""
        yield from self.checkpoints.records()
        yield from self.log.decisions
        yield from self.signed.records()
        yield from self.locks.records()
        yield from self.accusing.records()

    def start(self) -> None:
        """What was recovered is decided; the app is told of it again. This node goes on after what it signed last."""
        image = self.checkpoints.newest()
        if image is not None:
            self.applying.stand_on(image)
            if not self.log.decisions:
                self.log.reset(image.height)
        self.applying.recover(self.log.after(image.height if image is not None else 0))
        self._take_answers()
        self._go_on()
        self.applying.recovered()
        self.on_timer(BEAT)

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full, take nothing in and sign nothing."""
        self.current.is_stalled = why is not None

    def standing(self) -> Standing:
        """As ``Core.standing``; a height counts as a term. Nobody is elected: they take turns."""
        height = self.current.open
        leader = self.committee.proposer(height.rules.round)
        role = "proposer" if leader == self.env.id else "voter" if self.committee.has(self.env.id) else "learner"
        return Standing(role, leader, height.number, self.app.index, self.transfer.note())

    # --- clients ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        if self.current.is_stalled:
            self.env.deliver(Dropped(tuple(values), STALLED))
        else:
            self.app.submit(values)

    def read(self, tokens: Sequence[int]) -> None:
        """A write that a client was told of is locked at f + 1 correct nodes, until they have decided it."""
        is_behind = self.locks.lock is not None or self.applying.is_busy
        self.env.deliver(ReadFailed(tuple(tokens), "a write is under way") if is_behind else ReadReady(tuple(tokens)))

    # --- what comes ---

    def on_proposal(self, sender: int, m: Proposal) -> None:
        """Of the open height, or early."""
        self.hearing.on_proposal(sender, m)

    def on_prevote(self, sender: int, m: Prevote) -> None:
        """From its node."""
        self.hearing.on_vote(sender, m)

    on_precommit = on_prevote

    def on_votes(self, sender: int, m: Votes) -> None:
        """Of any nodes, passed on."""
        self.hearing.on_votes(sender, m)

    def on_decision(self, sender: int, m: Decision) -> None:
        """Of any node, with its proof."""
        if self.deciding.on_decision(sender, m):
            self._take_answers()

    def on_here(self, sender: int, m: Here) -> None:
        """Help it, if it is behind."""
        if not self.current.is_stalled:
            self.log.on_here(sender, m)
            if m.height <= self.log.base:
                self.transfer.offer(sender)

    def on_transactions(self, sender: int, m: Transactions) -> None:
        """What somebody brought to another node, or to this one alone."""
        if not self.current.is_stalled:
            self.app.hear(sender, m.txs)
        elif sender == self.env.id:
            for tx in m.txs:
                self.env.deliver(TxChecked(tx, None, STALLED))

    def on_accusation(self, sender: int, m: Accusation) -> None:
        """Evidence that waits at another node, or that somebody shows to this one."""
        self.accusing.on_accusation(sender, m)

    def on_checkpoint(self, sender: int, m: Checkpoint) -> None:
        """Of a validator."""
        if not self.current.is_stalled:
            self.checkpoints.on_checkpoint(sender, m)

    def on_offer(self, sender: int, m: Offer) -> None:
        """A snapshot, for a node that is behind."""
        if not self.current.is_stalled and not self.applying.is_busy:
            self.transfer.on_offer(sender, m, self.current.next)

    def on_fetch_piece(self, sender: int, m: FetchPiece) -> None:
        """Of a snapshot that is here."""
        self.transfer.on_fetch_piece(sender, m)

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        """Of the snapshot that this node fetches."""
        self.transfer.on_image_piece(sender, m)

    def on_timer(self, key: Key) -> None:
        """A step took too long; or a beat; or a snapshot was taken of the state as it was."""
        if key == BEAT:
            self.env.set_timer(BEAT, self.config.beat_s)
            self.repeating.beat()
            self.accusing.beat()
        elif key == PAUSE:
            self.applying.resume()
            self._take_answers()
            self._go_on()
        elif isinstance(key, str):
            self.timeouts.ran_out(key)

    def on_done(self, key: Key, result: Any) -> None:
        """A snapshot was taken, a piece of one was read or stored, or a job of the app ended."""
        if key == SNAPSHOT:
            self.checkpoints.taken(result)
        elif key == INSTALL:
            if self.deciding.install(self.transfer.written(result)):
                self.accusing.look()
                self._go_on()
        elif isinstance(key, tuple) and key[0] == SERVE:
            self.transfer.read(key[1], result)
        else:
            self.app.done(key, result)

    # --- the end of a step ---

    def settle(self) -> None:
        """Once a step: do all that the rules ask for."""
        while not self.current.is_stalled:
            self._take_answers()
            if self.applying.is_busy:
                return
            self.proposing.wake()
            if self.proposing.build():
                self._take_answers()
            height = self.current.open
            effects = height.rules.take()
            if not effects:
                return
            for effect in effects:
                if not self.applying.is_busy and self.current.open is height:  # else the rest was for nobody
                    self._effects[type(effect)](effect)

    def _take_answers(self) -> None:
        while answers := self.app.take():
            for answer in answers:
                self._answers[type(answer)](answer)

    def _committed(self, answer: Committed) -> None:
        self.applying.committed(answer)
        self.accusing.look()
        self._go_on()

    def _go_on(self) -> None:
        """On to the next height, once all before are applied, with what others said of it already."""
        if not self.applying.is_busy and self.current.open.number != self.current.next:
            self.current.open_next()
            self.hearing.take_early()
