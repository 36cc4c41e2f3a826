"""Paxos: one value, chosen once and for ever, for crash faults, with 2f + 1 acceptors for f of them.

Source: Lamport, "Paxos made simple" (2001), whose sections stand beside the rules; the roles are in ``roles.py``.

How it works. A proposer takes a new ballot and asks the acceptors for a promise (phase 1); when a quorum has promised,
it proposes the value of the highest ballot that any of them accepted, or its own where there is none (phase 2). A value
is chosen when a quorum has accepted one ballot; acceptors tell all learners, and a learner delivers it. A node plays
all three roles, or those that its config names.

Durable: ``Begun`` (the proposer's ballots), ``Promised`` and ``Voted`` (the acceptor's memory). A learner records
nothing: what is chosen is durable at a quorum of acceptors, and after a crash it asks them, and delivers it again.

Beyond the paper: refusals name the ballot that is in the way, and a refused proposer backs off for a random time; a
learner that missed something asks; who knows the chosen value answers everything with it. No rule is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from quorate.kernel import Core, Env, Key, Standing
from quorate.parts.ballot import Ballot
from quorate.parts.log.replicated import Dropped
from quorate.protocols.paxos.messages import (
    MESSAGES,
    RECORDS,
    Accept,
    Accepted,
    Ask,
    Begun,
    Decided,
    Nack,
    PaxosConfig,
    Prepare,
    Promise,
    Promised,
    Voted,
)
from quorate.protocols.paxos.roles import RETRY, Learner, Proposer, SingleAcceptor, send_all

ASK = "ask"


class Paxos(Core):
    """One node of one decision. Delivers the chosen value, as bytes, once in each life."""

    messages = MESSAGES
    records = RECORDS
    proposer_class: ClassVar[type[Proposer]] = Proposer
    acceptor_class: ClassVar[type[SingleAcceptor]] = SingleAcceptor
    learner_class: ClassVar[type[Learner]] = Learner

    def __init__(self, env: Env, config: PaxosConfig = PaxosConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__(env)
        self.config = config
        self.chosen: bytes | None = None
        self._stalled = False
        self._proposers = config.players(config.proposers, env.peers)
        self._acceptors = config.players(config.acceptors, env.peers)
        self._learners = config.players(config.learners, env.peers)
        self.quorums = quorums = config.quorum.build(self._acceptors)
        self.proposer = (
            self.proposer_class(env, self._acceptors, quorums.phase1, config) if env.id in self._proposers else None
        )
        self.acceptor = self.acceptor_class(env, self._learners) if env.id in self._acceptors else None
        self.learner = self.learner_class(env, quorums.phase2) if env.id in self._learners else None

    def standing(self) -> Standing:
        """As ``Core.standing``: the roles it plays, its ballot's round, and commit 1 once it knows the value."""
        roles = {"proposer": self.proposer, "acceptor": self.acceptor, "learner": self.learner}
        term = self.proposer.ballot[0] if self.proposer else 0
        return Standing(
            " ".join(role for role, part in roles.items() if part), None, term, int(self.chosen is not None)
        )

    # --- recovery ---

    def restore(self, record: Begun | Promised | Voted) -> None:
        """One durable record, to the role that wrote it. Raises ValueError where the config took that role away."""
        role = self.proposer if isinstance(record, Begun) else self.acceptor
        if role is None:
            raise ValueError(f"the journal holds a {type(record).__name__}, a record of a role this node has no more")
        role.restore(record)  # type: ignore[arg-type]

    def checkpoint(self) -> Iterator[Begun | Promised | Voted]:
        """At most three records."""
        if self.proposer:
            yield from self.proposer.checkpoint()
        if self.acceptor:
            yield from self.acceptor.checkpoint()

    def start(self) -> None:
        """A learner begins to ask, in case the decision has been made."""
        if self.learner and self.config.ask_s is not None:
            self.env.set_timer(ASK, self.config.ask_s)

    # --- from above, and time ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Propose the first value. One is enough: what else is submitted is dropped, and will not be decided."""
        free = 0
        is_idle = self.proposer is not None and self.proposer.wanted is None and self.chosen is None
        if is_idle and not self._stalled and self.proposer and values:
            self.proposer.propose(values[0])
            free = 1
        if values[free:]:
            self.env.deliver(Dropped(tuple(values[free:]), "this node does not propose, or has proposed already"))

    def on_timer(self, key: Key) -> None:
        """Time to try again, or to ask."""
        if self.chosen is not None:
            return
        if key == RETRY and self.proposer:
            if self._stalled:
                self.env.set_timer(RETRY, self.config.retry_s)
            else:
                self.proposer.retry()
        elif key == ASK and self.config.ask_s is not None:
            self.env.set_timer(ASK, self.config.ask_s)
            send_all(self.env, tuple(sorted({*self._acceptors, *self._learners})), Ask())

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full begin, promise and accept nothing; silence is always safe."""
        self._stalled = why is not None

    # --- acceptor ---

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """Phase 1b, or the end of it all."""
        if self._may_answer(sender, m.ballot) and self.acceptor:
            self.acceptor.on_prepare(sender, m)

    def on_accept(self, sender: int, m: Accept) -> None:
        """Phase 2b, or the end of it all."""
        if self._may_answer(sender, m.ballot) and self.acceptor:
            self.acceptor.on_accept(sender, m)

    def _may_answer(self, sender: int, ballot: Ballot) -> bool:
        if self.acceptor is None or sender not in self._proposers:
            self.env.blame(sender, "takes this node for an acceptor, or itself for a proposer")
        elif ballot[1] != sender or ballot[0] == 0:
            self.env.blame(sender, "uses a ballot that is not its own")
        elif self.chosen is not None:
            self.env.send(sender, Decided(self.chosen))
        else:
            return not self._stalled
        return False

    # --- proposer ---

    def on_promise(self, sender: int, m: Promise) -> None:
        """Phase 2a."""
        if self._is_answer(sender, m.ballot) and self.proposer:
            self.proposer.on_promise(sender, m)

    def on_nack(self, sender: int, m: Nack) -> None:
        """A refusal."""
        if self._is_answer(sender, m.ballot) and self.proposer:
            if m.promised <= m.ballot:
                self.env.blame(sender, "refuses a ballot for one that is not higher")
            else:
                self.proposer.on_nack(sender, m)

    def _is_answer(self, sender: int, ballot: Ballot) -> bool:
        if self.proposer is None or sender not in self._acceptors:
            self.env.blame(sender, "takes this node for a proposer, or itself for an acceptor")
        elif ballot > self.proposer.ballot or ballot[1] != self.env.id:
            self.env.blame(sender, "answers a ballot that was never used")
        else:
            return self.chosen is None and self.proposer.wanted is not None
        return False

    # --- learner ---

    def on_accepted(self, sender: int, m: Accepted) -> None:
        """Count it (§2.3)."""
        if self.learner is None or sender not in self._acceptors:
            self.env.blame(sender, "takes this node for a learner, or itself for an acceptor")
        elif m.ballot[0] == 0:
            self.env.blame(sender, "accepted in no ballot")
        elif self.chosen is None and not self._stalled:
            value = self.learner.on_accepted(sender, m)
            if value is not None:
                self._learn(value)

    def on_decided(self, sender: int, m: Decided) -> None:
        """Somebody knows the chosen value. Crash faults: it is believed."""
        if self.learner is None:
            self.env.blame(sender, "takes this node for a learner")
        elif self.chosen is None and not self._stalled:
            self._learn(m.value)
        elif self.chosen is not None and self.chosen != m.value:
            self.env.blame(sender, "says that another value was chosen")

    def on_ask(self, sender: int, m: Ask) -> None:
        """What this node knows: the decision, or its own vote."""
        if sender not in self._learners:
            self.env.blame(sender, "asks, and is no learner")
        elif self.chosen is not None:
            self.env.send(sender, Decided(self.chosen))
        elif self.acceptor:
            self.acceptor.tell(sender)

    def _learn(self, value: bytes) -> None:
        self.chosen = value
        if self.proposer:
            self.proposer.stop()
        self.env.deliver(value)
