"""What Paxos rests on (Lamport 2001), looked at after every step of every node: one instance a slot, or Multi-Paxos.

It reads what acceptors promised and accepted, and in which ballots proposers stand. Of each slot and ballot there is
one value, whoever accepted it (P2b, §2.2). A value is chosen when acceptances of one ballot that *left their nodes*
make a phase-2 quorum; from then on nobody accepts another value in a higher ballot (P2). A promise, an acceptance and a
ballot that left a node are not taken back by any crash (§2.5): the promise holds, the acceptance is there, the ballot
is not used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.sim.checkers.base import Checker, Violation

ONE_VALUE = "one value a ballot"
CHOSEN = "what is chosen stays"
PROMISE = "promises are kept"
REUSE = "ballots are used once"

IDLE = ("idle", "follower", "polling")
"""Phases in which a node proposes nothing."""


class Life:
    """What the checker saw of one life of a node, and how far of it was told to others."""

    __slots__ = (
        "ballot",
        "begun",
        "begun_told",
        "changes",
        "chosen_index",
        "last",
        "log_ballot",
        "noted",
        "promised",
        "promises",
        "promises_told",
        "votes",
        "votes_told",
    )

    def __init__(self) -> None:
        self.promises: list[tuple[int, Ballot]] = []
        self.votes: list[tuple[int, Ballot]] = []
        self.begun: list[tuple[int, Ballot]] = []
        self.promises_told = self.votes_told = self.begun_told = 0
        """How many of each left the node."""
        self.noted: dict[Any, Any] = {}
        # Of Multi-Paxos alone.
        self.promised = NO_BALLOT
        self.ballot = NO_BALLOT
        """Of its own, the newest that it began."""
        self.changes = -1
        self.chosen_index = 0
        self.last = 0
        self.log_ballot = NO_BALLOT


class Ballots(Checker):
    """The rules. A subclass says where a core keeps its promises, votes and ballots; slot 0 stands for all slots."""

    def __init__(self) -> None:
        self.values: dict[int, dict[Ballot, Any]] = {}
        """By slot and ballot, the value that was accepted."""
        self.chosen: dict[int, tuple[Ballot, Any]] = {}
        """By slot, the lowest ballot in which a quorum accepted, and its value."""
        self.told: dict[int, dict[Ballot, int]] = {}
        """By slot and ballot, the mask of the nodes that accepted and told others."""
        self._lives: dict[int, Life] = {}
        self._promised: dict[int, dict[int, Ballot]] = {}
        self._voted: dict[int, dict[int, Ballot]] = {}
        self._begun: dict[int, set[tuple[int, Ballot]]] = {}

    # --- what a subclass knows ---

    def look(self, node: int, core: Any, life: Life) -> None:
        """Note what is new, with ``promised``, ``accepted`` and ``began``."""
        raise NotImplementedError

    def is_quorum(self, slot: int, nodes: int) -> bool:
        """Whether these nodes are a phase-2 quorum of the slot."""
        raise NotImplementedError

    def memory(self, core: Any) -> Iterator[tuple[int, Ballot, Ballot]]:
        """What a core that restarts remembers, of each slot: promised, accepted."""
        raise NotImplementedError

    def is_over(self, core: Any, slot: int) -> bool:
        """Whether the node has the chosen value of the slot, and needs no vote for it."""
        raise NotImplementedError

    # --- a node's life ---

    def started(self, node: int, core: Any) -> None:
        remembered = {slot: (promised, accepted) for slot, promised, accepted in self.memory(core)}
        for told, position, what in ((self._promised, 0, "promised"), (self._voted, 1, "accepted in")):
            for slot, ballot in told.get(node, {}).items():
                if not self.is_over(core, slot) and remembered.get(slot, (NO_BALLOT, NO_BALLOT))[position] < ballot:
                    raise Violation(
                        PROMISE,
                        f"node {node} had {what} ballot {ballot}{_in(slot)} and told others; after a restart it "
                        f"remembers {remembered.get(slot, (NO_BALLOT, NO_BALLOT))[position]}",
                    )
        self._lives[node] = Life()
        self.stepped(node, core)

    def lost(self, node: int) -> None:
        """What it told others is out all the same; but it may use a ballot again in which nobody heard of it."""
        self._promised.pop(node, None)
        self._voted.pop(node, None)
        self._begun.pop(node, None)

    def stepped(self, node: int, core: Any) -> None:
        self.look(node, core, self._lives[node])

    def mark(self, node: int) -> tuple[Life, int, int, int]:
        # Of each Turn, also where nothing is new: one that overtakes earlier ones tells what they did not yet.
        life = self._lives[node]
        return life, len(life.promises), len(life.votes), len(life.begun)

    def released(self, node: int, mark: tuple[Life, int, int, int]) -> None:
        life, promises, votes, begun = mark
        if promises > life.promises_told:
            kept = self._promised.setdefault(node, {})
            for slot, ballot in life.promises[life.promises_told : promises]:
                kept[slot] = max(ballot, kept.get(slot, NO_BALLOT))
            life.promises_told = promises
        if begun > life.begun_told:
            self._begun.setdefault(node, set()).update(life.begun[life.begun_told : begun])
            life.begun_told = begun
        if votes > life.votes_told:
            voted = self._voted.setdefault(node, {})
            for slot, ballot in life.votes[life.votes_told : votes]:
                voted[slot] = max(ballot, voted.get(slot, NO_BALLOT))
                self._count(node, slot, ballot)
            life.votes_told = votes

    # --- what is new ---

    def promise(self, node: int, life: Life, slot: int, ballot: Ballot) -> None:
        """A node promised."""
        life.promises.append((slot, ballot))

    def begin(self, node: int, life: Life, slot: int, ballot: Ballot) -> None:
        """A node begins a ballot of its own."""
        if (slot, ballot) in self._begun.get(node, ()):
            raise Violation(REUSE, f"node {node} uses ballot {ballot}{_in(slot)} again after a restart")
        life.begun.append((slot, ballot))

    def accept(self, node: int, life: Life, slot: int, ballot: Ballot, value: Any) -> None:
        """A node accepted."""
        values = self.values.setdefault(slot, {})
        known = values.setdefault(ballot, value)
        if known is not value and known != value:
            raise Violation(
                ONE_VALUE,
                f"node {node} accepts {value!r} in ballot {ballot} and slot {slot}, where another has {known!r}",
            )
        chosen = self.chosen.get(slot)
        if chosen is not None:
            self._compare(slot, chosen, ballot, value)
        life.votes.append((slot, ballot))

    def _count(self, node: int, slot: int, ballot: Ballot) -> None:
        told = self.told.setdefault(slot, {})
        told[ballot] = told.get(ballot, 0) | 1 << node
        self._choose(slot, ballot)

    def recount(self, slot: int) -> None:
        """Whose votes count in the slot was not known until now."""
        for ballot in sorted(self.told.get(slot, ())):
            self._choose(slot, ballot)

    def _choose(self, slot: int, ballot: Ballot) -> None:
        chosen = self.chosen.get(slot)
        if (chosen is None or ballot < chosen[0]) and self.is_quorum(slot, self.told[slot][ballot]):
            chosen = self.chosen[slot] = (ballot, self.values[slot][ballot])
            for other, value in self.values[slot].items():
                self._compare(slot, chosen, other, value)

    def _compare(self, slot: int, chosen: tuple[Ballot, Any], ballot: Ballot, value: Any) -> None:
        if ballot > chosen[0] and chosen[1] is not value and chosen[1] != value:
            raise Violation(
                CHOSEN,
                f"in slot {slot} ballot {chosen[0]} chose {chosen[1]!r}, but ballot {ballot} goes on with {value!r}",
            )


def _in(slot: int) -> str:
    return f" in slot {slot}" if slot else ""
