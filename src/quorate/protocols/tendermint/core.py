"""Tendermint: a replicated log in heights and rounds, where less than a third of the power lies.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv 1807.04938). ``height.py`` is its
algorithm 1, rule by rule, for one height.

How it works. A height decides one block in CometBFT's format. ``Height`` is fed with what comes and says what is to be
done; ``OpenHeight`` turns messages into what it is fed with; ``Acting`` makes messages, records and timers of its
effects. ``ChainLife`` has what a node keeps, and comes back with. Here is what comes from outside. Whose turn it is to
propose, ``Committee`` knows; ``Chain`` knows what the next block must say; ``SignState`` signs, and never two things
that contradict each other; ``DecidedLog`` has the heights before. What transactions are, a ``ChainApp`` says: for the
service above it is ``RequestsApp``. Double votes that are seen go into a block by ``EvidencePool``. None of these parts
knows the core.

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

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from quorate.kernel import Key, Standing
from quorate.parts.log.replicated import Dropped, ReadFailed, ReadReady
from quorate.protocols.tendermint.acting import Acting
from quorate.protocols.tendermint.applying import PAUSE
from quorate.protocols.tendermint.chain_app import Committed
from quorate.protocols.tendermint.checkpoints import SNAPSHOT
from quorate.protocols.tendermint.commits import check_decision
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import (
    MESSAGES,
    RECORDS,
    VOTES_A_NODE_MAX,
    Checkpoint,
    Decision,
    FetchPiece,
    Here,
    ImagePiece,
    Offer,
    Prevote,
    Proposal,
    Votes,
)
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block
from quorate.protocols.tendermint.transfer import INSTALL, SERVE

BEAT: Final = "beat"
TIMERS: Final = {"propose": Step.PROPOSE, "prevote": Step.PREVOTE, "precommit": Step.PRECOMMIT}
STALLED: Final = "the disk takes nothing"


class Tendermint(Acting):
    """One node."""

    messages: ClassVar[tuple[type, ...]] = MESSAGES
    records: ClassVar[tuple[type, ...]] = RECORDS

    # --- a life ---

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

    def _applied(self, answer: Committed) -> None:
        super()._applied(answer)
        self._go_on()
