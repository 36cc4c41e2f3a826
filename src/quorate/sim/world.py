"""World: a whole cluster in one process under one seed.

How it works. One heap holds what will happen, by virtual time; nothing happens but by it, and all chance comes from
streams derived from the seed, one for each purpose, so that a change in one part does not disturb the others. A run has
two phases: *safety*, in which faults strike and checkers watch; then everything is healed and *liveness* is required:
within a bound every operation is answered and the subject has converged.

Time is global and virtual, in seconds. Nodes see their own clocks only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from quorate.kernel import App, Rng, mask_of
from quorate.sim import ordeals
from quorate.sim.adversary import GENERIC
from quorate.sim.adversary.doubled import Doubled
from quorate.sim.adversary.liar import Liar, Resign
from quorate.sim.adversary.lies import ByzzFuzz
from quorate.sim.adversary.lying_node import LyingNode
from quorate.sim.adversary.rounds import RoundPartitions
from quorate.sim.adversary.twins import Twin
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.disk_nemesis import FINAL_S, draw_disks
from quorate.sim.ground import Ground
from quorate.sim.jobs import DOERS
from quorate.sim.nemesis import Nemesis
from quorate.sim.network import Network
from quorate.sim.node import SimNode
from quorate.sim.options import DISK_FAULTS, Options
from quorate.sim.repairs import draw_repairs
from quorate.sim.strangers import SimStrangers
from quorate.sim.swarm import Mix, draw
from quorate.sim.trace import Trace
from quorate.sim.trial import Trial
from quorate.sim.workload import Workload

POLL_S = 0.05
LIVENESS = "liveness"

DOUBLED = 0.15
"""How many of the nodes that may be doubled are."""
FIRST = 0.4
"""How often the first node is made to lie."""
ROUNDS = 0.5
"""How many of the seeds that may be fuzzed by rounds have partitions by round as well."""


class World(Ground[SimNode]):
    """One run of a Trial. ``checkers`` watch it; ``trial.checkers()`` makes those that belong to it."""

    __slots__ = (
        "_links",
        "nemesis",
        "subject",
        "trial",
    )

    workload: Workload

    def __init__(self, trial: Trial, checkers: Sequence[Checker] = (), *, trace: Trace | None = None) -> None:
        subject, options = trial.subject, trial.options
        mix = trial.mix or _drawn(trial)
        super().__init__(options, mix, checkers, trace)
        self.trial = trial
        self.make = trial.make
        self.shell = trial.shell
        self.is_open = subject.is_open
        self.storage = trial.storage
        self.doers = {**DOERS, **subject.doers}
        self.scheme = trial.scheme
        self.keyring = None if trial.scheme is None else trial.scheme.keyring()
        self.subject = subject
        self.change = trial.change
        links = SimStrangers(self) if subject.is_open else None
        self.strangers = self._links = links
        self.network = Network(self, Random(f"{self.seed}/network"), mix, options.nodes)
        self.liars = _draw_liars(self.seed, options)
        kinds = [liar for liar in (*GENERIC, *trial.liars) if liar.name in options.adversary]
        self.nodes = [self._make_node(node, kinds, trial.resign) for node in self.peers]
        self.present = list(self.nodes)
        self.honest = [node for node in self.nodes if not self.liars >> node.id & 1]
        if self.liars and ByzzFuzz in kinds and Random(f"{self.seed}/rounds").random() < ROUNDS:
            self.network.parted = RoundPartitions(Random(f"{self.seed}/round"), options.nodes).cut
        self.workload = subject.workload(self)
        self.nemesis = Nemesis(self, self.workload.hush)
        self.doers = self.nemesis.around(self.doers)
        for checker in self.checkers:
            checker.watch(self)

    def _make_node(self, node: int, kinds: list[type[Liar]], resign: Resign) -> SimNode:
        if not self.liars >> node & 1:
            return SimNode(self, node, self.seed)
        others = [kind for kind in kinds if kind is not Doubled]
        if len(others) < len(kinds) and (not others or Random(f"{self.seed}/twins/{node}").random() < DOUBLED):
            return Twin(self, node, self.seed, resign)
        return LyingNode(self, node, self.seed, others, resign)

    def place(self, node: int, peers: tuple[int, ...]) -> SimNode:
        """Those that join are honest."""
        return SimNode(self, node, self.seed, peers)

    def make_app(self, node: int, rng: Rng) -> App:
        """Sick if a mutant says so."""
        return self.trial.app(node, rng)

    def crashed(self, place: int, life: int) -> None:
        """The subject knows what outlives a process."""
        self.subject.crashed(place, Random(f"{self.seed}/crash/{place}/{life}"))
        self.workload.crashed(place)

    # --- a whole run ---

    def run(self) -> None:
        """Both phases. Raises Violation."""
        self.start()
        self.run_until(self.options.duration_s * self.mix.stretch)
        self.heal()
        for checker in self.checkers:
            checker.finish(self)

    def start(self) -> None:
        """Start the nodes, the workload and the nemesis."""
        for node in self.nodes:
            node.start()
        if self._links is not None:
            self._links.start()
        self.workload.start()
        self.nemesis.start()

    def heal(self) -> None:
        """Mend all, and require that all comes right within the bound."""
        if self.tracing:
            self.trace(None, "heal", "", "no more faults")
        self.nemesis.heal()
        if self.mix.gone:
            self.nemesis.bid_farewell(self.trial.borne, is_fixed="quorums" in self.trial.kinds)
        last = self.nemesis.hang_last()
        if last is not None:
            self.run_until(self.now + FINAL_S)
        self.workload.finish()
        if last is not None:
            self._await(lambda: self.workload.are_idle, f"all was healed but the disk of node {last.id}, which hangs")
            last.disk.release()
        self._await(
            lambda: self.workload.are_idle and self.nemesis.has_settled and self.subject.converged(self),
            "all was healed",
        )

    def _await(self, has_come: Callable[[], bool], since: str) -> None:
        """Wait until it has. Raises Violation."""
        end = self.now + self.options.healing_s
        while self.now < end:
            self.run_until(self.now + POLL_S)
            if has_come():
                return
        missing = self.workload.missing() or self.nemesis.missing() or self.subject.missing(self)
        raise Violation(LIVENESS, f"{self.options.healing_s:g} s after {since}: {missing}")


def _drawn(trial: Trial) -> Mix:
    """What the seed draws. Disks draw from a stream of their own, and change nothing where they do not fail."""
    options = trial.options
    mix = draw(Random(f"{options.seed}/swarm"), options.faults, joins=options.joins)
    ordeals.burden(mix, options.seed, trial.kinds, options.faults, joins=options.joins)
    if options.repairs:
        lost_max = max(0, trial.borne(range(options.nodes)) - options.byzantine)
        draw_repairs(mix, Random(f"{options.seed}/swarm/repairs"), options.faults, lost_max)
    if not set(DISK_FAULTS).isdisjoint(options.faults):
        change = trial.change is not None and (mix.members_every_s is not None or mix.plan_every_s is not None)
        may_doom = not change and "gone" not in trial.kinds and not options.repairs
        dooms = trial.storage.borne > options.byzantine and may_doom
        draw_disks(mix, Random(f"{options.seed}/swarm/disks"), options.faults, dooms=dooms)
    return mix


def _draw_liars(seed: str, options: Options) -> int:
    """Any nodes; the first one, which often leads at first, is often among them."""
    if not options.byzantine:
        return 0
    rng = Random(f"{seed}/liars")
    first = [0] if rng.random() < FIRST else []
    return mask_of([*first, *rng.sample(range(len(first), options.nodes), options.byzantine - len(first))])
