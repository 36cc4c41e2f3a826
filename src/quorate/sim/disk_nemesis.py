"""DiskNemesis: has disks fail in ways that no crash does, and never at more nodes than the protocol can lose.

How it works. What damages something durable dooms its node: from then on the node may refuse to start, and is not
missed. At most ``Storage.borne`` nodes are doomed, dead or lying at any time, so a quorum keeps what was acknowledged.
Where nodes mend their folders (``mending.py``), one that has returned is doomed no more, and another may be struck.
A doomed node is killed some time later, so that its damage is found. A sync that fails, one that hangs, and a snapshot
that does not fit damage nothing that was durable, and strike any node.

A disk that hangs is also the last that happens in a run that has the kind, if a node can be spared: all else is well
then, and clients must be answered all the same.

Where members may be set to any few nodes, none is doomed: one of them could be all that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from quorate.sim.damage import Damage, Flipped, Lost, Misdirected, Unreadable
from quorate.sim.ground import Ground
from quorate.sim.hangs import watch_hang
from quorate.sim.mending import Menders
from quorate.sim.node import SimNode
from quorate.sim.options import DISK_FAULTS
from quorate.sim.swarm import Mix, log_uniform

DAMAGING: Final = DISK_FAULTS[:6]
"""The kinds after which a node may never return."""
OF_JOURNALS: Final = DISK_FAULTS[:5]
SPARED: Final = 0.2
"""How many seeds have no such faults at all, where others are allowed."""
ALONE: Final = 0.3
"""How often a seed has one kind that damages journals, and not two: few nodes may be struck, and each kind needs its
turn."""
SPOILED: Final = 0.35
"""How often it is snapshots that are damaged, and nothing else fails: they come late, when other faults would have
taken whoever can be spared."""
BUSY_S: Final = 0.01
"""How long clients think at most then, so that there are snapshots soon."""
CHOSEN: Final = 0.5
"""How often each of the other kinds is among those of a seed."""
AIMED: Final = 0.4
"""How often a node that leads is struck."""
FOUND_S: Final = 1.0
"""After how long a damaged node is killed, on average, and how long it is down."""
LIE_S: Final = 0.5
"""For how long syncs lie, on average."""
POWER_FAILS: Final = 0.7
"""How often power fails while they do."""
FULL_S: Final = 1.0
HANGS: Final = 0.4
"""How often disks also hang."""
OVERLAP: Final = 0.2
"""How often one begins to hang while another does."""
RESTARTED: Final = 0.3
"""How often a hang ends only with a restart of the process."""
FINAL_S: Final = 6.0
"""For how long the last one lasts, at least, while clients ask on: longer than it takes to be noticed."""
NO_ROOM: Final = "no space left on the device"


def draw_disks(mix: Mix, rng: Random, faults: tuple[str, ...], *, dooms: bool) -> None:
    """Which of the kinds that are allowed a seed has; without ``dooms`` none that damage what is durable.

    Where other faults are allowed too, some seeds have none of these.
    """
    is_spared = rng.random() < SPARED
    of_journals = rng.sample(OF_JOURNALS, 1 if rng.random() < ALONE else 2)
    damaging = ["snapshot-rot"] if rng.random() < SPOILED else of_journals
    others = [kind for kind in ("sync-error", "snapshot-full") if rng.random() < CHOSEN]
    chosen = damaging if damaging == ["snapshot-rot"] else [*damaging, *others]
    every_s = log_uniform(rng, 0.2, 3.0)
    if rng.random() < HANGS:  # drawn last, so that seeds without it are as they were before there was one
        chosen.append("hung-disk")
    hang_s = log_uniform(rng, 1.0, 10.0)
    may = [kind for kind in faults if kind in DISK_FAULTS and (dooms or kind not in DAMAGING)]
    only = tuple(kind for kind in chosen if kind in may) or tuple(may)
    if only and not (is_spared and len(may) < len(faults)):
        mix.disk_faults, mix.disk_fault_every_s, mix.hang_s = only, every_s, hang_s
        if "snapshot-rot" in only:
            mix.clients, mix.think_s = max(mix.clients, 8), min(mix.think_s, BUSY_S)
            mix.calm(4.0)
            mix.stretch = max(mix.stretch, 2.0)
            mix.disk_fault_every_s = min(every_s, 0.3)


class DiskNemesis:
    """``count(name)`` counts what happened."""

    def __init__(self, world: Ground[SimNode], count: Callable[[str], None]) -> None:
        self._world = world
        self._count = count
        self._over = False
        self.menders = Menders(world, count)
        self._strikes: dict[str, Callable[[Random], bool]] = {
            "bit-rot": lambda rng: self._damage(rng, lambda _: Flipped(rng.random())),
            "misdirected-write": lambda rng: self._damage(rng, lambda write: Misdirected(write, rng.random())),
            "lost-write": lambda rng: self._damage(rng, Lost),
            "read-error": lambda rng: self._damage(rng, lambda _: Unreadable()),
            "lying-sync": self._lie,
            "snapshot-rot": self._spoil,
            "sync-error": self._fail,
            "snapshot-full": self._fill,
            "hung-disk": self._hang,
        }

    def start(self) -> None:
        """Each kind of the seed at its own pace."""
        mix = self._world.mix
        for kind in mix.disk_faults:
            self._plot(Random(f"{self._world.seed}/nemesis/{kind}"), kind, mix.disk_fault_every_s)

    def finish(self) -> None:
        """All is healed: what is damaged stays so, and nothing more breaks."""
        self._over = True
        for node in self._world.nodes:
            node.disk.is_failing = False
            node.disk.lie(is_lying=False)
            node.disk.release()
            for snapshots in node.stores.values():
                snapshots.full = None

    def hang_last(self, rng: Random) -> SimNode | None:
        """All is healed but the disk of one node, mostly one that leads; None if the run is not for that."""
        world = self._world
        changes = world.change is not None and (
            world.mix.members_every_s is not None or world.mix.plan_every_s is not None
        )
        is_last = changes or world.mix.gone or world.mix.loss_every_s is not None
        if "hung-disk" not in world.mix.disk_faults or is_last:
            return None
        node = self._victim(
            rng, [node for node in world.honest if node.up and node.id not in world.doomed and self._may_doom(node)]
        )
        if node is not None:
            self._hang_now(node)
            self._count("hung at the end")
        return node

    def _plot(self, rng: Random, kind: str, every_s: float) -> None:
        def act() -> None:
            if self._over:
                return
            if self._strikes[kind](rng):
                self._count(kind)
            self._world.after(rng.expovariate(1.0 / every_s), act)

        self._world.after(rng.expovariate(1.0 / every_s), act)

    # --- whom ---

    def _may_doom(self, node: SimNode) -> bool:
        """Whether the rest bears that it never returns."""
        world = self._world
        self.menders.look()
        if node.id in world.doomed:
            return True
        gone = {other.id for other in world.nodes if other not in world.present} | world.doomed
        return len(gone) + world.liars.bit_count() < world.storage.borne

    def _victim(self, rng: Random, nodes: list[SimNode]) -> SimNode | None:
        aimed, draw = rng.random() < AIMED, rng.random()
        leading = [node for node in nodes if node.up and node.host.root.standing().was_elected]
        chosen = leading if aimed and leading else nodes
        return chosen[int(draw * len(chosen))] if chosen else None

    def _doom(self, node: SimNode) -> None:
        self._world.doomed.add(node.id)

    def _say(self, node: SimNode, event: str, what: object) -> None:
        if self._world.tracing:
            self._world.trace(node.id, event, "", what)

    def _kill_later(self, rng: Random, node: SimNode, mean_s: float, power: bool = False) -> None:
        """And start it again some time after that."""
        world = self._world

        def kill() -> None:
            if self._over or node not in world.present:
                return
            if power and node.disk.lose_power():
                self._count("syncs lost")
            if node.up:
                node.crash()
            world.after(rng.expovariate(1.0 / FOUND_S), lambda: None if self._over else node.restart())

        world.after(rng.expovariate(1.0 / mean_s), kill)

    # --- what ---

    def _damage(self, rng: Random, make: Callable[[int], Damage]) -> bool:
        """Something durable of a journal is damaged, mostly unseen until the node starts again."""
        world = self._world
        if world.storage.medium is None:
            return False
        node = self._victim(rng, [node for node in world.honest if node.disk.journal and self._may_doom(node)])
        if node is None:
            return False
        numbers = node.disk.numbers
        damage = make(numbers[int(rng.random() * len(numbers))])
        self._doom(node)
        node.disk.damage.append(damage)
        self._say(node, "damage", damage)
        self._kill_later(rng, node, FOUND_S)
        return True

    def _lie(self, rng: Random) -> bool:
        """Syncs report success for a while, and power fails before the disk has written what it reported, or not."""
        node = self._victim(rng, [node for node in self._world.honest if self._may_doom(node)])
        if node is None:
            return False
        self._doom(node)
        node.disk.lie(is_lying=True)
        self._say(node, "lying disk", "")
        if rng.random() < POWER_FAILS:
            self._kill_later(rng, node, LIE_S, power=True)
        else:
            self._world.after(rng.expovariate(1.0 / LIE_S), lambda: node.disk.lie(is_lying=False))
        return True

    def _spoil(self, rng: Random) -> bool:
        """The file of a snapshot changes."""
        having = [
            node
            for node in self._world.honest
            if self._may_doom(node) and any(snapshots.indexes for snapshots in node.stores.values())
        ]
        node = self._victim(rng, having)
        if node is None:
            return False
        stores = [snapshots for _, snapshots in sorted(node.stores.items()) if snapshots.indexes]
        snapshots = stores[int(rng.random() * len(stores))]
        index = snapshots.indexes[int(rng.random() * len(snapshots.indexes))]
        self._doom(node)
        if not snapshots.spoil(index, rng.random()):
            return False
        self._say(node, "spoiled", f"snapshot at {index}")
        self._kill_later(rng, node, FOUND_S)
        return True

    def _fail(self, rng: Random) -> bool:
        """The next sync fails; then power does, which shows what a process believes that has not ended."""
        node = self._victim(rng, [node for node in self._world.honest if node.up])
        if node is None:
            return False
        node.disk.is_failing = True
        self._say(node, "failing disk", "")
        self._kill_later(rng, node, FOUND_S)
        return True

    def _hang(self, rng: Random) -> bool:
        """No sync ends for a while, or until the process is killed, and nothing says so."""
        world = self._world
        overlap = rng.random() < OVERLAP
        node = self._victim(rng, [node for node in world.honest if node.up and not node.disk.is_hung])
        if node is None or (not overlap and any(other.disk.is_hung for other in world.honest)):
            return False
        self._hang_now(node)
        if rng.random() < RESTARTED:
            self._kill_later(rng, node, world.mix.hang_s)
        else:
            world.after(rng.expovariate(1.0 / world.mix.hang_s), node.disk.release)
        return True

    def _hang_now(self, node: SimNode) -> None:
        node.disk.hang()
        watch_hang(self._world, node)
        self._say(node, "hung disk", "")

    def _fill(self, rng: Random) -> bool:
        """There is no room for snapshots for a while."""
        node = self._victim(rng, list(self._world.honest))
        if node is None:
            return False
        for snapshots in node.stores.values():
            snapshots.full = NO_ROOM
        self._say(node, "no room", "for snapshots")

        def mend() -> None:
            for snapshots in node.stores.values():
                snapshots.full = None

        self._world.after(rng.expovariate(1.0 / FULL_S), mend)
        return True
