"""Nemesis: brings the faults of a seed's mix, each kind at its own pace, and mends them all in the end.

A crash loses only what was not durable, so any number of nodes may crash, even all at once. What destroys data is left
to ``disk_nemesis.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

from msgspec.structs import replace

from quorate.kernel import Core, HungUp, Turn, nodes_of
from quorate.parts.log.configuration import Reconfigurable
from quorate.sim.disk_nemesis import DAMAGING, DiskNemesis
from quorate.sim.farewell import Farewell
from quorate.sim.ground import Ground
from quorate.sim.jobs import SimDoer
from quorate.sim.node import SimNode
from quorate.sim.operator import Operator
from quorate.sim.repairs import Repairs
from quorate.sim.snags import Snagging
from quorate.sim.strikes import Strikes

AIMED = 0.4
"""How often a fault is aimed at who leads, where somebody does."""

AMBUSHED = 0.5
"""How many crashes come just after a write, where they can tear something."""

EXILE_S_MAX = 10.0

HAND_OVER_S_MAX = 0.8
"""How long a node that stops waits until another leads, as a real one does."""
HAND_OVER_POLL_S = 0.005

HANG_UP_S = 0.02
"""How long it takes until a node sees that a link has ended, on average: what was on its way comes first, mostly."""

ANY = 0.3
"""How many transfers name no node."""

GLANCE_S = 0.1
"""How often it looks who the members are, to count."""


class Nemesis:
    """``counts`` says how often each fault happened. ``hush(until_s)`` has clients be quiet for a while."""

    def __init__(self, world: Ground[SimNode], hush: Callable[[float], None]) -> None:
        self._world = world
        self._hush = hush
        self._over = False
        self._cuts: list[list[int]] = []
        self._exiles: list[Callable[[], None]] = []
        """What ends the cuts around deposed leaders; they end some time after the next election."""
        self.counts: dict[str, int] = {}
        self._disks = DiskNemesis(world, self._count)
        makes_plans = world.mix.plan_every_s is not None
        self._operator = self._hire(Random(f"{world.seed}/nemesis/operator")) if makes_plans else None
        self._strikes = self._plan_strikes()
        self._snagging = self._plan_snags()
        self._repairs = None if world.mix.loss_every_s is None else Repairs(world, self._count, self._cut_anew)
        self._epoch: int | None = None
        """The newest that was in force."""

    def start(self) -> None:
        """Begin to plot."""
        mix = self._world.mix
        plots: list[tuple[str, float | None, Callable[[Random], None]]] = [
            ("crash", mix.crash_every_s, self._crash),
            ("partition", mix.partition_every_s, self._partition),
            ("clog", mix.clog_every_s, self._clog),
            ("pause", mix.pause_every_s, self._pause),
            ("slow disk", mix.slow_every_s, self._slow),
            ("full disk", mix.stall_every_s, self._stall),
            ("clock", mix.clock_every_s, self._clock),
            ("absence", mix.absence_every_s, self._leave_alone),
            ("stop", mix.stop_every_s, self._stop),
            ("transfer", mix.transfer_every_s, self._transfer),
            ("hang-up", mix.hang_up_every_s, self._hang_up),
        ]
        for name, every_s, strike in plots:
            if every_s is not None:
                self._plot(Random(f"{self._world.seed}/nemesis/{name}"), name, every_s, strike)
        if mix.members_every_s is not None and self._world.change is not None:
            self._plot(Random(f"{self._world.seed}/nemesis/members"), "members", mix.members_every_s, self._members)
        self._disks.start()
        if self._operator is not None:
            self._operator.start()
        if self._strikes is not None:
            self._strikes.start()
        if self._repairs is not None:
            self._repairs.start()
        changes = mix.members_every_s is not None or mix.plan_every_s is not None or mix.gone
        if self._world.change is not None and changes:
            self._look_at_epochs()
        if mix.coup and (mix.crash_every_s is not None or mix.partition_every_s is not None):
            self._plot_coups(Random(f"{self._world.seed}/nemesis/coup"))

    def heal(self) -> None:
        """Mend everything and do no more harm."""
        self._over = True
        self._disks.finish()
        world = self._world
        for part in (self._operator, self._strikes, self._snagging, self._repairs):
            if part is not None:
                part.finish()
        self._cuts.clear()
        world.network.heal()
        for node in list(world.present):  # a disk that is found damaged takes its node out
            node.is_off = False
            node.disk.slowness = 1.0
            node.set_clock(1.0, 0.0)
            if node.disk.stalled is not None:
                node.stall(None)
            if not node.up:
                node.restart()
            elif node.paused:
                node.resume()

    def hang_last(self) -> SimNode | None:
        """All is healed but one disk, which hangs; None if this run has no such end."""
        return self._disks.hang_last(Random(f"{self._world.seed}/nemesis/last-hang"))

    def bid_farewell(self, borne: Callable[[Sequence[int]], int], *, is_fixed: bool) -> None:
        """All is healed, and some never come back. ``is_fixed``: the members stay who they are."""
        rng = Random(f"{self._world.seed}/nemesis/farewell")
        operator = None if is_fixed else self._hire(rng)
        if operator is not None:
            operator.finish()  # it makes no plans of its own
        Farewell(self._world, rng, borne, operator, self._count, self._hush, lambda: self.has_settled).run()

    def around(self, doers: Mapping[type, SimDoer]) -> Mapping[type, SimDoer]:
        """How jobs are done, with what befalls snapshots."""
        return doers if self._snagging is None else self._snagging.around(doers)

    def _plot(self, rng: Random, name: str, every_s: float, strike: Callable[[Random], None]) -> None:
        def act() -> None:
            if self._over:
                return
            self.counts[name] = self.counts.get(name, 0) + 1
            strike(rng)
            self._world.after(rng.expovariate(1.0 / every_s), act)

        self._world.after(rng.expovariate(1.0 / every_s), act)

    def _plot_coups(self, rng: Random) -> None:
        """Watch who leads, and strike new leaders at or soon after their election, where the hardest cases are.

        Who was elected tells its App so: a Turn without outputs, as most are, makes no leader.
        """
        known: dict[int, int] = {}

        def watch(node: int, core: Core, turn: Turn) -> None:
            if not turn.outputs or self._over:
                return
            standing = core.standing()
            if not standing.was_elected or known.get(node) == standing.term:
                return
            known[node] = standing.term
            for end in self._exiles:
                self._until(rng, self._world.mix.partition_s / 2, end)
            self._exiles.clear()
            if rng.random() < self._world.mix.coup:
                self._world.after(self._coup_delay_s(rng), partial(self._coup, rng, self._world.nodes[node]))

        self._world.on_turn.append(watch)

    def _coup_delay_s(self, rng: Random) -> float:
        """At once, so that not even its first messages arrive; while some have arrived; or later."""
        mix, draw = self._world.mix, rng.random()
        if draw < 0.3:
            return 0.0
        if draw < 0.7:
            return rng.uniform(0.0, 8.0) * (mix.delay_s_min + mix.delay_s_mean)
        return rng.expovariate(1.0 / mix.coup_s)

    def _coup(self, rng: Random, node: SimNode) -> None:
        if self._over:
            return
        self._count("coup")
        mix = self._world.mix
        if mix.partition_every_s is None or (mix.crash_every_s is not None and rng.random() < 0.3):
            self._kill(rng, node)
        else:
            end = self._cut(self._cuts_around(1 << node.id))
            self._exiles.append(end)
            self._world.after(EXILE_S_MAX, end)

    def _until(self, rng: Random, mean_s: float, mend: Callable[[], None]) -> None:
        """Mend a fault after a while, unless healing came first."""
        self._world.after(rng.expovariate(1.0 / mean_s), lambda: None if self._over else mend())

    def _victim(self, rng: Random) -> SimNode:
        """Any node, often one that leads: that is where it hurts."""
        nodes = self._world.present
        aimed, draw = rng.random() < AIMED, rng.random()
        leading = [node for node in nodes if node.up and node.host.root.standing().was_elected]
        if aimed and leading:
            return leading[int(draw * len(leading))]
        return nodes[int(draw * len(nodes))]

    def _say(self, node: int | None, event: str, what: object) -> None:
        if self._world.tracing:
            self._world.trace(node, event, "", what)

    # --- processes ---

    def _crash(self, rng: Random) -> None:
        everyone = rng.random() < self._world.mix.crash_all
        victims = list(self._world.present) if everyone else [self._victim(rng)]
        ambush = not everyone and rng.random() < AMBUSHED
        for node in victims:
            if ambush:
                node.ambush = partial(self._kill, rng, node)
            else:
                self._kill(rng, node)

    def _kill(self, rng: Random, node: SimNode) -> None:
        if node.up and not self._over:
            self._count("crashed nodes")
            node.crash()
            if self._world.mix.hang_ups and rng.random() < self._world.mix.hang_ups:
                self._count("crashes noticed")
                for other in self._world.present:
                    self._tell_of_hang_up(rng, node, other)
            self._until(rng, self._world.mix.down_s, node.restart)

    def _hang_up(self, rng: Random) -> None:
        """A link ends between two nodes that live; aimed at who leads, as any other fault."""
        node = self._victim(rng)
        others = [other for other in self._world.present if other is not node]
        if others:
            self._tell_of_hang_up(rng, node, others[int(rng.random() * len(others))])

    def _tell_of_hang_up(self, rng: Random, node: SimNode, other: SimNode) -> None:
        """Another node sees soon that this one's link has ended."""
        if other is node or not other.up or not other.host.root.hears_hang_ups:
            return
        life = other.life

        def tell() -> None:
            if other.up and other.life == life:
                other.put(HungUp(node.id))

        self._world.after(rng.expovariate(1.0 / HANG_UP_S), tell)

    def _stop(self, rng: Random) -> None:
        """SIGTERM: it hands over, if it leads, and ends when another leads, or when it has waited long enough."""
        node = self._victim(rng)
        if not node.up or node.paused:
            return
        self._say(node.id, "stops", "")
        node.hand_over()
        life, until = node.life, self._world.now + HAND_OVER_S_MAX

        def look() -> None:
            if node.life != life or not node.up:
                return
            standing = node.host.root.standing()
            is_over = standing.leader not in (None, node.id)
            if is_over or self._world.now >= until or not node.host.root.hands_over:
                self._count("handed over" if is_over and was_leading else "stopped")
                self._kill(rng, node)
            else:
                self._world.after(HAND_OVER_POLL_S, look)

        was_leading = node.host.root.standing().was_elected
        self._world.after(HAND_OVER_POLL_S, look)

    def _transfer(self, rng: Random) -> None:
        """An operator has another node lead, or asks for one that cannot; and both go on."""
        leading = [node for node in self._world.present if node.up and node.host.root.standing().was_elected]
        if not leading:
            return
        node = leading[int(rng.random() * len(leading))]
        others = [other for other in self._world.peers if other != node.id]
        to = None if rng.random() < ANY or not others else others[int(rng.random() * len(others))]
        self._say(node.id, "transfers", "to any" if to is None else to)
        node.hand_over(to)
        life, until = node.life, self._world.now + HAND_OVER_S_MAX

        def look() -> None:
            leader = node.host.root.standing().leader if node.life == life and node.up else node.id
            if leader in (None, node.id) and self._world.now < until:
                self._world.after(HAND_OVER_POLL_S, look)
            elif leader not in (None, node.id):
                self._count("transferred" if to in (None, leader) else "led by another")

        self._world.after(HAND_OVER_POLL_S, look)

    def _pause(self, rng: Random) -> None:
        node = self._victim(rng)
        if not node.up or node.paused:
            return
        node.pause()
        self._say(node.id, "pause", "")
        life = node.life

        def resume() -> None:
            if node.up and node.life == life:
                self._say(node.id, "resume", "")
                node.resume()

        self._until(rng, self._world.mix.pause_s, resume)

    def _leave_alone(self, rng: Random) -> None:
        """A node is away for minutes, and far behind when it returns."""
        node = self._victim(rng)
        if node.is_off:
            return
        self._say(node.id, "absent", "")
        node.switch_off()

        def back() -> None:
            if node.is_off and node in self._world.present and not self._over:
                node.is_off = False
                node.restart()

        self._world.after(self._world.mix.absence_s * rng.uniform(0.5, 1.0), back)

    # --- snapshots ---

    def _plan_snags(self) -> Snagging | None:
        world = self._world
        mix = world.mix
        if mix.snags is None:
            return None
        # Whoever is gone could have been the only other source, and members who are one node have none.
        changes = world.change is not None and (mix.members_every_s is not None or mix.plan_every_s is not None)
        is_last = changes or mix.gone or mix.loss_every_s is not None or not set(DAMAGING).isdisjoint(mix.disk_faults)
        rng = Random(f"{world.seed}/nemesis/snags")
        return Snagging(
            replace(mix.snags, spent=0.0) if is_last else mix.snags,
            rng,
            lambda: world.now,
            world.after,
            lambda node: self._kill(rng, world.nodes[node]),
            self._count,
        )

    # --- members ---

    def _plan_strikes(self) -> Strikes | None:
        world = self._world
        if world.change is None or not world.mix.strikes:
            return None
        return Strikes(world, Random(f"{world.seed}/nemesis/strikes"), self._cut, self._count)

    def _look_at_epochs(self) -> None:
        """Count the members that were in force, one after the other, as far as a glance now and then shows them."""
        newest = 0
        for node in self._world.honest:
            if node.up:
                core = node.host.root
                assert isinstance(core, Reconfigurable)
                newest = max(newest, core.in_force().voters.epoch)
        if self._epoch is not None and newest > self._epoch:
            self._count("epochs crossed")
        self._epoch = max(self._epoch or 0, newest)
        self._world.after(GLANCE_S, self._look_at_epochs)

    def _hire(self, rng: Random) -> Operator | None:
        """Whoever has nodes come and go, if they can."""
        world = self._world
        if world.change is None:
            return None
        faults = world.options.faults
        return Operator(
            world,
            world.change,
            rng,
            self._cut,
            self._count,
            self._hush,
            crashes="crash" in faults,
            partitions="partition" in faults,
        )

    @property
    def has_settled(self) -> bool:
        """Whether what was begun about members is over."""
        has_operated = self._operator is None or self._operator.has_settled
        has_repaired = self._repairs is None or self._repairs.has_settled
        return has_operated and has_repaired and self._disks.menders.has_settled

    def missing(self) -> str:
        """What is not over, for a person; empty if there is nothing."""
        watched = (self._operator, self._repairs, self._disks.menders)
        parts = [part.missing() for part in watched if part is not None]
        return "; ".join(part for part in parts if part)

    def _members(self, rng: Random) -> None:
        """An operator names other members, at any node; whoever leads then may take it in or not."""
        nodes, change = self._world.nodes, self._world.change
        assert change is not None
        count = change.fewest + int(rng.random() * (len(nodes) - change.fewest + 1))
        if self._world.mix.sole and rng.random() < self._world.mix.sole:
            count = change.fewest
        members = tuple(sorted(rng.sample([node.id for node in nodes], count)))
        node = nodes[int(rng.random() * len(nodes))]
        self._say(node.id, "members", members)
        if node.up:
            node.operate(change.value(members))

    # --- network ---

    def _partition(self, rng: Random) -> None:
        self._until(rng, self._world.mix.partition_s, self._cut(self._draw_cuts(rng)))

    def _cut(self, cuts: list[int]) -> Callable[[], None]:
        """Cut links; the returned function mends them."""
        if self._world.tracing:  # the text names every link that is cut
            self._say(None, "partition", [f"n{node} !> {nodes_of(mask)}" for node, mask in enumerate(cuts) if mask])
        self._cuts.append(cuts)
        self._apply_cuts()

        def mend() -> None:
            if any(cuts is other for other in self._cuts):  # healing may have come first
                self._cuts = [other for other in self._cuts if other is not cuts]
                self._say(None, "mended", "")
                self._apply_cuts()

        return mend

    def _cut_anew(self, node: int) -> Callable[[], None]:
        """This node is cut off, and nobody else; the returned function mends it."""
        self._cuts.clear()
        return self._cut(self._cuts_around(1 << node))

    def _apply_cuts(self) -> None:
        masks = [0] * len(self._world.nodes)
        for cuts in self._cuts:
            for node, cut in enumerate(cuts):  # who joined since is not cut off
                masks[node] |= cut
        self._world.network.cuts = masks

    def _draw_cuts(self, rng: Random) -> list[int]:
        """By sender, whom it reaches no more: one against all, two halves, or a bridge; both ways or one."""
        count = len(self._world.nodes)
        style = rng.random()
        side = 1 << self._victim(rng).id
        if style > 0.4:
            for node in range(count):
                if rng.random() < 0.5:
                    side |= 1 << node
        bridge = 1 << int(rng.random() * count) if style > 0.8 else 0
        cuts = [0 if bridge >> node & 1 else cut & ~bridge for node, cut in enumerate(self._cuts_around(side))]
        way = rng.random()
        if way < 0.5:
            return cuts
        return [cut if (bool(1 << node & side) == (way < 0.75)) else 0 for node, cut in enumerate(cuts)]

    def _cuts_around(self, side: int) -> list[int]:
        count = len(self._world.nodes)
        return [(1 << count) - 1 & ~side if side >> node & 1 else side for node in range(count)]

    def _clog(self, rng: Random) -> None:
        world = self._world
        count = len(world.nodes)
        sender, to = int(rng.random() * count), int(rng.random() * count)
        until = world.now + rng.expovariate(1.0 / world.mix.clog_s)
        if sender == to:
            return
        world.network.clogs[(sender, to)] = until
        self._say(sender, "clog", to)

        def mend() -> None:
            if world.network.clogs.get((sender, to)) == until:
                del world.network.clogs[(sender, to)]

        world.after(until - world.now, mend)

    # --- disks ---

    def _slow(self, rng: Random) -> None:
        node = self._victim(rng)
        node.disk.slowness = 1.0 + rng.random() * self._world.mix.slow_factor
        self._say(node.id, "slow disk", "")

        def mend() -> None:
            node.disk.slowness = 1.0

        self._until(rng, self._world.mix.slow_s, mend)

    def _stall(self, rng: Random) -> None:
        node = self._victim(rng)
        if node.disk.stalled is not None or node.paused:
            return
        node.stall("the disk is full")
        self._say(node.id, "full disk", "")
        self._until(rng, self._world.mix.stall_s, lambda: node.stall(None))

    # --- clocks ---

    def _clock(self, rng: Random) -> None:
        node = self._victim(rng)
        mix = self._world.mix
        rate = 1.0 + rng.uniform(-mix.drift_max, mix.drift_max)
        jump = rng.uniform(-mix.jump_s_max, mix.jump_s_max)
        node.set_clock(rate, jump)
        self._say(node.id, "clock", f"rate {rate:.3f} jump {jump:+.3f} s")

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
