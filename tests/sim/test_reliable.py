"""The Outbox in the simulator: a protocol that assumes reliable links, over links that lose, double and reorder."""

import pytest

from quorate.kernel import nodes_of
from quorate.parts.reliable import ReliableConfig
from quorate.sim.options import Options
from quorate.sim.swarm import Mix

from tests.sim.roll_call import Bare, Journaled, RollCall, core, epochs, finish, world

SEEDS = range(100)
LAST = RollCall.last
FAULTY_S = 10.0
HEALING_S = 30.0


def options(seed: int, faults: tuple[str, ...] = ("network",), by_inputs: bool = False) -> Options:
    return Options(nodes=4, seed=seed, faults=faults, by_inputs=by_inputs)


def test_without_the_outbox_a_lost_vote_stops_it_for_ever() -> None:
    lossy = stalled = 0
    for seed in SEEDS:
        made = world(Bare, options(seed))
        made.run_until(FAULTY_S)
        made.nemesis.heal()
        made.run_until(made.now + 10 * HEALING_S)
        is_stalled = min(epochs(made)) < LAST
        assert is_stalled == (made.network.lost > 0)
        lossy += made.network.lost > 0
        stalled += is_stalled
    assert stalled == lossy > 60


def test_with_it_every_epoch_ends_at_every_node_whatever_the_network_does() -> None:
    lossy = under_fire = 0
    for seed in SEEDS:
        made = world(RollCall, options(seed))
        under_fire += finish(made, FAULTY_S)
        lossy += made.network.lost > 0
        made.nemesis.heal()
        assert finish(made, HEALING_S), f"seed {seed}: {epochs(made)}"
        made.run_until(made.now + 0.5)
        for node in range(4):
            assert core(made, node).totals == {epoch: 400 * epoch + 6 for epoch in range(LAST)}
            assert core(made, node).outbox.messages == 0, "all have left all"
    assert lossy > 60
    assert under_fire > 80, "most need no healing"


@pytest.mark.parametrize(
    ("make", "by_inputs"), [(RollCall, False), (RollCall, True), (Journaled, False)], ids=["records", "inputs", "both"]
)
@pytest.mark.parametrize(
    "faults", [("crash",), ("crash", "network", "disk", "pause"), ("partition", "clock", "network")]
)
@pytest.mark.parametrize("seeds", [range(30, 40), pytest.param(range(40), marks=pytest.mark.slow)])
def test_crashes_and_all_the_rest_stop_it_no_longer_than_they_last(
    faults: tuple[str, ...], make: type[RollCall], by_inputs: bool, seeds: range
) -> None:
    crashes = 0
    for seed in seeds:
        made = world(make, options(seed, faults, by_inputs))
        finish(made, FAULTY_S)
        crashes += made.nemesis.counts.get("crash", 0)
        made.nemesis.heal()
        assert finish(made, HEALING_S), f"seed {seed}: {epochs(made)}"
    assert crashes > len(seeds) // 2 or "crash" not in faults


class Many(RollCall):
    """As in the Byzantine protocols: n - f votes end an epoch, so one node may be left behind."""

    last = 1000
    needs = 3
    config = ReliableConfig(beat_s=0.1, epochs_max=50)


def test_a_node_that_is_a_hundred_epochs_behind_is_told_so_and_catches_up() -> None:
    made = world(Many, options(0), Mix(loss=0.05))
    made.network.cuts = [0b1000, 0b1000, 0b1000, 0b0111]
    while min(epochs(made)[:3]) < 150:
        made.run_until(made.now + 0.1)
        for node in range(3):
            assert core(made, node).outbox.messages <= 60, "what one that is away may need is bounded"
    assert epochs(made)[3] == 0
    assert all(core(made, node).outbox.floor > 80 for node in range(3))

    made.network.cuts = [0, 0, 0, 0]
    while not core(made, 3).jumps:
        made.run_until(made.now + 0.01)
        abandoned = core(made, 3).outbox.abandoned
        assert 3 not in nodes_of(abandoned)
    assert core(made, 3).epoch >= 150
    made.run_until(made.now + 5.0)
    assert max(epochs(made)) - min(epochs(made)) <= 3
    assert core(made, 3).jumps <= 3
    assert all(core(made, node).outbox.behind == 0 for node in range(4))


def test_two_runs_of_a_seed_are_the_same() -> None:
    def digest() -> tuple[int, int]:
        made = world(RollCall, options(7, ("crash", "network")))
        made.run_until(5.0)
        return made.digest.value, made.network.delivered

    assert digest() == digest()
