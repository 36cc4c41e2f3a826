"""Mending: a simulated node that finds damage goes on as one that has forgotten, as a real one does (ADR 0045).

How it works. The real recovery says what stands before the damage; a node that starts with it is another incarnation.
What a real node compares before that is compared here: the snapshot from which the journal goes on must be there, and
none may hold more than the journal does; otherwise it starts with nothing. Until it has returned it counts as doomed,
so at most as many as the protocol tolerates are without their memory or gone (``disk_nemesis.py``): of what was
acknowledged, a quorum always has a copy. Then the next one may be struck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final
from typing import Protocol as Interface

from quorate.kernel import ROOT, Host, Record
from quorate.kernel.standing import LEARNER
from quorate.parts.log.replicated import Journaled
from quorate.sim.damage import UNNOTICED, Refusal
from quorate.sim.ground import Ground
from quorate.sim.snapshot_store import SimSnapshots

MENDED: Final = "mended"
RETURNED: Final = "mended and back"
AGAIN_S: Final = 0.05
"""After how long a process that found its snapshot damaged has started the node again."""

Frames = Sequence[Sequence[Record]]


class Mended(Interface):
    """A node of a simulated world (``node.py``)."""

    id: int
    life: int
    up: bool
    incarnation: bytes
    disk: Any
    stores: dict[Any, SimSnapshots]
    world: Any

    @property
    def is_durable(self) -> bool:
        """Whether all that it has written is."""

    def new_host(self, incarnation: bytes) -> Host:
        """A host of this node that has not started."""

    def lose_folder(self, incarnation: bytes) -> None:
        """The process is gone, and all that it kept."""


def may_mend(node: Mended, how: str) -> bool:
    """Whether the node has a way back from what its disk did to it, and the world knows that it is damaged."""
    world = node.world
    if how == UNNOTICED or not world.storage.mends or node.id not in world.doomed:
        return False
    return not node.new_host(b"repaired").root.unrepairable()


def forget(node: Mended, refusal: Refusal) -> Frames:
    """The node is another incarnation from now on; the frames with which it starts."""
    world = node.world
    world.refusals[MENDED] = world.refusals.get(MENDED, 0) + 1
    incarnation = Random(f"{world.seed}/mending/{node.id}/{node.life}").getrandbits(128).to_bytes(16, "big")
    if not world.storage.forgets:
        incarnation = node.incarnation
    kept = refusal.kept
    if not _can_stand(node, incarnation, kept):
        kept = ()
        node.disk.lose()
        node.stores = {ROOT: world.storage.snapshots()}
    node.disk.keep(len(kept))
    node.incarnation = incarnation
    if world.tracing:
        world.trace(node.id, MENDED, f"{len(kept)} frames", str(refusal))
    if world.storage.forgets:
        for checker in world.checkers:
            checker.lost(node.id)
    world.mending.add(node.id)
    return kept


def _can_stand(node: Mended, incarnation: bytes, kept: Frames) -> bool:
    """As ``runtime/opening.py`` compares journal and snapshots."""
    host = node.new_host(incarnation)
    try:
        for frame in kept:
            for record in frame:
                host.restore(record)
    except ValueError:
        return False
    core = host.root
    if not kept or not isinstance(core, Journaled):
        return False
    indexes = [index for snapshots in node.stores.values() for index in snapshots.indexes]
    return core.stands_on in (0, *indexes) and max(indexes, default=0) <= core.log_end


class Menders:
    """Who has mended its folder and has not returned. ``count(name)`` counts what happened."""

    def __init__(self, world: Ground[Any], count: Callable[[str], None]) -> None:
        self._world = world
        self._count = count

    def look(self) -> None:
        """One that has returned, and is not damaged again, counts as any other."""
        world = self._world
        for number in sorted(world.mending):
            node = world.nodes[number]
            if node not in world.present:
                world.mending.discard(number)
            elif node.up and node.is_durable and node.host.root.standing().role != LEARNER and _is_whole(node):
                world.mending.discard(number)
                world.doomed.discard(number)
                self._count(RETURNED)

    @property
    def has_settled(self) -> bool:
        """Whether all have returned that could. Damage that nobody has found yet is no reason to wait."""
        self.look()
        return not any(self._is_awaited(number) for number in self._world.mending)

    def missing(self) -> str:
        """Who has not, for a person."""
        awaited = [number for number in sorted(self._world.mending) if self._is_awaited(number)]
        return f"nodes {awaited} mended their folders and have not returned" if awaited else ""

    def _is_awaited(self, number: int) -> bool:
        node = self._world.nodes[number]
        return not node.up or node.host.root.standing().role == LEARNER


def _is_whole(node: Any) -> bool:
    return node.disk.is_sound and not any(snapshots.spoiled for snapshots in node.stores.values())
