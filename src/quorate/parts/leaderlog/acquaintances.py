"""Acquaintances: whom a node knows, where nodes come and go by a log that a leader keeps.

How it works. Which nodes there are follows from the founders and the log (``parts/log/configuration.py``), so every
life of a node finds the same. A newcomer is met when the log says that it is there. From a node that has left one parts
only when its vote is not needed any more and it does not lead: until then it is *leaving*. A node that was away while
others came is told of them by those whom it knows, or it would not take the calls of a newcomer that leads. Nothing
here is durable.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from quorate.kernel import Env
from quorate.parts.log.configuration import Nodes

KNOWN_MAX: Final = 64
"""So many nodes are known to one that is told of others: each is dialled, whether it is there or not."""
LEFT = "it has left the cluster"
NEVER_CAME = "the change that introduced it was never decided"


class NodesKnown(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """You ask whether you could lead, and lack what I have: these nodes came and went, by what is committed here."""

    nodes: Nodes


class Acquaintances:
    """One node's."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._met: set[int] = set()
        """Of those that are known here, whom the log introduced."""
        self._told: set[int] = set()
        """Of those, whom another node introduced, and the log has not."""
        self._places: dict[int, str] = {}
        """Where nodes are that moved, by the log."""
        self.leaving: list[int] = []
        """Nodes that left, and are still known here."""

    def meet(self, nodes: Nodes, left: Collection[int], needed: int) -> list[int]:
        """Meet who joined, but those among ``left`` that are not needed; returns them. ``needed``: whose votes are."""
        env, met = self._env, []
        for newcomer in nodes.joined:
            is_here = newcomer.node not in left or needed >> newcomer.node & 1
            if is_here and (newcomer.node not in env.peers or newcomer.node in self._told):
                env.meet(newcomer.address, newcomer.key, newcomer.node)
                met.append(newcomer.node)
        self._follow_moves(nodes)
        self._met.update(met)
        self._told.difference_update(met)
        self.leaving = [node for node in left if node in env.peers and node != env.id]
        return met

    def _follow_moves(self, nodes: Nodes) -> None:
        """A node that restarts may hear of what is decided only from one that moved: it goes by its log."""
        for place in nodes.places:
            node, is_known = place.node, self._places.get(place.node) == place.peer
            if not is_known and node in self._env.others:
                self._places[node] = place.peer
                key = next((newcomer.key for newcomer in nodes.joined if newcomer.node == node), b"")
                self._env.meet(place.peer, key, node)

    def introduced(self, nodes: Nodes, founders: Collection[int]) -> None:
        """Another node says that it knows these: meet those that are there, as the log will say, too.

        Whom a node knows decides nothing; who votes is in the log alone. If the log gives another address, that counts.
        """
        env = self._env
        if nodes.may_be(founders):
            for newcomer in nodes.joined:
                is_new = newcomer.node not in nodes.left and newcomer.node not in env.peers
                if is_new and len(env.peers) < KNOWN_MAX:
                    place = nodes.place(newcomer.node)
                    env.meet(newcomer.address if place is None else place.peer, newcomer.key, newcomer.node)
                    self._told.add(newcomer.node)

    def part(self, needed: int, leader: int | None) -> list[int]:
        """Part from those who left, as soon as they are not needed; returns them."""
        parted = [node for node in self.leaving if node != leader and not needed >> node & 1]
        for node in parted:
            self._part(node, LEFT)
        return parted

    def forget(self, nodes: Nodes) -> list[int]:
        """Part from those whose introduction is in the log no more, as it was not decided; returns them."""
        joined = {newcomer.node for newcomer in nodes.joined}
        parted = sorted(self._met - joined)
        for node in parted:
            self._part(node, NEVER_CAME)
        return parted

    def _part(self, node: int, why: str) -> None:
        self._met.discard(node)
        if node in self.leaving:
            self.leaving.remove(node)
        self._env.part(node, why)
