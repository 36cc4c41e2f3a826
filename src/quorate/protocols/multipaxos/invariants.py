"""What Paxos rests on, looked at in the acceptors of Multi-Paxos; and whose votes chose each slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from quorate.kernel import nodes_of
from quorate.kernel.standing import LEADER
from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.parts.log.configuration import FOUNDERS_ALONE, decode_change
from quorate.parts.log.entries import CONFIGURATION, Entry
from quorate.parts.log.replicated import Decided
from quorate.parts.quorum import QuorumSystem
from quorate.protocols.multipaxos.messages import MultiPaxosConfig
from quorate.sim.checkers.ballots import IDLE, Ballots, Life
from quorate.sim.checkers.base import Violation

OWN_QUORUM = "each slot by its own members"
STALLED = "a stalled node does not lead"


class ChosenMembers:
    """Who votes in which slot, from the founders and the chosen values alone: no core is asked (Lamport 2001, §3)."""

    def __init__(self, config: MultiPaxosConfig, peers: Sequence[int]) -> None:
        self._config = config
        self._founders = tuple(sorted(config.founders or peers))
        self._nodes = FOUNDERS_ALONE
        members = tuple(sorted(config.members)) or self._founders
        self._phase2: dict[int, QuorumSystem] = {1: config.quorum.build(members).phase2}
        """By the first slot from which these members count."""
        self.decided = 0
        """The last slot whose value is known."""

    @property
    def known(self) -> int:
        """The last slot whose members are known."""
        return self.decided + self._config.alpha

    def phase2(self, slot: int) -> QuorumSystem:
        """The phase-2 quorums of a slot that is not beyond ``known``."""
        return next(quorums for first, quorums in reversed(self._phase2.items()) if first <= slot)

    def decide(self, entry: Entry) -> None:
        """The value of the next slot. A change that does not fit changes nothing."""
        self.decided += 1
        if entry.kind != CONFIGURATION:
            return
        change = decode_change(entry.data)
        first, newest = self.known, max(self._phase2)
        if change is None or change.epoch not in (None, newest) or first <= newest:
            return
        if self._nodes.takes(change, self._founders):
            try:
                self._phase2[first] = self._config.quorum.build(change.members).phase2
            except ValueError:
                return
            self._nodes = self._nodes.after(change)


class MultiPaxosInvariants(Ballots):
    """Multi-Paxos: an acceptor's log has consecutive slots in one ballot, and other votes lie ahead of it.

    Whose votes count in a slot is known once all up to a window before is decided. When the first node hands a slot's
    value up, a phase-2 quorum of *that slot's* members must have accepted it in one ballot, and told others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._members: ChosenMembers | None = None
        self._returned_in: dict[int, Ballot | None] = {}
        """In which ballot a node that lost its memory returned: what it accepted before, in lower ones, is no vote."""

    def is_quorum(self, slot: int, nodes: int) -> bool:
        assert self._members is not None
        return slot <= self._members.known and self._members.phase2(slot).is_quorum(nodes)

    def is_over(self, core: Any, slot: int) -> bool:
        return slot > 0 and slot <= core.acceptor.chosen_index

    def memory(self, core: Any) -> Iterator[tuple[int, Ballot, Ballot]]:
        acceptor = core.acceptor
        yield 0, acceptor.promised, NO_BALLOT
        for slot in range(acceptor.chosen_index + 1, acceptor.log.last_index + 1):
            yield slot, NO_BALLOT, acceptor.ballot
        for slot, (ballot, _) in acceptor.ahead.items():
            yield slot, NO_BALLOT, ballot

    def started(self, node: int, core: Any) -> None:
        if self._members is None:
            self._members = ChosenMembers(core.config, core.env.peers)
        super().started(node, core)

    def look(self, node: int, core: Any, life: Life) -> None:
        acceptor = core.acceptor
        if acceptor.promised != life.promised:
            life.promised = acceptor.promised
            self.promise(node, life, 0, acceptor.promised)
        if core.ballot != life.ballot and core.role not in IDLE:
            life.ballot = core.ballot
            self.begin(node, life, 0, core.ballot)
        if acceptor.changes != life.changes:
            life.changes = acceptor.changes
            self._look_at_votes(node, acceptor, life)
        life.chosen_index = acceptor.chosen_index
        if core.stalled is not None and core.role == LEADER:
            raise Violation(STALLED, f"node {node} leads in ballot {core.ballot}, and cannot write: {core.stalled}")

    def _look_at_votes(self, node: int, acceptor: Any, life: Life) -> None:
        if acceptor.has_forgotten:
            self._returned_in[node] = None
            return
        if self._returned_in.get(node, NO_BALLOT) is None:
            self._returned_in[node] = acceptor.ballot
        returned_in = self._returned_in.get(node) or NO_BALLOT
        log, ballot = acceptor.log, acceptor.ballot
        if ballot != life.log_ballot:
            life.log_ballot, life.last = ballot, life.chosen_index
        first = max(life.last, log.base_index) + 1
        if first <= log.last_index:
            for slot, entry in enumerate(log.slice(first, log.last_index), first):
                self.accept(node, life, slot, ballot, entry)
        life.last = log.last_index
        for slot, (voted, entry) in acceptor.ahead.items():
            if voted >= returned_in and life.noted.get((slot, voted)) is None:
                life.noted[slot, voted] = True
                self.accept(node, life, slot, voted, entry)

    # --- what is decided ---

    def output(self, node: int, value: Any) -> None:
        members = self._members
        if type(value) is not Decided or members is None:
            return
        for slot, entry in enumerate(value.entries, value.first_index):
            if slot == members.decided + 1:
                self._decided(node, slot, entry, members)

    def _decided(self, node: int, slot: int, entry: Entry, members: ChosenMembers) -> None:
        told, values = self.told.get(slot, {}), self.values.get(slot, {})
        votes = [(ballot, nodes) for ballot, nodes in told.items() if values[ballot] == entry]
        quorums = members.phase2(slot)
        if not any(quorums.is_quorum(nodes) for _, nodes in votes):
            raise Violation(
                OWN_QUORUM,
                f"node {node} hands up {entry!r} in slot {slot}, whose members are {nodes_of(quorums.members)}; "
                f"it was accepted by {_text(votes)}",
            )
        members.decide(entry)
        self.recount(members.known)


def _text(votes: Sequence[tuple[Ballot, int]]) -> str:
    return ", ".join(f"the nodes of mask {nodes:b} in ballot {ballot}" for ballot, nodes in sorted(votes)) or "nobody"
