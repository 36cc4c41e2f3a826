"""Preparation: phase 1 of one ballot, once for all slots (Lamport 2001, §3; van Renesse and Altinbuken 2015, scout).

The proposer keeps it for as long as the ballot lasts: members who join later are asked to promise the same ballot
before anything is proposed in a slot in which they count.
"""

from __future__ import annotations

from quorate.parts.ballot import Ballot
from quorate.parts.log.entries import Entry
from quorate.protocols.multipaxos.membership import Span
from quorate.protocols.multipaxos.messages import Promise


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

    def ask(self, node: int, first_slot: int) -> int:
        """From which slot on the node is to be asked: where it stopped, or later where more is chosen by now."""
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
        for run in m.runs:
            for slot, entry in enumerate(run.entries, run.first_slot):
                self._find(slot, run.ballot, entry)
        if m.next_slot:
            self._wanted[sender] = m.next_slot
        else:
            self.promised |= 1 << sender
        return None

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
        self.highest_slot = max(self.highest_slot, slot)

    def pop(self, slot: int) -> Entry | None:
        """P2c: the value that has to be proposed in this slot; None where it is free."""
        vote = self.found.pop(slot, None)
        return None if vote is None else vote[1]
