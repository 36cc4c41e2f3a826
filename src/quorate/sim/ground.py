"""Ground: what all parts of a simulated run stand on: time, the trace, who is there, and what nodes report.

Nodes, clients and the nemesis know the Ground, each for itself; the World (``world.py``) makes them all on it. So a
part can be read, and tested, without the others.

How it works. One heap holds what will happen, by virtual time in seconds; nothing happens but by it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, Generic, TypeVar
from typing import Protocol as Interface

from quorate.kernel import App, Blame, Core, Env, Meet, Rng, RosterChange, Send, Shell, Turn
from quorate.parts.crypto.keys import Keyring, Scheme
from quorate.parts.log.configuration import Newcomer
from quorate.sim.checkers.base import Checker, Outside, Violation, promises_of
from quorate.sim.digest import Digest
from quorate.sim.network import Network
from quorate.sim.options import MemberChange, Options
from quorate.sim.storage import Storage
from quorate.sim.swarm import Mix
from quorate.sim.trace import Trace

_NUMBER = re.compile(r"\d+")


class Standee(Interface):
    """A node, as far as the Ground goes."""

    id: int

    def start(self) -> None:
        """Begin a life."""

    def switch_off(self) -> None:
        """Down, until somebody says otherwise."""


class OpenLinks(Interface):
    """The links of an open roster, for the nodes at their ends: see ``strangers.py``."""

    def send(self, node: Any, sends: Sequence[Send]) -> None:
        """Along links; what is for a link that is gone is dropped."""

    def change(self, node: Any, change: RosterChange) -> None:
        """A core meets or parts."""

    def took(self, node: Any, number: int, written: int) -> None:
        """The core has taken in that a link is gone; ``written`` is its last frame that may speak of it."""

    def crashed(self, node: Any) -> None:
        """The process is gone, and with it all that it knew."""


NodeT = TypeVar("NodeT", bound=Standee)


class Ground(ABC, Generic[NodeT]):
    """What is put to the test, under what, and how far it is. Whoever makes the parts sets what has no value."""

    # Beyond thirty attributes Python looks each up in a dict, and these are looked up in each step.
    __slots__ = (
        "_trace",
        "blamed_liars",
        "blames",
        "change",
        "checkers",
        "cluster",
        "digest",
        "doers",
        "doomed",
        "heap",
        "honest",
        "is_open",
        "keyring",
        "liars",
        "make",
        "mark",
        "mending",
        "mix",
        "network",
        "newcomers",
        "nodes",
        "now",
        "on_output",
        "on_step",
        "on_turn",
        "options",
        "peers",
        "present",
        "promises",
        "refusals",
        "scheme",
        "seed",
        "sequence",
        "shell",
        "steps",
        "storage",
        "strangers",
        "suspicions",
        "tracing",
        "workload",
    )

    make: Callable[[Env], Core]
    """Makes the root core of a node."""
    shell: type[Shell]
    is_open: bool
    """Whether nodes are strangers to each other."""
    doers: Mapping[type, Callable[[Any, Any], Any]]
    """By type, how jobs are done (``jobs.py``)."""
    storage: Storage
    """What disks are made of."""
    scheme: Scheme | None
    keyring: Keyring | None
    change: MemberChange | None
    """There where members can change."""
    network: Network
    strangers: OpenLinks | None
    """The links, where the roster is open."""
    workload: Outside
    nodes: list[NodeT]
    """By number, all that ever were."""
    present: list[NodeT]
    honest: list[NodeT]
    """Of those that are there."""
    liars: int
    """The nodes that lie, as a mask."""

    def __init__(self, options: Options, mix: Mix, checkers: Sequence[Checker], trace: Trace | None) -> None:
        self.options = options
        self.seed = str(options.seed)
        self.mix = mix
        self.checkers = tuple(checkers)
        self.on_step: list[Callable[[int, Core], None]] = [
            c.stepped for c in checkers if type(c).stepped is not Checker.stepped
        ]
        self.on_turn: list[Callable[[int, Core, Turn], None]] = [
            c.acted for c in checkers if type(c).acted is not Checker.acted
        ]
        self.on_output: list[Callable[[int, Any], None]] = [
            c.output for c in checkers if type(c).output is not Checker.output
        ]
        self.promises = promises_of(checkers)
        self.mark = self.promises.mark
        self.peers = tuple(range(options.nodes))
        """The nodes that are there."""
        self.cluster = self.peers
        """The same with those that died and were not removed: what whoever joins is told of."""
        self.newcomers: dict[int, Newcomer] = {}
        self.doomed: set[int] = set()
        """The nodes on whose disks something durable was damaged: each may refuse to start from now on."""
        self.mending: set[int] = set()
        """Those of them that mended their folders, and have not returned."""
        self.refusals: dict[str, int] = {}
        """How nodes came to an end by their disks, and how many."""
        self.now = 0.0
        self.sequence = 0
        self.heap: list[tuple[float, int, Callable[[Any, Any], None], Any, Any]] = []
        self.tracing = trace is not None
        self.steps = 0
        self.digest = Digest()
        self.blames = self.suspicions = 0
        self.blamed_liars: dict[str, int] = {}
        """Blames of nodes that do lie, by kind."""
        self._trace = trace

    # --- who is there ---

    @abstractmethod
    def place(self, node: int, peers: tuple[int, ...]) -> NodeT:
        """A new machine with an empty disk, told of these nodes. It has not started."""

    def join(self, *, witness: bool = False) -> Newcomer:
        """A new machine with an empty disk starts. It is told of the nodes of the cluster; they do not know it yet.

        ``witness``: it will keep no state.
        """
        node = len(self.nodes)
        key = b""
        if self.scheme is not None:
            self.scheme.join(node)
            key = self.scheme.signer(node).public
        newcomer = self.newcomers[node] = Newcomer(node, f"n{node}.sim:7500", key, witness)
        self.network.join(Random(f"{self.seed}/network/{node}"))
        self.cluster = (*self.cluster, node)
        machine = self.place(node, self.cluster)
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

    def refuse(self, node: int, how: str, why: str) -> None:
        """A node does not start, or ends, as its disk cannot be trusted. Nobody starts it again: the rest goes on."""
        if self.tracing:
            self.trace(node, "refused", how, why)
        if node not in self.doomed:
            raise Violation("healthy disks", f"node {node} {how}, and nothing durable was damaged: {why}")
        self.refusals[how] = self.refusals.get(how, 0) + 1
        self.die(node)

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
        while heap:
            event = heappop(heap)
            time, _, act, a, b = event
            if time > end:
                heappush(heap, event)  # cheaper than to look before each pop
                break
            self.now = time
            act(a, b)
        self.now = end

    # --- what nodes report ---

    @abstractmethod
    def make_app(self, node: int, rng: Rng) -> App:
        """A fresh App for a node that starts."""

    @abstractmethod
    def crashed(self, place: int, life: int) -> None:
        """The process of a node is gone. Its App's stores, if they outlive it, lose what was not synced."""

    def blamed(self, node: int, blame: Blame) -> None:
        """A node blames another. Only who lies ever deserves it; what liars say of others is not heard.

        A suspicion accuses nobody: who is down or cut off is suspected as well.
        """
        if self.liars >> node & 1:
            return
        if blame.is_suspicion:
            self.suspicions += 1
            if self.tracing:
                self.trace(node, "suspicion", blame.node, blame.why)
            return
        self.blames += 1
        if self.tracing:
            self.trace(node, "blame", blame.node, blame.why)
        if not self.liars >> blame.node & 1:
            raise Violation("no blame", f"node {node} says that node {blame.node} {blame.why}")
        kind = _NUMBER.sub("N", blame.why)
        self.blamed_liars[kind] = self.blamed_liars.get(kind, 0) + 1

    def change_roster(self, node: NodeT, change: RosterChange) -> None:
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


def _call(act: Callable[[], None], _: Any) -> None:
    act()
