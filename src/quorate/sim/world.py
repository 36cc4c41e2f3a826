"""World: a whole cluster in one process under one seed.

How it works. One heap holds what will happen, by virtual time; nothing happens but by it, and all chance comes from
streams derived from the seed, one for each purpose, so that a change in one part does not disturb the others. A run has
two phases: *safety*, in which faults strike and checkers watch; then everything is healed and *liveness* is required:
within a bound every operation is answered and the subject has converged.

Time is global and virtual, in seconds. Nodes see their own clocks only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any

from quorate.kernel import App, Blame, Core, Meet, Rng, RosterChange, mask_of
from quorate.parts.log.configuration import Newcomer
from quorate.sim.adversary import GENERIC
from quorate.sim.adversary.doubled import Doubled
from quorate.sim.adversary.liar import Liar, Resign
from quorate.sim.adversary.lies import ByzzFuzz
from quorate.sim.adversary.lying_node import LyingNode
from quorate.sim.adversary.rounds import RoundPartitions
from quorate.sim.adversary.twins import Twin
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.digest import Digest
from quorate.sim.jobs import DOERS
from quorate.sim.nemesis import Nemesis
from quorate.sim.network import Network
from quorate.sim.node import SimNode
from quorate.sim.options import Options
from quorate.sim.strangers import SimStrangers
from quorate.sim.swarm import draw
from quorate.sim.trace import Trace
from quorate.sim.trial import Trial

POLL_S = 0.05
LIVENESS = "liveness"

DOUBLED = 0.15
"""How many of the nodes that may be doubled are."""
FIRST = 0.4
"""How often the first node is made to lie."""
ROUNDS = 0.5
"""How many of the seeds that may be fuzzed by rounds have partitions by round as well."""

_NUMBER = re.compile(r"\d+")


class World:
    """One run of a Trial. ``checkers`` watch it; ``trial.checkers()`` makes those that belong to it."""

    def __init__(self, trial: Trial, checkers: Sequence[Checker] = (), *, trace: Trace | None = None) -> None:
        subject, options = trial.subject, trial.options
        self.trial = trial
        self.make = trial.make
        self.shell = trial.shell
        self.doers = {**DOERS, **subject.doers}
        self.scheme = trial.scheme
        self.keyring = None if trial.scheme is None else trial.scheme.keyring()
        self.subject = subject
        self.options = options
        self.seed = str(options.seed)
        self.mix = trial.mix or draw(Random(f"{self.seed}/swarm"), options.faults, joins=options.joins)
        self.checkers = tuple(checkers)
        self.on_step: list[Callable[[int, Core], None]] = [
            c.stepped for c in checkers if type(c).stepped is not Checker.stepped
        ]
        self.promises = next((c for c in checkers if type(c).mark is not Checker.mark), Checker())
        self.mark = self.promises.mark
        self.peers = tuple(range(options.nodes))
        """The nodes that are there."""
        self.cluster = self.peers
        """The same with those that died and were not removed: what whoever joins is told of."""
        self.newcomers: dict[int, Newcomer] = {}
        self.now = 0.0
        self.sequence = 0
        self.heap: list[tuple[float, int, Callable[[Any, Any], None], Any, Any]] = []
        self.tracing = trace is not None
        self.steps = 0
        self.digest = Digest()
        self.blames = 0
        self.blamed_liars: dict[str, int] = {}
        """Blames of nodes that do lie, by kind."""
        self.change = trial.change
        self._trace = trace
        self.strangers = SimStrangers(self) if subject.is_open else None
        """The links, where the roster is open."""
        self.network = Network(self, Random(f"{self.seed}/network"), self.mix, options.nodes)
        self.liars = _draw_liars(self.seed, options)
        """The nodes that lie, as a mask."""
        kinds = [liar for liar in (*GENERIC, *trial.liars) if liar.name in options.adversary]
        self.nodes = [self._make_node(node, kinds, trial.resign) for node in self.peers]
        """By number, all that ever were."""
        self.present = list(self.nodes)
        self.honest = [node for node in self.nodes if not self.liars >> node.id & 1]
        """Of those that are there."""
        if self.liars and ByzzFuzz in kinds and Random(f"{self.seed}/rounds").random() < ROUNDS:
            self.network.parted = RoundPartitions(Random(f"{self.seed}/round"), options.nodes).cut
        self.workload = subject.workload(self)
        self.nemesis = Nemesis(self)
        for checker in self.checkers:
            checker.watch(self)

    def _make_node(self, node: int, kinds: list[type[Liar]], resign: Resign) -> SimNode:
        if not self.liars >> node & 1:
            return SimNode(self, node, self.seed)
        others = [kind for kind in kinds if kind is not Doubled]
        if len(others) < len(kinds) and (not others or Random(f"{self.seed}/twins/{node}").random() < DOUBLED):
            return Twin(self, node, self.seed, resign)
        return LyingNode(self, node, self.seed, others, resign)

    # --- who is there ---

    def join(self) -> Newcomer:
        """A new machine with an empty disk starts. It is told of the nodes of the cluster; they do not know it yet."""
        node = len(self.nodes)
        key = b""
        if self.scheme is not None:
            self.scheme.join(node)
            key = self.scheme.signer(node).public
        newcomer = self.newcomers[node] = Newcomer(node, f"n{node}.sim:7500", key)
        self.network.join(Random(f"{self.seed}/network/{node}"))
        self.cluster = (*self.cluster, node)
        machine = SimNode(self, node, self.seed, self.cluster)
        self.nodes.append(machine)
        self.present.append(machine)
        self.honest.append(machine)
        self.peers = (*self.peers, node)
        if self.tracing:
            self.trace(node, "join", "", newcomer.address)
        machine.start()
        return newcomer

    def leave(self, node: int) -> None:
        """A node that the others have removed is switched off and never comes back."""
        self.die(node)
        self.cluster = tuple(other for other in self.cluster if other != node)

    def die(self, node: int) -> None:
        """A machine breaks, and its disk with it: nobody waits for it any more."""
        machine = self.nodes[node]
        if machine not in self.present:
            return
        if self.tracing:
            self.trace(node, "gone", "", "for good")
        machine.switch_off()
        self.present.remove(machine)
        self.honest = [other for other in self.honest if other is not machine]
        self.peers = tuple(other for other in self.peers if other != node)

    # --- what happens when ---

    def at(self, time: float, act: Callable[[Any, Any], None], a: Any, b: Any) -> None:
        """Have ``act(a, b)`` called at a time."""
        self.sequence += 1
        heappush(self.heap, (time, self.sequence, act, a, b))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have ``act()`` called after a delay."""
        self.sequence += 1
        heappush(self.heap, (self.now + delay_s, self.sequence, _call, act, None))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due by ``end``."""
        heap = self.heap
        while heap and heap[0][0] <= end:
            self.now, _, act, a, b = heappop(heap)
            act(a, b)
        self.now = end

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
        if self.strangers is not None:
            self.strangers.start()
        self.workload.start()
        self.nemesis.start()

    def heal(self) -> None:
        """Mend all, and require that all comes right within the bound."""
        if self.tracing:
            self.trace(None, "heal", "", "no more faults")
        self.nemesis.heal()
        self.workload.finish()
        end = self.now + self.options.healing_s
        while self.now < end:
            self.run_until(self.now + POLL_S)
            if self.workload.are_idle and self.nemesis.has_settled and self.subject.converged(self):
                return
        missing = self.workload.missing() or self.nemesis.missing() or self.subject.missing(self)
        raise Violation(LIVENESS, f"{self.options.healing_s:g} s after all was healed: {missing}")

    # --- what nodes report ---

    def make_app(self, node: int, rng: Rng) -> App:
        """A fresh App, sick if a mutant says so."""
        return self.trial.app(node, rng)

    def crashed(self, place: int, life: int) -> None:
        """The process of a node is gone. Its App's stores, if they outlive it, lose what was not synced."""
        self.subject.crashed(place, Random(f"{self.seed}/crash/{place}/{life}"))

    def blamed(self, node: int, blame: Blame) -> None:
        """A node blames another. Only who lies ever deserves it; what liars say of others is not heard."""
        if self.liars >> node & 1:
            return
        self.blames += 1
        if self.tracing:
            self.trace(node, "blame", blame.node, blame.why)
        if not self.liars >> blame.node & 1:
            raise Violation("no blame", f"node {node} says that node {blame.node} {blame.why}")
        kind = _NUMBER.sub("N", blame.why)
        self.blamed_liars[kind] = self.blamed_liars.get(kind, 0) + 1

    def change_roster(self, node: SimNode, change: RosterChange) -> None:
        """A node meets another or parts from it. In a closed roster all must mean the same by a number."""
        if self.tracing:
            self.trace(node.id, "roster", "", change)
        if self.strangers is not None:
            self.strangers.change(node, change)
        elif isinstance(change, Meet) and change.node in self.newcomers and not self.liars >> node.id & 1:
            newcomer = self.newcomers[change.node]
            if (newcomer.address, newcomer.key) != (change.address, change.key):
                raise Violation("rosters", f"node {node.id} meets {change}, and there is no such node")

    def trace(self, node: int | None, event: str, subject: Any, what: Any) -> None:
        """One line, where lines are wanted. Ask ``tracing`` before the arguments are made."""
        if self._trace is not None:
            self._trace.line(self.now, node, event, subject, what)


def _draw_liars(seed: str, options: Options) -> int:
    """Any nodes; the first one, which often leads at first, is often among them."""
    if not options.byzantine:
        return 0
    rng = Random(f"{seed}/liars")
    first = [0] if rng.random() < FIRST else []
    return mask_of([*first, *rng.sample(range(len(first), options.nodes), options.byzantine - len(first))])


def _call(act: Callable[[], None], _: Any) -> None:
    act()
