"""Chains: simulated worlds of Nakamoto nodes, as campaigns have them, with whatever a test wants to be different."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from quorate.kernel import Core, Env, mask_of
from quorate.ledger.forkchoice.choice import ForkChoice
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.equipment import SIMULATION
from quorate.protocols.nakamoto.invariants import NakamotoInvariants
from quorate.protocols.nakamoto.messages import NakamotoConfig
from quorate.sim.options import FAULTS, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.chain.app import CoinApp, CoinStore
from quorate.trials.chain.chain_subject import ChainSubject
from quorate.trials.chain.mining import INTERVAL_S


def trial(
    seed: int = 0,
    nodes: int = 8,
    *,
    core: Callable[..., Nakamoto] = Nakamoto,
    config: NakamotoConfig = SIMULATION,
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
    return Trial(make, ChainSubject(nodes, interval_s, app=app), options, (NakamotoInvariants,), mix=mix)


def run(seed: int = 0, nodes: int = 8, **which: Any) -> RunOutcome:
    return simulate(trial(seed, nodes, **which))


def with_liars(made: Trial, liars: Sequence[int]) -> World:
    """Run it to its end; these nodes lie of their own accord. Raises Violation."""
    world = World(made, made.checkers())
    world.liars = mask_of(tuple(liars))
    world.honest = [node for node in world.nodes if node.id not in liars]
    world.run()
    return world
