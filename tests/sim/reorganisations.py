"""Worlds whose halves are apart for a while, so that one of them reorganises when they meet again."""

from __future__ import annotations

from typing import Any

from quorate.kernel import Turn
from quorate.sim.swarm import Mix
from quorate.sim.world import World

from tests.sim.chains import is_settled, trial, verify

APART_S, MEET_S, END_S = 8.0, 30.0, 120.0


def split(world: World) -> None:
    """The first half of the nodes cannot reach the others."""
    nodes = len(world.nodes)
    low, high = (1 << nodes // 2) - 1, ((1 << nodes) - 1) ^ ((1 << nodes // 2) - 1)
    world.network.cuts = [high if node < nodes // 2 else low for node in range(nodes)]


def meet(world: World) -> None:
    world.network.cuts = [0] * len(world.nodes)


def heads(world: World) -> set[bytes]:
    return {node.app.head for node in world.nodes if node.up}  # type: ignore[attr-defined]


def make(seed: int, nodes: int = 6, **which: Any) -> World:
    """One that has been apart from APART_S to MEET_S, and is about to heal."""
    mix = Mix(delay_s_min=0.01, delay_s_mean=0.02, sync_s=0.005, frames_per_checkpoint=10)
    made = trial(seed, nodes, mix=mix, faults=(), **which)
    world = World(made, made.checkers())
    world.start()
    world.run_until(APART_S)
    split(world)
    world.run_until(MEET_S)
    return world


def settle(world: World, end_s: float = END_S) -> None:
    """Until all are up and have one head. Raises AssertionError if that does not come."""
    while world.now < end_s:
        world.run_until(world.now + 0.5)
        if is_settled(world.nodes):
            return
    raise AssertionError(f"{len(heads(world))} heads at {end_s:g} s")


def check(world: World) -> None:
    for node in world.nodes:
        verify(node.id, node.app, node.host.root)  # type: ignore[arg-type]


def loser(world: World) -> Any:
    """A node of the half with less work."""
    roots: list[Any] = [node.host.root for node in world.nodes]
    weights = [root.tree[root.head].weight for root in roots]
    return world.nodes[weights.index(min(weights))]


def crash_at(seed: int, step: int, late_s: float, **which: Any) -> int | None:
    """Kill a node of the losing half at its nth step after the halves have met. Gives the depth of its reorganisation;
    None: it took fewer steps until MEET_S + 4 s."""
    world = make(seed, **which)
    victim = loser(world)
    act, count = victim._act, 0

    def acting(turn: Turn) -> None:
        nonlocal count
        act(turn)
        count += 1
        if count == step:
            world.after(late_s, kill)

    def kill() -> None:
        if victim.up:
            victim.crash()
            world.after(0.3, victim.restart)

    victim._act = acting
    meet(world)
    world.run_until(MEET_S + 4.0)
    if count < step:
        return None
    settle(world)
    check(world)
    deepest: int = victim.app.counts["deepest"]
    return deepest


def reorganised(seed: int, **which: Any) -> World:
    """Without a crash."""
    world = make(seed, **which)
    assert len(heads(world)) > 1
    meet(world)
    settle(world)
    check(world)
    return world
