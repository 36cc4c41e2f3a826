"""A follower that was away needs a snapshot, which takes many times longer to arrive than the next one takes to come.

It catches up while clients go on: the file that travels is held, and so is the log behind it. Without either it never
does, as each transfer is overtaken by the next snapshot.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Core
from quorate.parts.leaderlog.compaction import Compactor
from quorate.parts.log.entries import Log
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.raft import Raft
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.checkers.catching_up import CATCHING_UP, CatchingUp
from quorate.sim.node import SimNode
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

LEADERLOGS = ("raft", "multipaxos")
MIX = Mix(clients=6, think_s=0.005, delay_s_min=0.004, delay_s_mean=0.001, uplink_bytes_per_s=200_000.0)
AWAY = (2.0, 3.0)
"""From when until when a follower is away."""
WITHIN_S = 6.0
LAG_MAX = 60


def world_of(protocol: str, seed: int, nodes: int = 3, **more: Any) -> tuple[World, CatchingUp]:
    """Snapshots every eight entries, hardly any log before them, in pieces of 4 bytes."""
    equipment = equipment_of(protocol)
    config = replace(
        equipment.simulation,
        **{"snapshot_entries": 8, "keep_entries": 3, "chunk_bytes": 4, "hold_bytes_max": 1 << 20, **more},
    )
    checker = CatchingUp(WITHIN_S, LAG_MAX)
    make: Callable[[Any], Core] = REGISTRY[protocol].make(config, REGISTRY[protocol].core)
    trial = Trial(make, subject("register"), Options(seed=seed, nodes=nodes, faults=()), equipment.invariants, mix=MIX)
    checkers: list[Checker] = [*trial.checkers(), checker]
    return World(trial, checkers), checker


def returns(world: World, who: Callable[[SimNode], bool] = lambda node: True) -> int:
    """A node that does not lead is away for a while, and clients go on until it must have caught up; which node."""
    world.start()
    world.run_until(AWAY[0])
    follower = next(node for node in world.nodes if not node.host.root.standing().was_elected and who(node))
    follower.switch_off()
    world.run_until(AWAY[1])
    follower.is_off = False
    follower.restart()
    world.run_until(AWAY[1] + WITHIN_S + 1.0)
    return follower.id


@pytest.mark.parametrize("protocol", LEADERLOGS)
def test_a_follower_catches_up_under_load_though_snapshots_come_faster_than_they_travel(protocol: str) -> None:
    world, checker = world_of(protocol, 1)
    follower = world.nodes[returns(world)]
    assert checker.caught_up == 4, "three at the start, and the one that was away"
    assert follower.snapshots.received == 1
    others = [node for node in world.nodes if node is not follower]
    assert max(node.snapshots.taken for node in others) > 40
    world.heal()
    for each in world.checkers:
        each.finish(world)


@pytest.mark.parametrize("protocol", LEADERLOGS)
def test_a_transfer_goes_on_where_it_was_when_its_link_is_back(protocol: str) -> None:
    world, checker = world_of(protocol, 1)

    follower = world.nodes[0]
    cuts: list[float] = []

    def cut_off(node: int, core: Core) -> None:
        if not cuts and follower.snapshots.pieces > 10:
            cuts.append(world.now)
            world.network.cuts = [0 if node == follower.id else 1 << follower.id for node in world.peers]
            world.after(1.0, mend)

    def mend() -> None:
        world.network.cuts = [0] * len(world.nodes)

    world.on_step.append(cut_off)
    assert returns(world, lambda node: node is follower) == follower.id
    assert checker.caught_up == 4
    assert len(cuts) == 1
    assert (follower.snapshots.received, follower.snapshots.cut) == (1, 0), "nothing came twice"


@pytest.mark.parametrize("protocol", LEADERLOGS)
def test_a_follower_catches_up_though_its_source_restarts_in_the_middle(protocol: str) -> None:
    world, checker = world_of(protocol, 1)
    crashed: list[SimNode] = []

    def crash(node: int, core: Core) -> None:
        if not crashed and follower.snapshots.pieces > 10:
            crashed.append(next(each for each in world.nodes if each.host.root.standing().was_elected))
            world.after(0.0, crashed[0].crash)
            world.after(0.2, crashed[0].restart)

    world.on_step.append(crash)
    follower = world.nodes[0]
    assert returns(world, lambda node: node is follower) == follower.id
    assert checker.caught_up == 5, "and so does the source"
    assert len(crashed) == 1


@pytest.mark.parametrize("protocol", LEADERLOGS)
@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("held", property(lambda self: ())),
        ("base", lambda self, log, index, followers, healthy=Compactor.base: healthy(self, log, index, None)),
    ],
    ids=["deletes-the-file-under-transfer", "forgets-to-hold-the-log"],
)
def test_it_never_does_where_what_travels_is_not_held(
    protocol: str, name: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compactor, name, planted)
    world, _ = world_of(protocol, 1)
    with pytest.raises(Violation) as seen:
        returns(world)
    assert seen.value.property == CATCHING_UP


@pytest.mark.parametrize("protocol", LEADERLOGS)
def test_no_more_log_is_held_than_there_may_be(protocol: str) -> None:
    world, _ = world_of(protocol, 1, hold_bytes_max=2000)
    longest: list[int] = []
    world.on_step.append(lambda node, core: longest.append(_log(core).size_bytes))
    with pytest.raises(Violation):
        returns(world)
    assert 2000 < max(longest) < 8000, "what comes until the next snapshot is on top of it"


def _log(core: Core) -> Log:
    if isinstance(core, MultiPaxos):
        return core.acceptor.log
    assert isinstance(core, Raft)
    return core.log


@pytest.mark.slow
@pytest.mark.parametrize("protocol", LEADERLOGS)
@pytest.mark.parametrize("nodes", [3, 5])
def test_followers_catch_up_in_many_runs(protocol: str, nodes: int) -> None:
    for seed in range(10, 20):
        world, checker = world_of(protocol, seed, nodes)
        returns(world)
        assert checker.caught_up == nodes + 1, f"seed {seed}"
