"""PBFT: a backup that alone has left a view executes what the others decide there, and has a vote at the next change.

It was cut off while requests waited, and suspected the primary. It has promised to vote in no view before the next one,
so it does not; and the others have no cause to leave theirs.
"""

import pytest

from quorate.kernel import Core
from quorate.protocols.pbft.execution import Execution
from quorate.sim.world import World

from tests.sim.pbft_trailing import core_of, cut_off, world_of

ALONE = 3
IMPATIENT = {"chunk_bytes": 256, "request_timeout_s": 0.3, "beat_s": 0.1}
LAG_MAX = 24
"""Less than the window: it keeps up by what is decided, not by checkpoints."""
NOTE = (
    "waits for view 1, for which 1 of 3 nodes have asked that it takes: until it begins this node does not vote, and "
    "executes what the others decide"
)


def leaves_alone(world: World) -> None:
    """It is cut off until it has asked for view 1; then all links are there again, and clients go on."""
    world.start()
    world.run_until(1.0)
    core = core_of(world.nodes[ALONE])
    cut_off(world, ALONE)
    world.run_until(1.6)
    cut_off(world)
    assert (core.view.number, core.view.is_changing) == (1, True)


def lag_until(world: World, time_s: float) -> int:
    """By how many entries it was behind at most."""
    lags: list[int] = []

    def look(node: int, core: Core) -> None:
        if world.nodes[ALONE].up:
            lags.append(max(each.applied for each in world.nodes) - world.nodes[ALONE].applied)

    world.on_step.append(look)
    world.run_until(time_s)
    world.on_step.remove(look)
    return max(lags)


def test_it_executes_what_the_others_decide_also_after_a_restart() -> None:
    world, _ = world_of(1, **IMPATIENT)
    leaves_alone(world)
    world.run_until(3.0)
    assert lag_until(world, 6.0) < LAG_MAX
    world.nodes[ALONE].crash()
    world.nodes[ALONE].restart()
    world.run_until(7.0)
    assert lag_until(world, 9.0) < LAG_MAX
    assert [core_of(node).view.number for node in world.nodes] == [0, 0, 0, 1]
    standing = core_of(world.nodes[ALONE]).standing()
    assert (standing.role, standing.leader, standing.note) == ("backup", None, NOTE)
    assert core_of(world.nodes[0]).standing().note == ""
    world.heal()


def test_it_has_a_vote_again_at_the_next_view_change() -> None:
    """The primary dies: of four nodes three are left, and all of them are needed."""
    world, _ = world_of(1, **IMPATIENT)
    leaves_alone(world)
    world.run_until(3.0)
    world.nodes[0].switch_off()
    world.run_until(6.0)
    cores = [core_of(node) for node in world.nodes[1:]]
    assert [(core.view.number, core.view.is_changing) for core in cores] == [(1, False)] * 3
    executed = min(core.history.executed for core in cores)
    world.run_until(7.0)
    assert min(core.history.executed for core in cores) > executed + 20
    assert cores[-1].standing().note == ""


def test_it_would_fall_behind_if_it_fetched_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: it takes no proposals, so each batch costs a round trip, and then a window is over."""
    monkeypatch.setattr(Execution, "_missing", lambda self, digest: [digest])
    world, _ = world_of(1, **IMPATIENT)
    leaves_alone(world)
    world.run_until(3.0)
    assert lag_until(world, 6.0) > LAG_MAX
