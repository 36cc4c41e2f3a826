"""Members: whose votes count in which slot (Lamport 2001, §3: the state machine names the servers, alpha slots later).

A configuration that is chosen in slot *i* counts from slot *i + alpha* on. A proposer has at most alpha slots open
after the last before which all are chosen, so it knows the members of every slot in which it proposes. A configuration
that makes no quorums, names a node that is not there, or an epoch that is over, changes nothing; that is the same on
every node, as it depends on the founders and the values alone.

Newcomers are known as soon as the slot that introduces them is known to be chosen. Who leaves is needed for as long as
there are open slots in which it votes.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.kernel import mask_of
from quorate.parts.log.configuration import FOUNDERS_ALONE, Change, Nodes, beginning, check_own
from quorate.parts.quorum import Flexible, QuorumSystem
from quorate.protocols.multipaxos.messages import Membership, MultiPaxosConfig


class Blocking(QuorumSystem):
    """The sets that meet every quorum of another system."""

    def __init__(self, other: QuorumSystem) -> None:
        self.members = other.members
        self.other = other

    def is_quorum(self, nodes: int) -> bool:
        """Whether none of the other's quorums is left without them."""
        return self.other.is_blocking(nodes)


class Span:
    """Slots from ``first_slot`` on, until the next span, have these members and quorums.

    ``nodes``: which there are by the configuration that began the span.
    """

    __slots__ = ("confirming", "first_slot", "mask", "members", "nodes", "quorums")

    def __init__(
        self, first_slot: int, members: tuple[int, ...], quorums: Flexible, nodes: Nodes = FOUNDERS_ALONE
    ) -> None:
        self.first_slot = first_slot
        self.members = members
        self.nodes = nodes
        self.mask = mask_of(members)
        self.quorums = quorums
        self.confirming = Blocking(quorums.phase1)
        """A read is confirmed by nodes that meet every phase-1 quorum, so that no later leader can have been there."""


class Spans:
    """All spans that may still matter, the oldest first."""

    def __init__(self, config: MultiPaxosConfig, peers: Sequence[int]) -> None:
        """``peers`` are the founders if the config names none.

        Raises ValueError where members are no founders, or the quorums of the two phases do not all meet.
        """
        self._config = config
        self.founders, first = beginning(config.founders, config.members, peers)
        self.spans = [Span(1, first, config.quorum.build(first))]

    def at(self, slot: int) -> Span:
        """The span of the last slot that is chosen, or of a later one, as far as it is known."""
        spans = self.spans
        position = len(spans) - 1
        while position and spans[position].first_slot > slot:
            position -= 1
        return spans[position]

    def after(self, slot: int) -> list[Span]:
        """Spans that begin later than this slot; the oldest has begun."""
        spans = self.spans
        if len(spans) == 1 or spans[-1].first_slot <= slot:
            return []
        return [span for span in spans[1:] if span.first_slot > slot]

    def end(self, slot: int) -> int | None:
        """The last slot of the span that this slot is in; None for the newest span."""
        if len(self.spans) == 1:
            return None
        later = self.after(slot)
        return later[0].first_slot - 1 if later else None

    def begins_in(self, first: int, last: int) -> bool:
        """Whether new members begin to count in one of these slots."""
        spans = self.spans
        return len(spans) > 1 and any(first <= span.first_slot <= last for span in spans[1:])

    def takes_effect_at(self, slot: int) -> int:
        """From where on a configuration chosen in this slot counts."""
        return slot + self._config.alpha

    @property
    def epoch(self) -> int:
        """Of the newest members: their first slot. What was chosen up to a slot says it on every node."""
        return self.spans[-1].first_slot

    @property
    def nodes(self) -> Nodes:
        """Which nodes there are."""
        return self.spans[-1].nodes

    def voting_from(self, slot: int) -> int:
        """The mask of who votes in this slot or in a later one."""
        mask = self.at(slot).mask
        for span in self.after(slot):
            mask |= span.mask
        return mask

    def check_own(self, node: int, change: Change) -> None:
        """Raises ValueError if the change introduces this node, which was told that it is a founder."""
        if change.epoch in (None, self.epoch):
            check_own(node, self.founders, change)

    def add(self, slot: int, change: Change) -> None:
        """A configuration was chosen in this slot; slots come in order."""
        first_slot = self.takes_effect_at(slot)
        if change.epoch not in (None, self.epoch) or first_slot <= self.epoch:
            return
        if not self.nodes.takes(change, self.founders):
            return
        try:
            quorums = self._config.quorum.build(change.members)
        except ValueError:
            return
        self.spans.append(Span(first_slot, change.members, quorums, self.nodes.after(change)))

    # --- snapshots ---

    def known_at(self, index: int) -> tuple[Membership, ...]:
        """What whoever starts from a snapshot at ``index`` has to know: the members of that slot and of later ones.

        Configurations chosen after ``index`` are not among them; they are in the log.
        """
        last = self.takes_effect_at(index)
        known = [span for span in self.spans if span.first_slot <= last]
        while len(known) > 1 and known[1].first_slot <= index:
            del known[0]
        return tuple(Membership(span.first_slot, span.members) for span in known)

    def nodes_at(self, index: int) -> Nodes:
        """Which nodes there are by what was chosen up to ``index``."""
        return self.at(self.takes_effect_at(index)).nodes

    def replace(self, memberships: Sequence[Membership], nodes: Nodes) -> None:
        """Start from a snapshot. Raises ValueError for what no correct node says."""
        self.spans = self.check(memberships, nodes)

    def check(self, memberships: Sequence[Membership], nodes: Nodes) -> list[Span]:
        """The spans. Raises ValueError for members that never were, or make no quorums, and for no members at all."""
        ever = {*self.founders, *(newcomer.node for newcomer in nodes.joined)}
        if not memberships or not all(m.members and ever.issuperset(m.members) for m in memberships):
            raise ValueError("memberships that name no members, or nodes outside the group")
        if not nodes.may_be(self.founders):
            raise ValueError("nodes that joined twice, or that were there before")
        build = self._config.quorum.build
        return [Span(m.first_slot, m.members, build(m.members), nodes) for m in memberships]

    def forget_before(self, slot: int) -> None:
        """Spans that end before the slot are not asked for any more."""
        while len(self.spans) > 1 and self.spans[1].first_slot <= slot:
            del self.spans[0]
