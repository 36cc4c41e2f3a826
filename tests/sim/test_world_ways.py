"""Uplinks and regions: when a message arrives if its size and its distance count, and what does not fit."""

from random import Random

import msgspec
import pytest

from quorate.kernel import Send
from quorate.sim.options import FAULTS, OptionsError
from quorate.sim.swarm import Mix, draw
from quorate.sim.ways import Ways
from quorate.sim.world import World

from tests.sim.worlds import Note, seen, witness, witnesses

RATE = 1000.0
"""Bytes per second, so that a byte takes a millisecond."""
LINK_S = 0.5
"""What every link takes; the random part is far below a microsecond."""
UP_S = 2.0


def line(queue_bytes_max: int | None = None, **changes: object) -> World:
    """A world whose links all take LINK_S, behind uplinks of RATE; it is at UP_S."""
    mix = Mix(delay_s_min=LINK_S, delay_s_mean=1e-12, uplink_bytes_per_s=RATE, uplink_queue_bytes_max=queue_bytes_max)
    for name, value in changes.items():
        setattr(mix, name, value)
    world = witnesses(mix, nodes=4)
    world.run_until(UP_S)
    return world


def put(world: World, sender: int, to: tuple[int, ...], number: int) -> int:
    """Send a Note; its size in bytes."""
    world.network.send(sender, [Send(to, (), Note(number))])
    return len(msgspec.msgpack.encode(Note(number)))


def arrivals(world: World, node: int) -> list[tuple[int, float]]:
    """What reached a node, with the virtual time after UP_S."""
    start = world.nodes[node].clock.at(UP_S)
    return [(number, time - start) for time, _, number in witness(world, node).seen]


def close(*expected: tuple[int, float]) -> list[tuple[int, object]]:
    return [(number, pytest.approx(time_s, abs=1e-6)) for number, time_s in expected]


def test_messages_leave_one_after_the_other_each_as_long_as_its_size() -> None:
    world = line()
    small, large = put(world, 0, (1,), 1), put(world, 0, (1,), 2**40)
    assert (small, large) == (7, 15)
    assert put(world, 2, (1,), 3) == 7, "an uplink of its own"
    world.run_until(UP_S + 1.0)
    assert arrivals(world, 1) == close((1, LINK_S + 0.007), (3, LINK_S + 0.007), (2**40, LINK_S + 0.022))


def test_copies_of_a_broadcast_leave_one_after_the_other_and_ones_own_needs_no_line() -> None:
    world = line()
    put(world, 1, (0, 1, 2, 3), 5)
    world.run_until(UP_S)
    assert world.nodes[1].inbox, "looped back"
    put(world, 1, (0,), 6)
    world.run_until(UP_S + 1.0)
    assert arrivals(world, 0) == close((5, LINK_S + 0.007), (6, LINK_S + 0.028))
    assert arrivals(world, 2) == close((5, LINK_S + 0.014))
    assert arrivals(world, 3) == close((5, LINK_S + 0.021))


def test_a_line_that_has_been_idle_owes_nothing() -> None:
    world = line()
    put(world, 0, (1,), 1)
    world.run_until(UP_S + 0.1)
    put(world, 0, (1,), 2)
    world.run_until(UP_S + 1.0)
    assert arrivals(world, 1) == close((1, LINK_S + 0.007), (2, LINK_S + 0.107))


def test_what_does_not_fit_is_lost_and_counted_and_the_queue_drains_with_time() -> None:
    world = line(queue_bytes_max=21)
    for number in range(5):
        put(world, 0, (1,), number)  # 7 bytes each: three fit, to the byte
    assert world.network.overflowed == 2
    world.run_until(UP_S + 0.006)
    put(world, 0, (1,), 5)  # 15 bytes still wait, and 7 are one too many
    assert world.network.overflowed == 3
    world.run_until(UP_S + 0.007)
    put(world, 0, (1,), 6)
    assert world.network.overflowed == 3
    world.run_until(UP_S + 1.0)
    assert arrivals(world, 1) == close((0, 0.507), (1, 0.514), (2, 0.521), (6, 0.528))


def test_a_smaller_copy_may_fit_where_a_larger_one_did_not() -> None:
    world = line(queue_bytes_max=15)
    put(world, 0, (1,), 1)
    put(world, 0, (1,), 2**40)
    put(world, 0, (1,), 2)
    world.run_until(UP_S + 1.0)
    assert world.network.overflowed == 1
    assert seen(world, 1) == [1, 2]


