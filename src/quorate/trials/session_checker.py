"""Whoever uses a session keeps it: made-up keys, which cost nothing, do not have established sessions expire."""

from __future__ import annotations

from typing import Any

from quorate.service.replica import Replica
from quorate.service.sessions import ESTABLISHED_USES, PER_OWNER_MIN, Session, Sessions
from quorate.sim.checkers.base import Checker, Violation

KEPT = "established sessions are kept"
EVERY_STEPS = 32
"""How often it looks at a node's table."""


class SessionsLast(Checker):
    """Compares the table of each honest node with what it was a while before.

    An established session goes for three reasons: its owner closes it, its owner opens more than one may have, or more
    than nine tenths of the table are established.
    """

    def __init__(self, owners: frozenset[bytes]) -> None:
        """``owners``: the public keys of those who close no session."""
        self._owners = owners
        self._world: Any = None
        self._steps: dict[int, int] = {}
        self._seen: dict[int, dict[int, Session]] = {}
        """By node, what was established."""

    def watch(self, world: Any) -> None:
        self._world = world

    def started(self, node: int, core: Any) -> None:
        """Its table is that of its snapshot."""
        self._seen.pop(node, None)

    def stepped(self, node: int, core: Any) -> None:
        steps = self._steps[node] = self._steps.get(node, 0) + 1
        if steps % EVERY_STEPS == 0:
            app = self._world.nodes[node].app
            if isinstance(app, Replica):
                self._look(node, app.sessions)

    def _look(self, node: int, sessions: Sessions) -> None:
        table = dict(Sessions.decode(sessions.encode()))
        established = {id_: session for id_, session in table.items() if session.uses >= ESTABLISHED_USES}
        before = self._seen.get(node, {})
        self._seen[node] = established
        if len(before) >= sessions.count_max * 9 // 10 or len(established) >= sessions.count_max * 9 // 10:
            return
        for id_, session in before.items():
            if id_ in table or session.owner not in self._owners:
                continue
            if sum(other.owner == session.owner for other in table.values()) < PER_OWNER_MIN:
                raise Violation(KEPT, f"node {node} let session {id_} expire, which {session.uses} requests had used")
