"""What trials test Vote with: what must never be, bugs that they must find, and how a liar signs its lies.

A promise is a vote that left its node: no crash may take it back, and no other goes out in the same round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from quorate.kernel import Env, Send
from quorate.parts.crypto.keys import Keys
from quorate.parts.quorum import Byzantine, Threshold
from quorate.parts.votes.certificate import verify
from quorate.parts.votes.keeper import statement_of
from quorate.protocols.vote import Vote
from quorate.protocols.vote_messages import Decision, Locked, Prevote, ProposedBatch, VoteConfig, digest_of
from quorate.sim.adversary.liar import Liar
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.equipment import Equipment
from quorate.sim.mutant import Mutant

ONE_PREVOTE = "one prevote a round"
LOCKS = "a lock is proven and stays"
DECIDED = "decisions are proven"

HeightRound = tuple[int, int]
"""Height and round."""


class VoteInvariants(Checker):
    """After every step of every honest node. Quorums are computed here, and certificates verified anew."""

    def __init__(self) -> None:
        self._prevotes: dict[tuple[int, int, int], bytes] = {}
        """By node, height and round: the digest of the prevote that left."""
        self._locked: dict[int, HeightRound] = {}
        """By node, the newest lock that left with a precommit."""
        self._seen: dict[int, tuple[Prevote | None, Locked | None, int]] = {}

    def started(self, node: int, core: Any) -> None:
        self._seen[node] = (None, None, 0)
        height, round = self._locked.get(node, (0, 0))
        if core.height < height or (core.height == height and (core.lock is None or core.lock.round < round)):
            raise Violation(LOCKS, f"node {node} had precommitted in round {round} of height {height}, and forgot it")
        self.stepped(node, core)

    def mark(self, node: int) -> tuple[Prevote | None, Locked | None]:
        prevote, lock, _ = self._seen[node]
        return prevote, lock

    def released(self, node: int, mark: tuple[Prevote | None, Locked | None]) -> None:
        prevote, lock = mark
        if prevote is not None:
            known = self._prevotes.setdefault((node, prevote.height, prevote.round), prevote.digest)
            if known != prevote.digest:
                where = f"round {prevote.round} of height {prevote.height}"
                raise Violation(
                    ONE_PREVOTE, f"node {node} prevotes {_hex(known)} and {_hex(prevote.digest)} in {where}"
                )
        if lock is not None:
            self._locked[node] = max((lock.height, lock.round), self._locked.get(node, (0, 0)))

    def stepped(self, node: int, core: Any) -> None:
        prevote, lock, decided = self._seen[node]
        if core.lock is not lock and core.lock is not None:
            self._verify(node, core, core.lock, "prevote", LOCKS)
        if core.prevote is not prevote and core.prevote is not None and lock is not None:
            self._may_prevote(node, core, core.prevote, lock)
        for decision in core.decisions[decided:]:
            self._verify(node, core, decision, "precommit", DECIDED)
        # What was voted in a height that the step also ended, others may still hear of.
        self._seen[node] = (core.prevote or prevote, core.lock or lock, len(core.decisions))

    def _may_prevote(self, node: int, core: Any, prevote: Prevote, lock: Locked) -> None:
        """Against a lock of this height only with a proof."""
        if prevote.height != lock.height or prevote.digest == digest_of(lock.values):
            return
        newer = core.lock
        if newer is not None and newer.round == prevote.round and digest_of(newer.values) == prevote.digest:
            return  # in the same step a quorum of others had prevoted it, and moved the lock; see ``_verify``
        m: ProposedBatch = core.proposals[core.leader]
        statement = statement_of(m.height, m.proof_round, prevote.digest)
        proof = m.proof if lock.round <= m.proof_round < prevote.round else None
        if proof is None or proof.statement != statement or not verify(proof, core.keyring, core.quorum):
            raise Violation(LOCKS, f"node {node} prevotes in round {prevote.round} against its lock of {lock.round}")

    def _verify(self, node: int, core: Any, proven: Locked, kind: str, rule: str) -> None:
        proof = proven.proof
        statement = statement_of(proven.height, proven.round, digest_of(proven.values))
        is_this = (proof.context, proof.statement) == (kind, statement)
        if not is_this or not verify(proof, core.keyring, Byzantine(core.env.peers)):
            raise Violation(rule, f"node {node} has no certificate for round {proven.round} of height {proven.height}")


def _hex(digest: bytes) -> str:
    return digest.hex()[:8]


# --- planted bugs ---


class SmallVoteQuorum(Vote):
    """A quorum is f + 1: any two may share nobody but the liars."""

    def __init__(self, env: Env, config: VoteConfig = VoteConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env, config, keys=keys)
        faults = self.quorum.faults
        for keeper in (self.prevotes, self.precommits):
            keeper.quorum = Threshold(env.peers, faults + 1)


class ForgetsPrevotes(Vote):
    """Prevotes again after a restart."""

    def restore(self, record: Prevote | Locked | Decision) -> None:
        """All but prevotes."""
        if not isinstance(record, Prevote):
            super().restore(record)


class ForgetsLocks(Vote):
    """Comes back without what it precommitted."""

    def restore(self, record: Prevote | Locked | Decision) -> None:
        """All but locks."""
        if isinstance(record, Prevote | Decision):
            super().restore(record)


class IgnoresLocks(Vote):
    """Prevotes whatever the leader proposes."""

    def _prevote(self) -> bool:
        lock, self.lock = self.lock, None
        try:
            return super()._prevote()
        finally:
            self.lock = lock


class BelievesProofs(Vote):
    """Lets a proposal unlock it that shows no proof."""

    def _prevote(self) -> bool:
        m = self.proposals.get(self.leader)
        if m is None or self.lock is None or not self.lock.round <= m.proof_round < m.round:
            return super()._prevote()
        lock, self.lock = self.lock, None
        try:
            return super()._prevote()
        finally:
            self.lock = lock


class BelievesDecisions(Vote):
    """Takes the word of whoever sends a decision."""

    def on_decision(self, sender: int, m: Decision) -> None:
        """Unseen."""
        if m.height == self.height:
            self._decided(m)


class BelievesLeaders(Vote):
    """Prevotes for requests that no client signed."""

    def _are_requests(self, values: Sequence[bytes]) -> bool:
        return True


class RunsAhead(Vote):
    """Ends rounds by timeout alone, and may so be a round ahead of the rest for ever."""

    def _is_reached(self) -> bool:
        return True


MUTANTS = (
    Mutant("runs-ahead", "a round ends before a quorum has reached it", core=RunsAhead),
    Mutant("small-quorum", "f + 1 votes are a quorum", core=SmallVoteQuorum, lies=True),
    Mutant("forgets-prevotes", "a node that restarts may prevote again", core=ForgetsPrevotes),
    Mutant("forgets-locks", "a node that restarts has locked nothing", core=ForgetsLocks),
    Mutant("ignores-locks", "a node prevotes against its lock", core=IgnoresLocks),
    Mutant("believes-proofs", "a proposal unlocks a node without a proof", core=BelievesProofs, lies=True),
    Mutant("believes-decisions", "a decision is taken without a proof", core=BelievesDecisions, lies=True),
    Mutant("believes-leaders", "what is proposed need not be signed", core=BelievesLeaders, lies=True),
)


class Inventing(Liar):
    """As a leader it proposes what no client has asked for."""

    name = "inventing"
    summary = "proposes requests that no client signed"

    def tell(self, send: Send) -> Iterable[Send]:
        """The same invented batch to all."""
        if isinstance(send.message, ProposedBatch) and self.means.chance(0.5):
            self.means.count(self.name)
            values = tuple([value[:-1] + bytes([value[-1] ^ 1]) for value in send.message.values])
            send = Send(send.to, send.path, replace(send.message, values=values))
        return (send,)


def resign_votes(keys: Keys | None, m: Any) -> Any:
    """A vote with this node's signature of what it says now; the rest carries none of its own."""
    assert keys is not None
    if isinstance(m, Prevote):
        statement = statement_of(m.height, m.round, m.digest)
        return replace(m, signature=keys.sign(type(m).__name__.lower(), statement))
    return m


EQUIPMENT = Equipment(
    simulation=VoteConfig(batch_count_max=8, batch_bytes_max=4096, pending_max=256),
    kinds=("gone", "delays", "clients"),
    invariants=(VoteInvariants,),
    mutants=MUTANTS,
    liars=(Inventing,),
    resign=resign_votes,
)
