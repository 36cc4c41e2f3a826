"""Preparation: phase 1 of one ballot, once for all slots (Lamport 2001, §3; van Renesse and Altinbuken 2015, scout).

A promise may be of a node that has lost its memory since (``parts/leaderlog/returns.py``). It is as good as any until
that node has returned: then it accepts in lower ballots again, as it does not know of its promise. So the promise does
not count if the entry by which the node returned is known, or comes to light in another one's promise. Whoever acts on
a return that is chosen can be sure that it does: of the phase-2 quorum that accepted it, which the node is not in, some
node is in every phase-1 quorum, and tells of it.

The proposer keeps it for as long as the ballot lasts: members who join later are asked to promise the same ballot
before anything is proposed in a slot in which they count.
"""

from __future__ import annotations

from quorate.kernel import nodes_of
from quorate.parts.ballot import Ballot
from quorate.parts.leaderlog.returns import Returns, return_in
from quorate.parts.log.entries import RETURN, Entry
from quorate.protocols.multipaxos.membership import Span
from quorate.protocols.multipaxos.messages import Promise, PromiseAs


class Preparation:
    """Who has promised ``ballot``, and what the promises say was accepted before."""

    def __init__(self, ballot: Ballot) -> None:
        self.ballot = ballot
        self.promised = 0
        """The mask of those who promised and said all that they accepted."""
        self.found: dict[int, tuple[Ballot, Entry]] = {}
        self.highest_slot = 0
        """The last slot in which anybody accepted something; above it all slots are free."""
        self._wanted: dict[int, int] = {}
        self._first: dict[int, int] = {}
        """From which slot on each node was asked at first."""
        self._incarnations: dict[int, bytes] = {}
        """As which each node promised; those that never lost their memory are not among them."""
        self._returns: dict[int, tuple[int, bytes]] = {}
        """By slot, which node returns as which incarnation, by the value of the highest ballot."""

    def ask(self, node: int, first_slot: int) -> int:
        """From which slot on the node is to be asked: where it stopped, or later where more is chosen by now."""
        self._first.setdefault(node, first_slot)
        wanted = self._wanted[node] = max(self._wanted.get(node, 0), first_slot)
        return wanted

    def covers(self, span: Span) -> bool:
        """Whether a phase-1 quorum of these members has promised."""
        return span.quorums.phase1.is_quorum(self.promised)

    def awaits(self, sender: int, m: Promise) -> bool:
        """Whether this part was asked for and has not come yet: a copy is not answered, or copies would multiply."""
        return self._wanted.get(sender) == m.first_slot and not self.promised >> sender & 1

    def take(self, sender: int, m: Promise, slots_max: int) -> str | None:
        """Phase 2a, the first half: of each slot the value of the highest ballot. Returns what is wrong, if it is."""
        if why := self._lies(m, slots_max):
            return why
        incarnation = m.incarnation if isinstance(m, PromiseAs) else b""
        if m.first_slot > self._first[sender] and self._incarnations.get(sender, b"") != incarnation:
            self._forget(sender)  # it told the first part in another life
            return None
        self._incarnations[sender] = incarnation
        for run in m.runs:
            for slot, entry in enumerate(run.entries, run.first_slot):
                self._find(slot, run.ballot, entry)
        if m.next_slot:
            self._wanted[sender] = m.next_slot
        else:
            self.promised |= 1 << sender
        return None

    def drop_lapsed(self, returns: Returns, nodes: int) -> None:
        """Have the promises of those among ``nodes`` count no more who gave them before they returned.

        ``returns``: those that are known to be chosen.
        """
        for node in nodes_of(self.promised & nodes):
            found = [slot for slot, said in self._returns.items() if said[0] == node]
            last = self._returns[max(found)][1] if found else returns.incarnation(node)
            if last != self._incarnations[node]:
                self._forget(node)

    def _forget(self, node: int) -> None:
        """Ask it again, from the beginning."""
        self.promised &= ~(1 << node)
        self._wanted[node] = self._first[node]

    def _lies(self, m: Promise, slots_max: int) -> str | None:
        if 0 < m.next_slot <= m.first_slot:
            return "says that more follows, but not after this"
        for run in m.runs:
            if run.ballot > m.ballot or run.ballot[0] == 0:
                return "promised a ballot and says that it accepted in a later one before, or in none"
            if run.first_slot < m.first_slot or run.first_slot + len(run.entries) > m.first_slot + slots_max:
                return "says that it accepted values for slots that nobody can have proposed in"
        return None

    def _find(self, slot: int, ballot: Ballot, entry: Entry) -> None:
        known = self.found.get(slot)
        if known is None or known[0] < ballot:
            self.found[slot] = (ballot, entry)
            self._returns.pop(slot, None)
            if entry.kind == RETURN and (said := return_in(entry)) is not None:
                self._returns[slot] = said
        self.highest_slot = max(self.highest_slot, slot)

    def pop(self, slot: int) -> Entry | None:
        """P2c: the value that has to be proposed in this slot; None where it is free."""
        vote = self.found.pop(slot, None)
        return None if vote is None else vote[1]
