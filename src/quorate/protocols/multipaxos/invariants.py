"""What Paxos rests on, looked at in the acceptors of Multi-Paxos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.sim.checkers.ballots import IDLE, Ballots, Life


class MultiPaxosInvariants(Ballots):
    """Multi-Paxos: an acceptor's log has consecutive slots in one ballot, and other votes lie ahead of it.

    Whose votes count in a slot is known once all up to a window before is chosen; what a node says of that stays true.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spans: dict[int, Any] = {}
        """From the first slot of a span to its phase-2 quorums; no node remembers them all."""
        self._known = 0

    def is_quorum(self, slot: int, nodes: int) -> bool:
        if slot > self._known:
            return False
        return bool(self._spans[max(first for first in self._spans if first <= slot)].is_quorum(nodes))

    def is_over(self, core: Any, slot: int) -> bool:
        return slot > 0 and slot <= core.acceptor.chosen_index

    def memory(self, core: Any) -> Iterator[tuple[int, Ballot, Ballot]]:
        acceptor = core.acceptor
        yield 0, acceptor.promised, NO_BALLOT
        for slot in range(acceptor.chosen_index + 1, acceptor.log.last_index + 1):
            yield slot, NO_BALLOT, acceptor.ballot
        for slot, (ballot, _) in acceptor.ahead.items():
            yield slot, NO_BALLOT, ballot

    def look(self, node: int, core: Any, life: Life) -> None:
        acceptor = core.acceptor
        known = acceptor.chosen_index + core.config.alpha
        if known > self._known:
            self._known = known
            for span in core.members.spans:
                self._spans.setdefault(span.first_slot, span.quorums.phase2)
        if acceptor.promised != life.noted.get("promised", NO_BALLOT):
            life.noted["promised"] = acceptor.promised
            self.promise(node, life, 0, acceptor.promised)
        if core.role not in IDLE and core.ballot != life.noted.get("ballot"):
            life.noted["ballot"] = core.ballot
            self.begin(node, life, 0, core.ballot)
        if acceptor.changes != life.changes:
            life.changes = acceptor.changes
            self._look_at_votes(node, acceptor, life)
        life.chosen_index = acceptor.chosen_index

    def _look_at_votes(self, node: int, acceptor: Any, life: Life) -> None:
        log, ballot = acceptor.log, acceptor.ballot
        if ballot != life.log_ballot:
            life.log_ballot, life.last = ballot, life.chosen_index
        first = max(life.last, log.base_index) + 1
        if first <= log.last_index:
            for slot, entry in enumerate(log.slice(first, log.last_index), first):
                self.accept(node, life, slot, ballot, entry)
        life.last = log.last_index
        for slot, (voted, entry) in acceptor.ahead.items():
            if life.noted.get((slot, voted)) is None:
                life.noted[slot, voted] = True
                self.accept(node, life, slot, voted, entry)
