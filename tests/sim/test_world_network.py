"""The simulated network: loss, duplication, cuts, clogs, order, and what a thousand nodes cost."""

import tracemalloc
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from quorate.kernel import Send
from quorate.sim.network import HEALTHY_DELAY_S_MAX, SLOW_FACTOR, Network
from quorate.sim.swarm import Mix
from quorate.sim.world import World

from tests.sim.worlds import Note, seen, witness, witnesses

LINK = Mix(delay_s_min=0.001, delay_s_mean=0.0001, sync_s=0.0001)
COUNT = 400


def flood(world: World, count: int = COUNT, gap_s: float = 0.01) -> None:
    """Node 0 sends numbers to all."""
    for number in range(count):
        world.nodes[0].request(0, number)
        world.run_until(world.now + gap_s)
    world.run_until(world.now + 5.0)


def mix(**changes: float | bool) -> Mix:
    """LINK with changes."""
    changed = Mix(delay_s_min=LINK.delay_s_min, delay_s_mean=LINK.delay_s_mean, sync_s=LINK.sync_s)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def test_a_healthy_network_delivers_all_once_and_in_time() -> None:
    world = witnesses(LINK)
    flood(world)
    assert seen(world, 1) == list(range(COUNT))
    assert world.network.delivered == 2 * COUNT


def test_loss_is_about_what_was_asked_for() -> None:
    world = witnesses(mix(loss=0.3))
    flood(world)
    assert 0.2 < world.network.lost / (2 * COUNT) < 0.4
    assert len(seen(world, 1)) < COUNT
    assert seen(world, 0) == list(range(COUNT)), "nothing is lost on the way to oneself"


def test_duplicates_are_about_what_was_asked_for() -> None:
    world = witnesses(mix(duplication=0.5))
    flood(world)
    assert 0.4 < world.network.duplicated / (2 * COUNT) < 0.6
    assert len(seen(world, 1)) > COUNT
    assert sorted(set(seen(world, 1))) == list(range(COUNT))


def test_delays_reorder_unless_links_are_first_in_first_out() -> None:
    world = witnesses(mix(delay_s_mean=0.05))
    flood(world)
    assert seen(world, 1) != list(range(COUNT))
    assert sorted(seen(world, 1)) == list(range(COUNT))
    world = witnesses(mix(delay_s_mean=0.05, is_fifo=True))
    flood(world)
    assert seen(world, 1) == list(range(COUNT))


def all_to_all(world: World) -> list[float]:
    """Every node sends to every other; how long each message took."""
    sent = world.now
    everyone = tuple(node.id for node in world.nodes)
    for node in everyone:
        witness(world, node).seen.clear()
    for node in everyone:
        world.network.send(node, [Send(everyone, (), Note(node))])
    world.run_until(sent + 5.0)
    return [
        time - world.nodes[node].clock.at(sent)
        for node in everyone
        for time, sender, _ in witness(world, node).seen
        if sender != node
    ]


def test_some_links_of_an_uneven_network_are_slow_until_healing() -> None:
    world = witnesses(mix(delay_s_min=0.1, delay_s_mean=1e-12, uneven_links=True), nodes=20)
    took_s = all_to_all(world)
    slow = [time_s for time_s in took_s if time_s > 0.5]
    assert len(took_s) == 20 * 19
    assert 15 < len(slow) < 65
    assert slow == pytest.approx([0.1 * SLOW_FACTOR] * len(slow))
    world.network.heal()
    assert max(all_to_all(world)) == pytest.approx(HEALTHY_DELAY_S_MAX)


def test_a_cut_goes_one_way_and_takes_what_is_on_its_way() -> None:
    world = witnesses(mix(delay_s_min=0.5))
    world.nodes[0].request(0, 1)
    world.run_until(0.1)
    world.network.cuts = [0b010, 0, 0]  # 0 does not reach 1
    world.nodes[1].request(0, 2)
    world.run_until(2.0)
    assert seen(world, 1) == [2]
    assert sorted(seen(world, 2)) == [1, 2]
    assert sorted(seen(world, 0)) == [1, 2]
    assert world.network.cut == 1
    world.network.cuts = [0, 0, 0]
    world.nodes[0].request(0, 3)
    world.run_until(4.0)
    assert seen(world, 1) == [2, 3]


def test_what_is_sent_into_a_cut_is_lost_even_if_it_is_mended_before_it_would_arrive() -> None:
    world = witnesses(mix(delay_s_min=0.5))
    world.network.cuts = [0b010, 0, 0]
    world.nodes[0].request(0, 1)
    world.run_until(0.1)
    world.network.cuts = [0, 0, 0]
    world.run_until(2.0)
    assert seen(world, 1) == []
    assert seen(world, 2) == [1]


def test_a_clog_holds_back_and_loses_nothing() -> None:
    world = witnesses(LINK)
    world.network.clogs[(0, 1)] = 3.0
    flood(world, 10)
    assert sorted(seen(world, 1)) == list(range(10))
    times = [time - world.nodes[1].clock.at(0.0) for time, _, _ in world.nodes[1].host.root.seen]  # type: ignore[attr-defined]
    assert min(times) > 2.99
    assert seen(world, 2) == list(range(10))


def test_healing_ends_every_fault_of_the_network() -> None:
    world = witnesses(mix(loss=0.3, duplication=0.5))
    world.network.cuts = [0b010, 0, 0]
    world.network.clogs[(0, 2)] = 1e9
    world.network.heal()
    flood(world)
    assert sorted(seen(world, 1)) == sorted(seen(world, 2)) == list(range(COUNT))


def test_what_is_in_flight_survives_a_crash_of_its_sender() -> None:
    world = witnesses(mix(delay_s_min=0.5))
    world.nodes[0].request(0, 1)
    world.run_until(0.1)
    world.nodes[0].crash()
    world.run_until(2.0)
    assert seen(world, 1) == [1]


def test_a_node_that_is_down_receives_nothing() -> None:
    world = witnesses(LINK)
    world.nodes[1].crash()
    flood(world, 3)
    world.nodes[1].start()
    world.run_until(world.now + 1.0)
    assert seen(world, 1) == []


@pytest.mark.parametrize("is_uneven", [False, True])
def test_a_network_of_a_thousand_stores_only_what_sets_a_link_apart(is_uneven: bool) -> None:
    world: Any = SimpleNamespace(seed="1")
    tracemalloc.start()
    try:
        network = Network(world, Random("1"), Mix(is_fifo=True, uneven_links=is_uneven), 1000)
        stored_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert network.cuts == [0] * 1000
    assert stored_bytes < 500_000
