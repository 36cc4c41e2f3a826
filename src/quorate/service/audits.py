"""Audits: the nodes compare their states through the log, so that one that differs is found and stops.

How it works. A *point* is an index of the log: each multiple of ``entries``, and the place of each Mark, which the
leader has decided now and then. Every node computes the digests of its state at a point and has them decided, as
an Audit. So all hear the same audits in the same order, and each judges itself:

- a majority of the members agrees, and what this node has now is something else: it stops. That its own audit is one
  of those that agree, heard again after a restart, means that its code has changed;
- no majority can agree any more: nobody knows who is right, and all stop.

The judgement is no part of the state. A node that has no state at a point, as it started from a later snapshot, does
not judge there. Of two versions of a class the attributes that both have are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from quorate.kernel import AppEnded
from quorate.service.requests import Audit

POINT_ENTRIES: Final = 1000
POINTS_MAX: Final = 64
"""Older ones are forgotten: who is that late has caught up since, and compares at a newer one."""


class StateDiffers(AppEnded):
    """This node's state is not that of the others; or nobody knows whose is right. It cannot go on."""


class Audits:
    """What one node knows of the states of all. ``members`` says who votes now.

    ``entries``: there is a point at each multiple; the same on every node.
    """

    def __init__(self, node: int, members: Callable[[], Collection[int]], *, entries: int = POINT_ENTRIES) -> None:
        self.node = node
        self.members = members
        self.entries = entries
        self._mine: dict[int, Audit] = {}
        self._heard: dict[int, dict[int, Audit]] = {}

    def reach(self, point: int, version: int, digests: Mapping[str, bytes]) -> None:
        """This node's state at a point is so."""
        self._mine[point] = Audit(self.node, point, version, tuple(sorted(digests.items())))
        while len(self._mine) > POINTS_MAX:
            del self._mine[next(iter(self._mine))]

    def unheard(self) -> list[Audit]:
        """Its own audits that the log does not have yet, oldest first."""
        return [mine for point, mine in self._mine.items() if self.node not in self._heard.get(point, ())]

    def hear(self, audit: Audit) -> None:
        """The log has one of some node. Raises StateDiffers where this node cannot go on."""
        heard = self._heard.setdefault(audit.point, {})
        if audit.node in heard:
            return  # it was sent twice
        heard[audit.node] = audit
        while len(self._heard) > POINTS_MAX:
            del self._heard[min(self._heard)]
        mine = self._mine.get(audit.point)
        if mine is None:
            return
        self._judge(mine, heard)

    def _judge(self, mine: Audit, heard: Mapping[int, Audit]) -> None:
        members = frozenset(self.members())
        said = [audit for node, audit in heard.items() if node in members]
        majority = len(members) // 2 + 1
        agreeing = [sum(not differing(one, other) for other in said) for one in said]
        right = next((one for one, count in zip(said, agreeing, strict=True) if count >= majority), None)
        if right is not None:
            if names := differing(mine, right):
                before = heard.get(self.node)
                raise StateDiffers(_wrong(mine.point, names, before is not None and not differing(before, right)))
        elif max(agreeing, default=0) + len(members.difference(heard)) < majority:
            names = sorted({name for one in said for name in differing(one, said[0])})
            raise StateDiffers(
                f"after entry {mine.point} of the log no majority of the nodes {sorted(members)} has the same state: "
                f"{_listed(names)} differs. Nobody knows who is right, so all stop. A command that depends on more "
                "than its arguments and the state (the clock, chance, the order of a set) does this: mend it first"
            )


def _wrong(point: int, names: Collection[str], was_right: bool) -> str:
    """Why this node stops."""
    if was_right:
        return (
            f"after entry {point} of the log {_listed(names)} is not what the nodes, this one too, computed before: "
            "the code has changed. Start the code that made these data, or raise the class's `version` and keep the "
            "old body of the changed command for old entries"
        )
    return (
        f"after entry {point} of the log {_listed(names)} differs from what most nodes have: this node is wrong. A "
        "command that depends on more than its arguments and the state does this, or memory that fails. Find out, then "
        "remove this node and let it join again with an empty data folder"
    )


def differing(one: Audit, other: Audit) -> list[str]:
    """The names whose digests differ. A name that one alone has differs too, unless the versions do."""
    first, second = dict(one.digests), dict(other.digests)
    names = first.keys() | second.keys() if one.version == other.version else first.keys() & second.keys()
    return sorted(name for name in names if first.get(name) != second.get(name))


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names))