def test_what_is_lost_or_cut_later_has_passed_the_uplink() -> None:
    world = line()
    world.network.cuts = [0b0010, 0, 0, 0]
    put(world, 0, (1, 2), 5)
    world.run_until(UP_S + 1.0)
    assert world.network.cut == 1
    assert arrivals(world, 2) == close((5, LINK_S + 0.014))


def test_healing_leaves_the_lines_as_they_are() -> None:
    world = line(queue_bytes_max=7)
    world.network.heal()
    put(world, 0, (1, 2), 5)
    world.run_until(UP_S + 1.0)
    assert world.network.overflowed == 1
    assert seen(world, 1) == [5]


def test_a_message_that_msgpack_cannot_hold_has_a_size_all_the_same() -> None:
    assert Ways("1", Mix(uplink_bytes_per_s=1.0), 1).size_bytes(Note(1 << 900)) > 200
    assert Ways("1", Mix(regions=((0.0,),)), 1).size_bytes(Note(1)) == 0, "not encoded where no size counts"


FAR = ((0.0, 3.0, 5.0), (3.0, 0.0, 1.0), (5.0, 1.0, 0.0))


def spread(seed: int = 0) -> World:
    world = witnesses(Mix(delay_s_min=LINK_S, delay_s_mean=1e-12, regions=FAR), nodes=9, seed=seed)
    world.run_until(UP_S)
    return world


def regions(world: World) -> list[int]:
    assert world.network.ways is not None
    return world.network.ways.regions


def test_a_link_between_regions_is_slower_by_their_distance_both_ways() -> None:
    world = spread()
    where = regions(world)
    assert set(where) == {0, 1, 2}
    everyone = tuple(range(9))
    for node in everyone:
        put(world, node, everyone, node)
    world.run_until(UP_S + 10.0)
    for node in everyone:
        times = dict(arrivals(world, node))
        for other in everyone:
            if other != node:
                assert times[other] == pytest.approx(LINK_S + FAR[where[node]][where[other]], abs=1e-6)


def test_regions_come_from_the_seed_and_from_a_stream_of_their_own() -> None:
    assert regions(spread(1)) == regions(spread(1))
    assert regions(spread(1)) != regions(spread(2))
    plain = witnesses(Mix(delay_s_mean=0.05, loss=0.5), nodes=9)
    far = witnesses(Mix(delay_s_mean=0.05, loss=0.5, regions=((0.0,),), uplink_bytes_per_s=1e12), nodes=9)
    for world in (plain, far):
        for number in range(20):
            put(world, 0, tuple(range(9)), number)
        world.run_until(10.0)
    for node in range(1, 9):
        assert seen(plain, node) == seen(far, node)


def test_both_together() -> None:
    world = line(regions=FAR)
    where = regions(world)
    put(world, 0, (1, 2, 3), 5)
    world.run_until(UP_S + 10.0)
    for node in (1, 2, 3):
        assert arrivals(world, node) == close((5, LINK_S + 0.007 * node + FAR[where[0]][where[node]]))


def test_a_duplicate_takes_the_same_way() -> None:
    world = line(duplication=1.0)
    put(world, 0, (1,), 5)
    world.run_until(UP_S + 10.0)
    assert arrivals(world, 1) == close((5, 0.507), (5, 5 * LINK_S + 0.007))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"uplink_bytes_per_s": 0.0}, "must carry something"),
        ({"uplink_bytes_per_s": float("nan")}, "must carry something"),
        ({"uplink_queue_bytes_max": 0}, "must hold something"),
        ({"regions": ()}, "a square"),
        ({"regions": ((0.0, 1.0),)}, "a square"),
        ({"regions": ((-1.0,),)}, "none below 0"),
        ({"regions": ((float("nan"),),)}, "none below 0"),
    ],
)
def test_mixes_that_make_no_sense_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        Mix(**wrong)  # type: ignore[arg-type]


def test_no_seed_draws_them() -> None:
    for seed in range(50):
        mix = draw(Random(seed), FAULTS)
        assert (mix.uplink_bytes_per_s, mix.uplink_queue_bytes_max, mix.regions) == (None, None, None)
