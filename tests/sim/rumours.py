"""Rumours: a world of strangers who gossip, without clients and without a log. Each rumour must reach every node.

`python -m tests.sim.rumours --nodes 1000 --duration-s 60` says how fast that is, and how much memory it takes.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path as FilePath
from random import Random
from typing import Any, BinaryIO

from quorate.kernel import ROOT, App, Path, Requester, Rng
from quorate.parts.crypto.keys import Scheme
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.node import SimNode
from quorate.sim.options import Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.strangers import address_of
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Results, Subject, Workload
from quorate.sim.world import World

from tests.sim.gossip import NUMBER_BYTES, RECENT_MAX, Gossip, Heard

SPREAD = "spread"
BOUND_S = 10.0
SEEDS = 16
"""How many addresses a node that starts is given, as by a name server that knows who was there lately."""


class Nothing(App):
    """Takes what is delivered and does nothing with it."""

    def output(self, value: Any, path: Path = ROOT) -> None:
        pass

    def request(self, client: Requester, request: Any) -> None:
        raise AssertionError("there are no clients")

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise AssertionError("there is no log")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise AssertionError("there is no log")


class Rumour:
    """One that is on its way. ``lives`` says of the nodes that were up when it began in which life they were."""

    def __init__(self, data: bytes, origin: int, at: float, lives: Mapping[int, int]) -> None:
        self.data = data
        self.origin = origin
        self.at = at
        self.lives = lives
        self.reached: dict[int, int] = {}
        """By node, the life in which it heard."""


class Spread(Checker):
    """Every node that stays up hears each rumour within a bound, and once per life, unless the rumour's origin crashes.

    For worlds without partitions and pauses.
    """

    world: World

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self.spreading: dict[int, Rumour] = {}
        self.full = self.excused = 0
        """Rumours that reached all who had to hear them, and those whose origin did not stay up."""
        self.slowest_s = 0.0
        """The longest that a rumour took to a node that had to hear it."""

    def watch(self, world: World) -> None:
        self.world = world

    def began(self, number: int, data: bytes, origin: int) -> None:
        """A rumour begins at a node."""
        lives = {node.id: node.life for node in self.world.nodes if node.up}
        self.spreading[number] = Rumour(data, origin, self.world.now, lives)

    def output(self, node: int, value: Any) -> None:
        assert isinstance(value, Heard)
        rumour = self.spreading.get(value.number)
        if rumour is None:
            return  # for a node that was down, after the bound
        life = self.world.nodes[node].life
        if value.data != rumour.data:
            raise Violation(SPREAD, f"node {node} heard {value.data!r} as rumour {value.number}")
        if rumour.reached.get(node) == life:
            raise Violation(SPREAD, f"node {node} heard rumour {value.number} twice")
        rumour.reached[node] = life
        if life == rumour.lives.get(node):
            self.slowest_s = max(self.slowest_s, self.world.now - rumour.at)

    def due(self, number: int) -> None:
        """The bound of this rumour is over. Raises Violation."""
        rumour = self.spreading.pop(number)
        if not self._stayed(rumour, rumour.origin):
            self.excused += 1
            return
        for node in self.world.honest:
            if self._stayed(rumour, node.id) and node.id not in rumour.reached:
                raise Violation(
                    SPREAD,
                    f"node {node.id} was up and did not hear rumour {number} within {self.bound_s:g} s; "
                    f"{len(rumour.reached)} of {len(rumour.lives)} nodes did",
                )
        self.full += 1

    def _stayed(self, rumour: Rumour, number: int) -> bool:
        node: SimNode = self.world.nodes[number]
        return node.up and node.life == rumour.lives.get(number)


class Rumours(Workload):
    """Begins a rumour every so often, at a random node that is up."""

    def __init__(self, world: World, spread: Spread, every_s: float, size_bytes: int, churn: float) -> None:
        super().__init__()
        self._churn = churn
        self.came = 0
        self._world = world
        self._spread = spread
        self._every_s = every_s
        self._size_bytes = size_bytes
        self._rng = Random(f"{world.seed}/rumours")
        self._over = False

    @property
    def are_idle(self) -> bool:
        return self.answered == self.operations

    def start(self) -> None:
        self._world.after(self._every_s, self._tell)
        if self._churn:
            self._world.after(self._churn_s(), self._replace)

    def finish(self) -> None:
        self._over = True

    def missing(self) -> str:
        return "" if self.are_idle else f"{self.operations - self.answered} rumours are still spreading"

    def _tell(self) -> None:
        if self._over:
            return
        up = [node for node in self._world.honest if node.up and not node.paused]
        if up:
            node = up[int(self._rng.random() * len(up))]
            number = self.operations
            self.operations += 1
            data = number.to_bytes(NUMBER_BYTES, "big").ljust(self._size_bytes, b".")
            self._spread.began(number, data, node.id)
            node.operate(data)
            self._world.after(self._spread.bound_s, lambda: self._due(number))
        self._world.after(self._every_s, self._tell)

    def _churn_s(self) -> float:
        return self._rng.expovariate(self._churn * len(self._world.honest) / 60.0)

    def _replace(self) -> None:
        """One leaves for good, another comes."""
        if self._over:
            return
        world = self._world
        world.leave(world.honest[int(self._rng.random() * len(world.honest))].id)
        world.join()
        self.came += 1
        world.after(self._churn_s(), self._replace)

    def _due(self, number: int) -> None:
        self._spread.due(number)
        self.answered += 1


class RumourSubject(Subject):
    """One rumour per ``every_s``, which must be everywhere within ``bound_s``.

    ``churn``: how many of the nodes are replaced by others in a minute.
    """

    is_open = True

    def __init__(
        self, bound_s: float = BOUND_S, every_s: float = 1.0, size_bytes: int = 100, churn: float = 0.0
    ) -> None:
        self.spread = Spread(bound_s)
        self._churn = churn
        self._rng = Random("addresses")
        self._every_s = every_s
        self._size_bytes = size_bytes

    def app(self, node: int, rng: Rng) -> App:
        return Nothing()

    def addresses(self) -> tuple[str, ...]:
        """What a node that starts is told."""
        nodes = self.spread.world.honest
        return tuple(address_of(node.id) for node in self._rng.sample(nodes, min(SEEDS, len(nodes))))

    def workload(self, world: World) -> Workload:
        return Rumours(world, self.spread, self._every_s, self._size_bytes, self._churn)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        return [self.spread, *protocol]

    def converged(self, world: World) -> bool:
        """Whether every node has the newest rumours of all, those that were down too."""
        return not self._behind(world)

    def missing(self, world: World) -> str:
        return f"{self._behind(world)} nodes do not have what others have"

    def results(self, world: World) -> Results:
        spread, workload = self.spread, world.workload
        assert isinstance(workload, Rumours)
        counts = {"full rumours": spread.full, "excused rumours": spread.excused, "came": workload.came}
        return Results(
            counts=counts,
            data=[b"%d %d %r" % (spread.full, spread.excused, spread.slowest_s)],
        )

    def _behind(self, world: World) -> int:
        known = [core.known for node in world.honest if isinstance(core := node.host.root, Gossip)]
        newest = sorted(set().union(*known))[-RECENT_MAX:]
        return sum(not known_here.keys() >= set(newest) for known_here in known)


def spread(
    nodes: int, duration_s: float, mix: Mix, seed: int = 1, make: type[Gossip] = Gossip, churn: float = 0.0
) -> RunOutcome:
    """One run."""
    subject = RumourSubject(churn=churn)
    options = Options(seed=seed, nodes=nodes, duration_s=duration_s)
    return simulate(Trial(lambda env: make(env, subject.addresses()), subject, options, mix=mix))


def peak_mb() -> int:
    """The most memory of this program. ``ru_maxrss`` also counts what the process was before it became this program."""
    with suppress(OSError), FilePath("/proc/self/status").open(encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure a run without faults and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.rumours")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--churn", type=float, default=0.1, help="how many of the nodes are replaced in a minute")
    arguments = parser.parse_args()
    began_s = time.process_time()
    outcome = spread(arguments.nodes, arguments.duration_s, Mix(), churn=arguments.churn)
    spent_s = time.process_time() - began_s
    row = {
        "nodes": arguments.nodes,
        "violated": outcome.violated,
        "rumours": outcome.counts["full rumours"],
        "came": outcome.counts["came"],
        "messages": outcome.messages,
        "cpu_s": round(spent_s, 2),
        "messages_per_s": round(outcome.messages / spent_s),
        "rss_mb_max": peak_mb(),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
