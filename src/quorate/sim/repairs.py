"""Repairs: nodes lose all that they kept, and are repaired from the others (``--repairs``).

How it works. Now and then a node goes down, often one that leads, and its disk is empty. After a while it starts as
another incarnation, as ``quorate node --repair`` has it. At most as many as the protocol tolerates are without their
memory at a time: the others must be a quorum without them, and if they are not, nothing goes on. What the checkers say
is as without any of this: what clients were told stays, and nobody decides otherwise.

The hardest case is brought about on purpose. A leader is elected while an older one, which was cut off, still leads.
At that moment one that may have voted loses its memory, starts at once, and reaches the older leader, while the new one
is cut off. And often the leader is cut off when another node loses its memory, which may be all that knew, besides the
leader, of what was just committed.

It is no kind of ``--faults``, as what it needs of a run (nothing else may take nodes or disks for good) would change
what the seeds do that have other kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from quorate.kernel import Core
from quorate.kernel.standing import LEARNER
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode
from quorate.sim.swarm import Mix, log_uniform

AIMED: Final = 0.3
"""How often a node that leads is struck."""
AGAIN: Final = 0.15
"""How often one is struck that has not returned yet, if there is one."""
TURNED: Final = 0.8
"""How often an election while an older leader still leads is followed by that."""
TURNED_S: Final = 1.0
"""How long it lasts, on average."""
AT_ONCE_S: Final = 0.02
"""After how long it is there again, on average."""
ALONE: Final = 0.4
"""How often the leader is cut off when another node loses its memory."""
APART: Final = 0.5
"""How many seeds have new leaders cut off often, as it is votes that must not be lost."""


def draw_repairs(mix: Mix, rng: Random, faults: tuple[str, ...], lost_max: int) -> None:
    """How often nodes lose their folders. Nothing else may take a node, or what it has, for good; nobody comes or goes.

    ``lost_max``: how many may be without their memory at a time.
    """
    mix.loss_every_s, mix.lost_max = log_uniform(rng, 0.8, 6.0), lost_max
    mix.members_every_s = mix.plan_every_s = None
    if rng.random() < APART and "partition" in faults:
        mix.partition_every_s, mix.partition_s = log_uniform(rng, 0.3, 1.5), log_uniform(rng, 0.2, 2.0)
        mix.coup = max(mix.coup, 0.5)
    mix.stretch = max(mix.stretch, 2.0)


def _leads(node: SimNode) -> bool:
    return node.host.root.standing().was_elected


class Repairs:
    """``count(name)`` counts what happened; ``cut(node)`` cuts one node off, and nobody else, until what it returns."""

    def __init__(
        self, world: Ground[SimNode], count: Callable[[str], None], cut: Callable[[int], Callable[[], None]]
    ) -> None:
        self._world = world
        self._count = count
        self._cut = cut
        self._known: dict[int, int] = {}
        """The last term or ballot in which each node was seen to lead."""
        self._rng = Random(f"{world.seed}/nemesis/repairs")
        self._over = False
        self._lost: set[int] = set()
        """Those that have not returned yet, as far as it was looked."""

    def start(self) -> None:
        """Begin."""
        self._world.after(self._wait_s(), self._strike)
        self._world.on_step.append(self._watch)

    def finish(self) -> None:
        """Whoever is down is started by whoever heals."""
        self._over = True

    @property
    def has_settled(self) -> bool:
        """Whether all have returned."""
        self._look()
        return not self._lost

    def missing(self) -> str:
        """Who has not, for a person."""
        self._look()
        return f"nodes {sorted(self._lost)} lost their folders and have not returned" if self._lost else ""

    def _wait_s(self) -> float:
        every_s = self._world.mix.loss_every_s
        assert every_s is not None
        return self._rng.expovariate(1.0 / every_s)

    def _look(self) -> None:
        for number in sorted(self._lost):
            node = self._world.nodes[number]
            if node.up and node.is_durable and node.host.root.standing().role != LEARNER:
                self._lost.discard(number)
                self._count("returned")

    def _strike(self) -> None:
        if self._over:
            return
        self._look()
        node = self._victim()
        is_alone = self._rng.random() < ALONE
        leading = [other for other in self._world.present if other is not node and other.up and _leads(other)]
        if node is not None:
            self._lose(node, AT_ONCE_S if is_alone else self._world.mix.down_s)
        if node is not None and is_alone and leading:
            self._count("lost folders without leader")
            self._mend_later(self._cut(leading[0].id))
        self._world.after(self._wait_s(), self._strike)

    def _lose(self, node: SimNode, down_s: float) -> None:
        self._count("lost folders")
        self._lost.add(node.id)
        node.lose_folder(self._rng.getrandbits(128).to_bytes(16, "big"))
        if self._world.tracing:
            self._world.trace(node.id, "lost folder", "", node.incarnation.hex())
        self._world.after(self._rng.expovariate(1.0 / down_s), self._restart(node))

    # --- an election while another leads ---

    def _watch(self, number: int, core: Core) -> None:
        standing = core.standing()
        if not standing.was_elected or self._known.get(number) == standing.term or self._over:
            return
        self._known[number] = standing.term
        older = [node for node in self._world.present if node.id != number and node.up and _leads(node)]
        if older and self._rng.random() < TURNED:
            # The step is not over: what it sends may be lost, as at any cut.
            self._world.after(self._rng.expovariate(1.0 / AT_ONCE_S), lambda: self._turn(number))

    def _turn(self, number: int) -> None:
        self._look()
        others = [node for node in self._world.present if node.id != number and not (node.up and _leads(node))]
        if self._over or len(self._lost) >= self._world.mix.lost_max or not others:
            return
        self._count("lost folders after votes")
        mend = self._cut(number)
        self._lose(others[int(self._rng.random() * len(others))], AT_ONCE_S)
        self._mend_later(mend)

    def _mend_later(self, mend: Callable[[], None]) -> None:
        self._world.after(self._rng.expovariate(1.0 / TURNED_S), lambda: None if self._over else mend())

    def _restart(self, node: SimNode) -> Callable[[], None]:
        return lambda: None if self._over else node.restart()

    def _victim(self) -> SimNode | None:
        """As many may be without their memory as may be away."""
        rng, nodes = self._rng, list(self._world.present)
        again, aimed, draw = rng.random() < AGAIN, rng.random() < AIMED, rng.random()
        if again and self._lost:
            nodes = [node for node in nodes if node.id in self._lost]
        elif len(self._lost) >= self._world.mix.lost_max:
            return None
        elif aimed:
            leading = [node for node in nodes if node.up and _leads(node)]
            nodes = leading or nodes
        return nodes[int(draw * len(nodes))] if nodes else None
