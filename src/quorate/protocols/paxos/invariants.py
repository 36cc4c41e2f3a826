"""What Paxos rests on, looked at in a log of one instance a slot (``parts/slots.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.sim.checkers.ballots import IDLE, Ballots, Life


class PaxosInvariants(Ballots):
    """A log of one instance a slot (``parts/slots.py``)."""

    def __init__(self) -> None:
        super().__init__()
        self._quorum: Any = None

    def is_quorum(self, slot: int, nodes: int) -> bool:
        return bool(self._quorum.is_quorum(nodes))

    def is_over(self, core: Any, slot: int) -> bool:
        return slot <= core.delivered or slot in core.ahead

    def memory(self, core: Any) -> Iterator[tuple[int, Ballot, Ballot]]:
        for slot, single in core.open.items():
            yield slot, single.acceptor.promised, single.acceptor.accepted

    def look(self, node: int, core: Any, life: Life) -> None:
        for slot, single in core.open.items():
            self._quorum = single.quorums.phase2
            acceptor, proposer = single.acceptor, single.proposer
            now = (acceptor.promised, acceptor.accepted, proposer.ballot)
            promised, accepted, began = life.noted.get(slot, (NO_BALLOT, NO_BALLOT, NO_BALLOT))
            if now == (promised, accepted, began):
                continue
            life.noted[slot] = now
            if acceptor.promised != promised:
                self.promise(node, life, slot, acceptor.promised)
            if acceptor.accepted != accepted:
                self.accept(node, life, slot, acceptor.accepted, acceptor.value)
            if proposer.ballot != began and proposer.phase not in IDLE:
                self.begin(node, life, slot, proposer.ballot)
