"""Chains: simulated worlds of Nakamoto nodes with Coins above them, and what must hold there.

Mining is symbolic: the job ``Mine`` ends after an exponential time whose mean is ``interval_s`` for all nodes together,
so that a new head may cancel it and begin again without changing anything. The nonce that it gives is real: on a chain
of which every second hash is good enough, two are tried.

`python -m tests.sim.chains --seeds 0:20 --faults all` runs some and says what each came to.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from quorate.kernel import App, Core, Env, Job, Rng, mask_of
from quorate.ledger.forkchoice.choice import ForkChoice
from quorate.ledger.outputs import Extended, Finalised
from quorate.ledger.sealer.proof_of_work import Mine, Mined, hash_number
from quorate.ledger.tree_faults import tree_faults
from quorate.parts.crypto.keys import Scheme
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import NakamotoConfig
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.jobs import Pending
from quorate.sim.options import FAULTS, Options, parse_faults
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Results, Subject, Workload
from quorate.sim.world import World

from tests.sim.coins import ACCOUNTS, FUND, GENESIS, SUBSIDY, CoinApp, CoinEngine, CoinStore, raw_coin

FINAL, CONVERGED, SUPPLY, STATE, TREE, GROWTH, PREFIX = (
    "finality",
    "convergence",
    "supply",
    "state",
    "block tree",
    "growth",
    "common prefix",
)
CONFIG = NakamotoConfig(genesis=GENESIS, flush_blocks=5, keep_blocks=400, headers_max=16, bodies_max=4)
INTERVAL_S = 1.0
LOOK_EVERY = 16
"""At how many steps of a node its tree is looked at once."""


class Payments(Workload):
    """Somebody pays somebody, at some node that is up."""

    def __init__(self, world: World, every_s: float) -> None:
        super().__init__()
        self._world = world
        self._every_s = every_s
        self._rng = Random(f"{world.seed}/payments")
        self._numbers = [0] * ACCOUNTS
        self.sent: list[bytes] = []
        self._is_over = False

    @property
    def are_idle(self) -> bool:
        return self._is_over

    def start(self) -> None:
        self._world.after(self._every_s, self._pay)

    def finish(self) -> None:
        self._is_over = True

    def _pay(self) -> None:
        if self._is_over:
            return
        rng = self._rng
        sender = rng.randrange(ACCOUNTS)
        up = [node for node in self._world.nodes if node.up]
        if up:
            raw = raw_coin(sender, self._numbers[sender], rng.randrange(ACCOUNTS), 1 + rng.randrange(5))
            self._numbers[sender] += 1
            self.operations += 1
            self.sent.append(raw)
            up[rng.randrange(len(up))].request(None, raw)
        self._world.after(self._every_s, self._pay)


class HeadsChecker(Checker):
    """No node ever goes below what it called final, in any of its lives; and all that is final is one chain."""

    def __init__(self) -> None:
        self.final: dict[int, bytes] = {}
        """By height, of all nodes."""
        self._heights: dict[int, int] = {}
        self._steps: dict[int, int] = {}

    def output(self, node: int, value: Any) -> None:
        if isinstance(value, Finalised):
            known = self.final.setdefault(value.height, value.id)
            if known != value.id:
                raise Violation(FINAL, f"node {node} finalises another block at height {value.height}")
            if value.height < self._heights.get(node, 0):
                raise Violation(FINAL, f"node {node} finalises height {value.height} after {self._heights[node]}")
            self._heights[node] = value.height
        elif isinstance(value, Extended):
            known = self.final.get(value.height, value.id)
            if known != value.id and value.height <= self._heights.get(node, 0):
                raise Violation(FINAL, f"node {node} replaces the final block at height {value.height}")

    def stepped(self, node: int, core: Core) -> None:
        count = self._steps[node] = self._steps.get(node, 0) + 1
        if count % LOOK_EVERY == 0:
            assert isinstance(core, Nakamoto)
            faults = tree_faults(core.tree)
            if faults:
                raise Violation(TREE, f"node {node}: {faults[0]}")


class ChainSubject(Subject):
    """One run's. ``stores`` outlive crashes."""

    def __init__(
        self,
        nodes: int,
        interval_s: float = INTERVAL_S,
        pay_every_s: float = 0.3,
        app: Callable[[int, CoinStore], CoinApp] = CoinApp,
    ) -> None:
        self._app = app
        self._interval_s = interval_s
        self._nodes = nodes
        self._pay_every_s = pay_every_s
        self.stores = [CoinStore() for _ in range(nodes)]
        self.deepest = 0
        self.doers = {Mine: self.mine}

    def mine(self, node: Any, job: Job) -> Pending:
        """All nodes have the same share."""
        work: Mine = job.work
        target = int.from_bytes(work.target, "big")

        def end() -> Mined:
            draft = replace(work.draft, nonce=node.rng.getrandbits(32))
            while hash_number(draft.id) > target:
                draft = replace(draft, nonce=(draft.nonce + 1) % 2**32)
            return Mined(draft.nonce, draft.time_s)

        return Pending(end, node.rng.expovariate(1.0 / (self._interval_s * self._nodes)))

    def app(self, node: int, rng: Rng) -> App:
        return self._app(node, self.stores[node])

    def workload(self, world: Any) -> Workload:
        return Payments(world, self._pay_every_s)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        return [HeadsChecker(), *protocol, Agreement()]

    def converged(self, world: Any) -> bool:
        """All up, and one head."""
        return is_settled(world.honest)

    def missing(self, world: Any) -> str:
        return f"{len({node.app.head for node in world.honest})} different heads"

    def results(self, world: Any) -> Results:
        apps = [node.app for node in world.nodes]
        counts = {name: sum(app.counts[name] for app in apps) for name in ("executed", "refused", "rewinds")}
        counts["deepest"] = max(app.counts["deepest"] for app in apps)
        counts["height"] = max(len(app.main) - 1 for app in apps)
        counts["tree"] = max(len(node.host.root.tree) for node in world.nodes)
        counts["flushes"] = sum(store.flushes for store in self.stores)
        return Results(counts=counts, data=[app.head for app in apps])


