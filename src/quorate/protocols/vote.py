"""Vote: a small replicated log that tolerates lies, to be copied by whoever writes a Byzantine protocol.

How it works. The log grows by heights, each a batch of signed requests, which is decided in rounds. In a round

1. its leader *proposes* a batch,
2. a node that may accept it *prevotes* for it,
3. a node that has the prevotes of a quorum *locks* the batch and *precommits* it,
4. a node that has the precommits of a quorum *decides* it, in whichever round of the height they were.

A round ends by timeout, once a quorum has reached it, and the next has another leader. A quorum is 2f + 1 of 3f + 1
nodes, so any two share an honest one. Safety: a node prevotes once per round; once it has locked a batch it prevotes
another only if the proposal shows prevotes of a quorum for that one, in the round of the lock or later. When a batch
is decided, f + 1 honest nodes have locked it, and no later round can gather a quorum for another. Progress: when
messages arrive in time again, the honest node that locked last will lead, and shows why all others may follow.

At every beat a node says where it is, and its last votes again. Who is ahead of it sends it decisions, with the
certificate of a quorum; it skips to a round that f + 1 nodes have reached, as one of them is honest.

Durable before a vote leaves: the prevote, and the lock that a precommit stands for. Decisions are durable too. What
travels is in ``vote_messages.py``.

Limits, on purpose. Signatures are checked in the handlers, one by one. The log stays in memory and is never compacted.
Members are fixed. Requests wait at the nodes that clients sent them to, which should be all.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv 1807.04938), algorithm 1. Deviations: no
votes for nil, as all rounds end by timeout; certificates, in proposals and decisions, take the place of gossip.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from quorate.kernel import Core, Env, Key, Standing
from quorate.parts import requests
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate
from quorate.parts.votes.keeper import VoteKeeper
from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.traits import SIGNED_BYZANTINE
from quorate.protocols.vote_messages import (
    Decision,
    Here,
    Locked,
    Precommit,
    Prevote,
    ProposedBatch,
    VoteConfig,
    digest_of,
)

ROUND_FACTOR_MAX: Final = 4  # how many times as long as the first a round may last
DECISIONS_MAX: Final = 16  # for a node that is behind, at each of its beats
TRAITS: Final = SIGNED_BYZANTINE


class Vote(Core):
    """One node. ``settle`` has the phases."""

    messages = (ProposedBatch, Prevote, Precommit, Decision, Here)
    records = (Prevote, Locked, Decision)

    def __init__(self, env: Env, config: VoteConfig = VoteConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env)
        self.config = config
        self.keyring = keys.keyring
        self.quorum = Byzantine(env.peers)
        # Durable: decisions, and of the height that is open the last prevote and the lock.
        self.decisions: list[Decision] = []
        self.prevote: Prevote | None = None
        self.lock: Locked | None = None
        # Volatile.
        self.height, self.round, self.commit_index = 1, 0, 0
        self.prevotes, self.precommits = (VoteKeeper(kind, keys, self.quorum) for kind in ("prevote", "precommit"))
        self.proposals: dict[int, ProposedBatch] = {}  # the newest of each node
        self._places: dict[int, Here] = {}  # where it was last
        self._pending: dict[bytes, bytes] = {}  # requests, by digest
        self._is_stalled = False

    def restore(self, record: Prevote | Locked | Decision) -> None:
        """One durable record."""
        match record:
            case Prevote():
                self.prevote = record
            case Decision():
                self.decisions.append(record)
                self.prevote = self.lock = None
            case Locked():
                self.lock = record

    def checkpoint(self) -> Iterator[Prevote | Locked | Decision]:
        """All of it: the log is never compacted."""
        yield from self.decisions
        yield from (record for record in (self.prevote, self.lock) if record is not None)

    def start(self) -> None:
        """What was recovered is decided, and is delivered again. The round is the last in which this node voted."""
        for decision in self.decisions:
            self._deliver(decision)
        self._enter(max(0 if vote is None else vote.round for vote in (self.prevote, self.lock)))
        self.on_timer("beat")

    def settle(self) -> None:
        """Once a step: go as far as what is known allows."""
        while not self._is_stalled and (self._decide() or self._precommit() or self._prevote() or self._propose()):
            pass

    def _propose(self) -> bool:
        """The leader proposes what it has locked, else what waits; its own prevote is durable before that leaves."""
        if self.leader != self.env.id or self._has_prevoted() or not (self.lock or self._pending):
            return False
        values, proof_round, proof = self._waiting(), 0, None
        if self.lock is not None:
            values, proof_round, proof = self.lock.values, self.lock.round, self.lock.proof
        self.env.broadcast(ProposedBatch(self.height, self.round, values, proof_round, proof))
        self._cast_prevote(digest_of(values))
        return True

    def _prevote(self) -> bool:
        """Once per round, for what the lock allows."""
        m = self.proposals.get(self.leader)
        if m is None or (m.height, m.round) != (self.height, self.round) or self._has_prevoted():
            return False
        digest = digest_of(m.values)
        if self.lock is not None and digest_of(self.lock.values) != digest:
            is_later = self.lock.round <= m.proof_round < m.round
            if not is_later or not self.prevotes.proves(m.proof, m.height, m.proof_round, digest):
                return False
        if not self._are_requests(m.values):
            self.env.blame(self.leader, "proposed what no client signed")
            del self.proposals[self.leader]
            return False
        self._cast_prevote(digest)
        return True

    def _precommit(self) -> bool:
        """Lock what a quorum prevotes in this round, and in no earlier one."""
        if self.lock is not None and self.lock.round == self.round:
            return False
        for round, values, proof in self._agreed(self.prevotes):
            if round == self.round:
                self.lock = Locked(self.height, round, values, proof)
                self.env.persist(self.lock)
                self._say_precommit(self.lock)
                return True
        return False

    def _decide(self) -> bool:
        """What a quorum precommits, in any round of this height."""
        for round, values, proof in self._agreed(self.precommits):
            self._decided(Decision(self.height, round, values, proof))
            return True
        return False

    def _decided(self, decision: Decision) -> None:
        self.env.persist(decision)
        self.decisions.append(decision)
        self.prevote = self.lock = None
        self._deliver(decision)
        self._enter(0)

    def on_proposed_batch(self, sender: int, m: ProposedBatch) -> None:
        """Keep it, if it is the leader's."""
        known = self.proposals.get(sender)
        if sender != self._leader_of(m.height, m.round):
            self.env.blame(sender, "proposed, and did not lead")
        elif known is None or (m.height, m.round) > (known.height, known.round):
            self.proposals[sender] = m

    def on_prevote(self, sender: int, m: Prevote) -> None:
        """Keep it, if it is signed."""
        votes = self.precommits if isinstance(m, Precommit) else self.prevotes
        if not votes.keep(sender, m.height, m.round, m.digest, m.signature):
            self.env.blame(sender, "sent a vote that it did not sign")

    on_precommit = on_prevote

    def on_decision(self, sender: int, m: Decision) -> None:
        """Of any node, if it is proven."""
        if m.height != self.height or self._is_stalled:
            return
        if self.precommits.proves(m.proof, m.height, m.round, digest_of(m.values)):
            self._decided(m)
        else:
            self.env.blame(sender, "sent a decision without a proof")

    def on_here(self, sender: int, m: Here) -> None:
        """Send decisions to who is behind. Follow f + 1 nodes to a later round."""
        for decision in self.decisions[max(0, m.height - 1) :][:DECISIONS_MAX]:
            self.env.send(sender, decision)
        self._places[sender] = m
        rounds = {node: place.round for node, place in self._places.items() if place.height == self.height}
        if (round := self.quorum.weak.reached(rounds)) > self.round:
            self._enter(round)

    def on_timer(self, key: Key) -> None:
        """The round has taken too long; or a beat: say again what may have been lost."""
        if key == "round" and self._is_reached():
            self._enter(self.round + 1)
        elif key == "round":
            self.env.set_timer("round", self.config.beat_s)
        else:
            self.env.set_timer("beat", self.config.beat_s)
            own = self.proposals.get(self.env.id)
            for again in (own if own is not None and own.height == self.height else None, self.prevote):
                if again is not None:
                    self.env.broadcast(again)
            if self.lock is not None:
                self._say_precommit(self.lock)
        self.env.broadcast(Here(self.height, self.round))

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        for value in values:
            is_full = self._is_stalled or len(self._pending) >= self.config.pending_max
            if is_full or not requests.is_signed(value, self.keyring):
                self.env.deliver(Dropped((value,), "no room" if is_full else "not signed by a client"))
            else:
                self._pending[sha256(value).digest()] = value

    def read(self, tokens: Sequence[int]) -> None:
        """A write that a client was told of is locked at f + 1 honest nodes, until they have decided it."""
        self.env.deliver(ReadFailed(tuple(tokens), "a write is under way") if self.lock else ReadReady(tuple(tokens)))

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full, take nothing in and vote for nothing."""
        self._is_stalled = why is not None

    def standing(self) -> Standing:
        """As ``Core.standing``. Nobody is elected: they take turns."""
        role = "proposer" if self.leader == self.env.id else "voter"
        return Standing(role, self.leader, self.height, self.commit_index)

    @property
    def leader(self) -> int:
        """Of this round."""
        return self._leader_of(self.height, self.round)

    def _leader_of(self, height: int, round: int) -> int:
        return self.env.peers[(height + round - 1) % len(self.env.peers)]

    def _enter(self, round: int) -> None:
        self.round = round
        self.env.set_timer("round", self.config.round_s * min(round + 1, ROUND_FACTOR_MAX))
        self.env.deliver(Leads(self.height, self.leader))

    def _is_reached(self) -> bool:
        """Whether a quorum is in this round or further.

        A node that did not wait for that would run ahead of the rest, for ever in another round: all rounds last
        equally long in the end. The paper starts the timers with the votes of a quorum.
        """
        here = (self.height, self.round)
        nodes = 1 << self.env.id
        for node, place in self._places.items():
            if (place.height, place.round) >= here:
                nodes |= 1 << node
        return self.quorum.is_quorum(nodes)

    def _has_prevoted(self) -> bool:
        return self.prevote is not None and self.prevote.round >= self.round

    def _cast_prevote(self, digest: bytes) -> None:
        signature = self.prevotes.sign(self.height, self.round, digest)
        self.prevote = Prevote(self.height, self.round, digest, signature)
        self.env.persist(self.prevote)
        self.env.broadcast(self.prevote)

    def _say_precommit(self, lock: Locked) -> None:
        digest = digest_of(lock.values)
        signature = self.precommits.sign(lock.height, lock.round, digest)
        self.env.broadcast(Precommit(lock.height, lock.round, digest, signature))

    def _agreed(self, votes: VoteKeeper) -> Iterator[tuple[int, tuple[bytes, ...], Certificate]]:
        """What quorums vote alike for at this height, where the batch has come here."""
        known = [m.values for m in self.proposals.values()] + ([self.lock.values] if self.lock else [])
        for round, digest, proof in votes.certificates(self.height):
            for values in known:
                if digest_of(values) == digest:
                    yield round, values, proof
                    break

    def _are_requests(self, values: Sequence[bytes]) -> bool:
        return all(sha256(v).digest() in self._pending or requests.is_signed(v, self.keyring) for v in values)

    def _waiting(self) -> tuple[bytes, ...]:
        """What fits a message, one request at least."""
        waiting = Log()
        waiting.append([Entry(0, value) for value in self._pending.values()])
        batch = waiting.batch(1, self.config.batch_count_max, self.config.batch_bytes_max)
        return tuple([entry.data for entry in batch])

    def _deliver(self, decision: Decision) -> None:
        entries = tuple([Entry(decision.height, value) for value in decision.values])
        self.env.deliver(Decided(self.commit_index + 1, entries, decision.proof))
        self.commit_index += len(entries)
        self.height += 1
        for value in decision.values:
            self._pending.pop(sha256(value).digest(), None)


ENTRY: Final = ProtocolEntry(
    name="vote",
    title="Vote (a Byzantine template)",
    core=Vote,
    config=VoteConfig,
    tolerates="lies of any f of 3f + 1 nodes, and crashes of as many",
    traits=TRAITS,
    equipment="quorate.protocols.vote_equipment",
)
