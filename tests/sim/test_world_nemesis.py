"""The nemesis among a thousand nodes: every kind of fault strikes, and none costs the square of the number of nodes."""

import tracemalloc

from quorate.kernel import App, Rng
from quorate.sim.options import NODES_MAX, Options
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix
from quorate.sim.trace import Trace
from quorate.sim.trial import Trial
from quorate.sim.workload import Subject
from quorate.sim.world import World

from tests.sim.worlds import NoApp, Witness


class Quiet(Subject):
    """Nobody asks for anything."""

    def app(self, node: int, rng: Rng) -> App:
        return NoApp()


def world(nodes: int, trace: Trace | None = None) -> World:
    return World(Trial(Witness, Quiet(), Options(nodes=nodes), mix=Mix()), trace=trace)


def peak_bytes(made: World) -> int:
    """What a partition into two halves takes while it is made."""
    half = (1 << len(made.nodes) // 2) - 1
    tracemalloc.start()
    try:
        made.nemesis._cut(made.nemesis._cuts_around(half))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_partition_of_a_thousand_nodes_takes_a_mask_per_node() -> None:
    made = world(1000)
    for node in made.nodes:
        node.start()
    assert peak_bytes(made) < 1_000_000
    assert all(mask.bit_count() == 500 for mask in made.network.cuts)


def test_a_partition_is_put_into_words_for_a_trace() -> None:
    lines: list[str] = []
    made = world(3, Trace(lines.append))
    for node in made.nodes:
        node.start()
    mend = made.nemesis._cut([0b110, 0, 0b001])
    mend()
    assert [line.split(maxsplit=2)[2] for line in lines[3:]] == [
        "partition                 ['n0 !> (1, 2)', 'n2 !> (0,)']",
        "mended",
    ]


def test_every_fault_strikes_among_as_many_nodes_as_there_may_be() -> None:
    every_s = 0.05
    mix = Mix(
        clog_every_s=every_s,
        partition_every_s=every_s,
        crash_every_s=every_s,
        pause_every_s=every_s,
        slow_every_s=every_s,
        stall_every_s=every_s,
        clock_every_s=every_s,
        drift_max=0.1,
        jump_s_max=1.0,
    )
    outcome = simulate(Trial(Witness, Quiet(), Options(seed=1, nodes=NODES_MAX, duration_s=1.0), mix=mix))
    assert outcome.holds, outcome.text
    kinds = ("crash", "crashed nodes", "partition", "clog", "pause", "slow disk", "full disk", "clock")
    assert all(outcome.counts[kind] > 0 for kind in kinds), outcome.counts