class Agreement(Checker):
    """At the end: the App stands where its core does, no coin was made or lost, and a replay gives the same state."""

    def finish(self, world: Any) -> None:
        for node in world.honest:
            app, core = node.app, node.host.root
            verify(node.id, app, core)


def is_settled(nodes: Sequence[Any]) -> bool:
    """Whether all are up and have one head, their Apps too: outputs may still wait for the disk."""
    if not all(node.up for node in nodes):
        return False
    return len({head for node in nodes for head in (node.app.head, node.host.root.head)}) == 1


def verify(name: object, app: CoinApp, core: Nakamoto) -> None:
    """Of one node. Raises Violation."""
    if app.head != core.head:
        raise Violation(STATE, f"node {name}: App and core have different heads")
    height = len(app.main) - 1
    supply, expected = app.supply(), ACCOUNTS * FUND + SUBSIDY * height
    if supply != expected:
        raise Violation(SUPPLY, f"node {name} has {supply} coins at height {height}, not {expected}")
    replay = CoinEngine()
    for id in app.main[1:]:
        block = app.engine.done[id].block
        assert block is not None
        why = replay.execute(id, block)
        if why:
            raise Violation(STATE, f"node {name}: a replay refuses {id.hex()}: {why}")
        replay.go(id)
    if replay.state != app.engine.state:
        raise Violation(STATE, f"node {name}: a replay from the beginning has another state")


def trial(
    seed: int = 0,
    nodes: int = 8,
    *,
    core: Callable[..., Nakamoto] = Nakamoto,
    config: NakamotoConfig = CONFIG,
    choice: Callable[[], ForkChoice] | None = None,
    mix: Mix | None = None,
    faults: tuple[str, ...] = FAULTS,
    duration_s: float = 40.0,
    interval_s: float = INTERVAL_S,
    kinds: Sequence[tuple[int, Callable[..., Nakamoto]]] = (),
    app: Callable[[int, CoinStore], CoinApp] = CoinApp,
) -> Trial:
    """``kinds``: nodes that are something else than ``core``."""
    others = dict(kinds)

    def make(env: Env) -> Core:
        return others.get(env.id, core)(env, config, choice=None if choice is None else choice())

    options = Options(seed=seed, nodes=nodes, faults=faults, duration_s=duration_s, clients=0)
    return Trial(make, ChainSubject(nodes, interval_s, app=app), options, mix=mix)


def run(seed: int = 0, nodes: int = 8, **which: Any) -> RunOutcome:
    return simulate(trial(seed, nodes, **which))


def with_liars(made: Trial, liars: Sequence[int]) -> World:
    """Run it to its end; these nodes lie of their own accord. Raises Violation."""
    world = World(made, made.checkers())
    world.liars = mask_of(tuple(liars))
    world.honest = [node for node in world.nodes if node.id not in liars]
    world.run()
    return world


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.chains")
    parser.add_argument("--seeds", default="0:20")
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--faults", default="all")
    parser.add_argument("--duration-s", type=float, default=60.0)
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    began_s = time.process_time()
    for seed in range(int(first), int(end or int(first) + 1)):
        outcome = run(seed, arguments.nodes, faults=parse_faults(arguments.faults), duration_s=arguments.duration_s)
        counts = {name: count for name, count in outcome.counts.items() if count}
        print(seed, outcome.text or "holds", counts, f"{time.process_time() - began_s:.1f} s", flush=True)


if __name__ == "__main__":
    main()
