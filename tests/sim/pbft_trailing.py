"""Worlds of PBFT with four nodes, of which one is behind, under load: slow links, small pieces, frequent snapshots."""

from typing import Any

from msgspec.structs import replace

from quorate.kernel import Core
from quorate.parts.crypto.keys import Symbolic
from quorate.protocols import REGISTRY
from quorate.protocols.pbft.core import Pbft
from quorate.sim.checkers.catching_up import CatchingUp
from quorate.sim.node import SimNode
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.campaign import CLUSTER
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

MIX = Mix(clients=6, think_s=0.005, delay_s_min=0.004, delay_s_mean=0.001, uplink_bytes_per_s=200_000.0)
WITHIN_S = 8.0
LAG_MAX = 48


def world_of(seed: int, *, core: type[Core] = Pbft, **more: Any) -> tuple[World, CatchingUp]:
    """A snapshot every 32 batches, which come within half a second, in pieces of 2 bytes, which take seconds."""
    entry, equipment, nodes = REGISTRY["pbft"], equipment_of("pbft"), 4
    window = {"checkpoint_batches": 16, "window": 32, "snapshot_batches": 32}
    config = replace(
        equipment.simulation, **{"chunk_bytes": 2, "batch_count_max": 4, "hold_bytes_max": 1 << 20, **window, **more}
    )
    scheme = Symbolic(range(nodes), b"%d" % seed, CLUSTER)
    trial = Trial(
        entry.make(config, core, scheme.keys),
        subject("register", entry.traits, scheme),
        Options(seed=seed, nodes=nodes, faults=()),
        equipment.invariants,
        mix=MIX,
        scheme=scheme,
    )
    checker = CatchingUp(WITHIN_S, LAG_MAX)
    return World(trial, [*trial.checkers(), checker]), checker


def core_of(node: SimNode) -> Pbft:
    """What it runs."""
    core = node.host.root
    assert isinstance(core, Pbft)
    return core


def cut_off(world: World, *nodes: int) -> None:
    """These reach nobody and are reached by nobody; with none, all links are there."""
    mask = sum(1 << node for node in nodes)
    everybody = (1 << len(world.peers)) - 1
    world.network.cuts = [everybody & ~(1 << node) if node in nodes else mask for node in world.peers]


def finish(world: World) -> None:
    """Heal, and have each checker judge the whole."""
    world.heal()
    for each in world.checkers:
        each.finish(world)
