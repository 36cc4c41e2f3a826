"""PBFT: a node that was away needs a snapshot, which takes many times longer to arrive than the next one takes to come.

It catches up while clients go on: the file that travels is held, and so are the batches behind it, which are fetched
from those that have them.
"""

from typing import Any

import pytest

from quorate.kernel import Core
from quorate.protocols.pbft.catch_up import CatchUp
from quorate.protocols.pbft.fetching import Fetching
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.images import Images
from quorate.protocols.pbft.watch import PrimaryWatch
from quorate.sim.checkers.base import Violation
from quorate.sim.checkers.catching_up import CATCHING_UP
from quorate.sim.world import World

from tests.sim.pbft_trailing import WITHIN_S, core_of, cut_off, finish, world_of

AWAY = (2.0, 3.0)
"""From when until when a backup is away."""
LATE = 3


def returns(world: World) -> None:
    """A backup is away for a while, and clients go on until it must have caught up."""
    world.start()
    world.run_until(AWAY[0])
    world.nodes[LATE].switch_off()
    world.run_until(AWAY[1])
    world.nodes[LATE].is_off = False
    world.nodes[LATE].restart()
    world.run_until(AWAY[1] + WITHIN_S + 1.0)


def test_a_node_catches_up_under_load_though_snapshots_come_faster_than_they_travel() -> None:
    world, checker = world_of(1)
    returns(world)
    late, *others = world.nodes[LATE], *world.nodes[:LATE]
    assert checker.caught_up == 5, "four at the start, and the one that was away"
    assert (late.snapshots.received, late.snapshots.cut) == (1, 0)
    assert min(node.snapshots.taken for node in others) > 12
    assert [core_of(node).view.number for node in world.nodes] == [0] * 4, "nobody leaves the view for it"
    assert all(not core_of(node).history.held for node in others), "nothing is held any longer"
    assert max(len(node.snapshots.indexes) for node in others) <= 3
    finish(world)


def test_a_transfer_goes_on_where_it_was_when_its_link_is_back() -> None:
    world, checker = world_of(1)
    late, cuts = world.nodes[LATE], list[float]()

    def cut(node: int, core: Core) -> None:
        if not cuts and late.snapshots.pieces > 40:
            cuts.append(world.now)
            cut_off(world, LATE)
            world.after(1.0, lambda: cut_off(world))

    world.on_step.append(cut)
    returns(world)
    assert (len(cuts), checker.caught_up) == (1, 5)
    assert (late.snapshots.received, late.snapshots.cut) == (1, 0), "nothing came twice"


def source_restarts(world: World) -> int:
    """The source crashes in the middle of a transfer, and restarts: it holds nothing then; how often."""
    late, crashed = world.nodes[LATE], list[int]()

    def crash(node: int, core: Core) -> None:
        source = core_of(late).transfer.source if late.up else 0
        if not crashed and late.snapshots.pieces > 40 and source:
            crashed.append(source)
            world.after(0.0, world.nodes[source].crash)
            world.after(0.2, world.nodes[source].restart)

    world.on_step.append(crash)
    returns(world)
    return len(crashed)


def test_a_node_catches_up_though_its_source_restarts_in_the_middle() -> None:
    """Others hold the same snapshot, as they offered it too. The batches behind it are fetched from those alone."""
    world, checker = world_of(1)
    assert (source_restarts(world), checker.caught_up) == (1, 6), "and so does the source"
    late = world.nodes[LATE]
    assert (late.snapshots.received, late.snapshots.cut) == (1, 0), "nothing came twice"


def test_it_does_not_where_whoever_has_dropped_the_batches_is_asked_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: each question costs a beat that reaches a node which cannot answer it."""
    monkeypatch.setattr(Fetching, "whom", lambda self: self._others.any_one())
    world, _ = world_of(1)
    with pytest.raises(Violation) as seen:
        source_restarts(world)
    assert seen.value.property == CATCHING_UP


def test_a_node_that_is_behind_would_leave_the_view_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: what waits here, and was executed elsewhere, makes it suspect the primary."""
    monkeypatch.setattr(PrimaryWatch, "_catches_up", False)
    world, _ = world_of(1)
    returns(world)
    assert [core_of(node).view.number for node in world.nodes] == [0, 0, 0, 1]


def _one_by_one(self: CatchUp) -> None:
    """As ``CatchUp.look`` was: what follows a log that is at its end is asked for at a beat."""
    if self._log.proven:
        self._log.drop_proven(self._history.executed)
        if missing := self._next_proven():
            self._fetching.fetch(missing[:1])
    if (reached := self._history.reached()) is not None:
        self._checkpoints.learn(reached)


@pytest.mark.parametrize(
    ("part", "name", "planted"),
    [
        (Images, "_to_hold", lambda self: []),
        (Holding, "fetches", lambda self, node, image: None),
        (CatchUp, "look", _one_by_one),
    ],
    ids=["holds-nothing", "holds-for-nobody", "fetches-batches-one-by-one"],
)
def test_it_never_does_with_a_planted_bug(
    part: type[Any], name: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, name, planted)
    world, _ = world_of(1)
    with pytest.raises(Violation) as seen:
        returns(world)
    assert seen.value.property == CATCHING_UP


def test_no_more_batches_are_held_than_there_may_be() -> None:
    most = 12_000
    world, _ = world_of(1, hold_bytes_max=most)
    held: list[int] = []

    def weigh(node: int, core: Core) -> None:
        core = core_of(world.nodes[node])
        if core.history.held:
            held.append(core.images._bytes - core.images._bytes_at[core.history.held[0].sequence])

    world.on_step.append(weigh)
    with pytest.raises(Violation):
        returns(world)
    assert most / 2 < max(held) < 2 * most, "what comes until the next snapshot is on top of it"


@pytest.mark.slow
def test_nodes_catch_up_in_many_runs() -> None:
    for seed in range(10, 20):
        world, checker = world_of(seed)
        returns(world)
        assert checker.caught_up == 5, f"seed {seed}"
