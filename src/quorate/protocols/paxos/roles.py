"""The three roles of Paxos, each with the rules that make it safe; ``core.py`` joins them in one node.

Lamport, "Paxos made simple" (2001). P1: an acceptor must accept the first proposal that it receives. P1a: it accepts
ballot n if it has not answered a Prepare above n. P2: if a value is chosen, every higher ballot that is chosen has that
value; P2a: that is accepted by any acceptor; P2b: that is issued by any proposer. P2c keeps all of these: whoever
issues ballot n with value v knows a quorum in which no one accepted below n, or v is the value of the highest ballot
below n that any of them accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quorate.kernel import Env
from quorate.parts.ballot import NO_BALLOT, ROUND_MAX, Ballot
from quorate.parts.quorum import QuorumSystem
from quorate.parts.votes.tally import Tally
from quorate.protocols.paxos.messages import (
    Accept,
    Accepted,
    Begun,
    Nack,
    PaxosConfig,
    Prepare,
    Promise,
    Promised,
    Voted,
)

IDLE = "idle"
PREPARING = "preparing"
PROPOSING = "proposing"

RETRY = "retry"


class SingleAcceptor:
    """Remembers what it promised and accepted, for ever: both are durable before the answer leaves."""

    def __init__(self, env: Env, learners: tuple[int, ...]) -> None:
        self._env = env
        self._learners = learners
        self.promised: Ballot = NO_BALLOT
        self.accepted: Ballot = NO_BALLOT
        self.value = b""

    def restore(self, record: Promised | Voted) -> None:
        """One durable record."""
        self.promised = record.ballot
        if isinstance(record, Voted):
            self.accepted, self.value = record.ballot, record.value

    def checkpoint(self) -> Iterator[Promised | Voted]:
        """At most two records."""
        if self.accepted > NO_BALLOT:
            yield Voted(self.accepted, self.value)
        if self.promised > self.accepted:
            yield Promised(self.promised)

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """Phase 1b (§2.2): promise a ballot above all answered so far, and say what was accepted."""
        ballot = m.ballot
        if ballot < self.promised:
            self._env.send(sender, Nack(ballot, self.promised))
            return
        if ballot == self.promised and self.accepted == ballot:
            return  # a late copy: its proposer is in phase 2
        if ballot > self.promised:
            self.promised = ballot
            self._env.persist(Promised(ballot))
        self._env.send(sender, Promise(ballot, self.accepted, self.value))

    def on_accept(self, sender: int, m: Accept) -> None:
        """Phase 2b, P1a: accept unless a higher ballot was promised."""
        ballot = m.ballot
        if ballot < self.promised:
            self._env.send(sender, Nack(ballot, self.promised))
            return
        if ballot == self.accepted:
            if m.value != self.value:
                self._env.blame(sender, "proposes two values in one ballot")
                return
        else:
            self.promised = self.accepted = ballot
            self.value = m.value
            self._env.persist(Voted(ballot, m.value))
        send_all(self._env, self._learners, Accepted(ballot, m.value))

    def tell(self, learner: int) -> None:
        """A learner asks what was accepted."""
        if self.accepted > NO_BALLOT:
            self._env.send(learner, Accepted(self.accepted, self.value))


class Proposer:
    """Tries ballots, one after the other, until told to stop. A ballot is recorded before it is used, and used once."""

    def __init__(self, env: Env, acceptors: tuple[int, ...], quorum: QuorumSystem, config: PaxosConfig) -> None:
        self._env = env
        self._acceptors = acceptors
        self._quorum = quorum
        self._config = config
        self.ballot: Ballot = NO_BALLOT  # durable (Begun)
        self.wanted: bytes | None = None
        self.phase = IDLE
        self._promises = Tally(quorum)
        self._highest: Ballot = NO_BALLOT  # of the ballots accepted, as the promises say
        self._highest_value = b""
        self._seen_round = 0
        self.tries = 0

    def restore(self, record: Begun) -> None:
        """The last ballot of an earlier life."""
        self.ballot = record.ballot

    def checkpoint(self) -> Iterator[Begun]:
        """At most one record."""
        if self.ballot > NO_BALLOT:
            yield Begun(self.ballot)

    def propose(self, value: bytes) -> None:
        """Have a value chosen: this one, if it is free to choose."""
        self.wanted = value
        self.begin()

    def begin(self) -> None:
        """Phase 1a (§2.2): a new ballot, above all that were used here or heard of."""
        round_ = max(self.ballot[0], self._seen_round) + 1
        if round_ > ROUND_MAX:
            return  # somebody lied about rounds; there are no more
        self.ballot = (round_, self._env.id)
        self.phase = PREPARING
        self._promises = Tally(self._quorum)
        self._highest, self._highest_value = NO_BALLOT, b""
        self._env.persist(Begun(self.ballot))
        send_all(self._env, self._acceptors, Prepare(self.ballot))
        self._env.set_timer(RETRY, self._config.retry_s + self._jitter())

    def on_promise(self, sender: int, m: Promise) -> None:
        """Phase 2a (§2.2): when a quorum has promised, propose."""
        if m.ballot != self.ballot or self.phase != PREPARING:
            return
        if m.accepted >= m.ballot:
            self._env.blame(sender, "promised a ballot and says that it accepted a later one before")
            return
        if m.accepted[0] > 0 and m.accepted > self._highest:
            self._highest, self._highest_value = m.accepted, m.value
        if self._promises.add(sender):
            self.phase = PROPOSING
            send_all(self._env, self._acceptors, Accept(self.ballot, self.choose()))

    def choose(self) -> bytes:
        """P2c: the value of the highest ballot among the promises; a free one only where there is none."""
        if self._highest > NO_BALLOT:
            return self._highest_value
        assert self.wanted is not None, "phase 1 began without a value"
        return self.wanted

    def on_nack(self, sender: int, m: Nack) -> None:
        """Somebody is ahead. Leave it time to finish (§2.4: only a distinguished proposer makes progress)."""
        if m.promised[0] > self._seen_round:
            self._seen_round = m.promised[0]
        if m.ballot == self.ballot and self.phase != IDLE:
            self.phase = IDLE
            self.tries += 1
            self._env.set_timer(RETRY, self._jitter())

    def retry(self) -> None:
        """No quorum in time, or the back-off is over."""
        if self.wanted is None:
            return
        if self.phase != IDLE:
            self.tries += 1  # the network may be slower than we thought
        self.begin()

    def stop(self) -> None:
        """A value is chosen."""
        if self.wanted is not None:
            self._env.cancel_timer(RETRY)
        self.wanted, self.phase = None, IDLE

    def _jitter(self) -> float:
        """Random, and of a longer range with each try: one of two that duel is alone long enough."""
        spread = self._config.retry_s * 2 ** min(self.tries, 16)
        return self._env.rng.uniform(0.0, min(spread, self._config.retry_s_max))


class Learner:
    """Counts acceptances. Of each acceptor only the newest is kept, so what it remembers is bounded."""

    def __init__(self, env: Env, quorum: QuorumSystem) -> None:
        self._env = env
        self._quorum = quorum
        self._newest: dict[int, tuple[Ballot, bytes]] = {}

    def on_accepted(self, sender: int, m: Accepted) -> bytes | None:
        """The chosen value, once one ballot was accepted by a quorum (§2.3); ballots are never mixed."""
        ballot, value = self._newest.get(sender, (NO_BALLOT, b""))
        if m.ballot < ballot:
            return None
        self._newest[sender] = (m.ballot, m.value)
        if m.ballot == ballot and m.value != value:
            self._env.blame(sender, "accepted two values in one ballot")
            return None
        mask = 0
        for acceptor in self.agreeing(m):
            mask |= 1 << acceptor
        return m.value if self._quorum.is_quorum(mask) else None

    def agreeing(self, message: Accepted) -> Iterable[int]:
        """The acceptors whose newest acceptance is in this ballot, with this value."""
        one = (message.ballot, message.value)
        return [acceptor for acceptor, newest in self._newest.items() if newest == one]


def send_all(env: Env, nodes: tuple[int, ...], message: object) -> None:
    """To each of the nodes; one effect where they are all."""
    if nodes == env.peers:
        env.broadcast(message)
    else:
        for node in nodes:
            env.send(node, message)
