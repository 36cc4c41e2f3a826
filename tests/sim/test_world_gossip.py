"""Worlds of many nodes and no log: rumours reach every node, and a core that fails to spread them is caught."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from quorate.kernel import Fired, Host, Meet, Met, Misbehaved, Part, Parted, Received, Send, Submitted, Turn
from quorate.kernel.roster import SELF
from quorate.parts.scores import BAN_S
from quorate.sim.chance import streams
from quorate.sim.options import Options
from quorate.sim.strangers import address_of, key_of
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.ways import Ways
from quorate.sim.world import World

from tests.sim.gossip import PICKS, Give, Gossip, Have, Heard, Want
from tests.sim.rumours import RumourSubject, spread

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ((0.0, 0.05, 0.12), (0.05, 0.0, 0.08), (0.12, 0.08, 0.0))


def faulty() -> Mix:
    """Crashes, losses, a thin uplink and three continents."""
    return Mix(
        crash_every_s=0.5,
        down_s=3.0,
        loss=0.05,
        uplink_bytes_per_s=40_000.0,
        uplink_queue_bytes_max=20_000,
        regions=REGIONS,
    )


# --- the core, one step at a time ---


def host(links: tuple[int, ...] = (1, 2), addresses: tuple[str, ...] = ()) -> Host:
    """A node that was called by these."""
    made = Host(lambda env: Gossip(env, addresses), SELF, (), streams(0), is_open=True)
    made.start(0.0)
    if links:
        made.step([met(number) for number in links], 0.5)
    return made


def met(number: int, *, outbound: bool = False) -> Met:
    return Met(number, b"key %d" % number, f"node-{number}", outbound)


def step(made: Host, *inputs: Any) -> Turn:
    return made.step(inputs, 1.0)


def test_it_dials_as_many_as_it_wants_or_all_that_it_knows() -> None:
    for known, count in ((0, 0), (3, 3), (50, PICKS)):
        made = Host(lambda env: Gossip(env, [f"node-{n}" for n in range(known)]), SELF, (), streams(0), is_open=True)  # noqa: B023
        assert len({meet.address for meet in made.start(0.0).roster}) == count


def test_for_a_link_that_is_gone_it_dials_another() -> None:
    made = host((), [f"node-{n}" for n in range(PICKS + 3)])  # type: ignore[arg-type]
    step(made, met(4, outbound=True))
    turn = step(made, Parted(4, "gone"))
    assert [type(change) for change in turn.roster] == [Meet]
    assert made.root.env.peers == ()


def test_who_calls_is_told_addresses() -> None:
    made = host((), ("node-8", "node-9"))
    [told] = step(made, met(1)).sends
    assert told.to == (1,)
    assert {"node-8", "node-9"} <= set(told.message.addresses)


def test_what_it_learns_it_delivers_and_announces_to_who_does_not_have_it() -> None:
    made, data = host((1, 2, 3)), (7).to_bytes(8, "big")
    turn = step(made, Received(1, Have((7, 8))))
    assert turn.sends == [Send((1,), (), Want((7, 8)))]
    assert step(made, Received(2, Have((7,)))).sends == ()
    turn = step(made, Received(1, Give(7, data)))
    assert turn.outputs == [Heard(7, data)]
    assert turn.sends == [Send((3,), (), Have((7,)))]
    assert step(made, Received(2, Give(7, data))) == Turn(), "it has that already"
    assert step(made, Received(2, Want((7, 9)))).sends == [Send((2,), (), Give(7, data))]


def test_what_it_did_not_ask_for_it_does_not_take() -> None:
    assert step(host(), Received(1, Give(7, b"x"))) == Turn()


def test_what_does_not_come_it_asks_of_another_that_is_still_there() -> None:
    made = host((1, 2, 3))
    step(made, *[Received(node, Have((7,))) for node in (1, 2, 3)])
    asked = [step(made, Fired("again")).sends for _ in range(3)]
    assert asked == [[Send((node,), (), Want((7,)))] for node in (2, 3, 1)]
    step(made, Parted(2, "gone"))
    assert step(made, Fired("again")).sends == [Send((3,), (), Want((7,)))]


def test_it_repeats_what_it_has_to_a_neighbour() -> None:
    made, data = host((2,)), (7).to_bytes(8, "big")
    assert step(made, Submitted((data,))).sends == [Send((2,), (), Have((7,)))]
    turn = step(made, Fired("again"))
    assert turn.sends == [Send((2,), (), Have((7,)))]
    assert [timer.key for timer in turn.timers] == ["again"]


@pytest.mark.parametrize("bad", [Misbehaved(1, "sent garbage"), Received(1, Heard(1, b""))])
def test_it_bans_a_stranger_that_misbehaves_by_its_key(bad: Any) -> None:
    made = host()
    [change] = step(made, bad).roster
    assert (type(change), change.node, change.ban_s) == (Part, 1, BAN_S)
    assert made.root.scores.score(b"key 1", 1.0) >= 100  # type: ignore[attr-defined]


# --- worlds ---


def test_every_rumour_reaches_a_hundred_nodes() -> None:
    outcome = spread(100, 20.0, Mix())
    assert outcome.holds, outcome.text
    assert outcome.counts["full rumours"] == outcome.operations == outcome.answered > 15
    assert outcome.messages > 100 * outcome.operations * 5


@pytest.mark.parametrize("seed", range(4))
def test_rumours_reach_those_who_stay_up_in_spite_of_faults(seed: int) -> None:
    outcome = spread(60, 20.0, faulty(), seed)
    assert outcome.holds, outcome.text
    assert outcome.counts["full rumours"] > 10
    assert outcome.counts["crashed nodes"] > 10


def test_a_rumour_whose_origin_crashes_is_excused() -> None:
    mix = faulty()
    mix.crash_every_s = 0.05
    outcomes = [spread(20, 20.0, mix, seed) for seed in range(3)]
    assert all(outcome.holds for outcome in outcomes), outcomes
    assert sum(outcome.counts["excused rumours"] for outcome in outcomes) > 0


def test_the_same_seed_is_the_same_run() -> None:
    assert spread(40, 5.0, faulty(), 3) == spread(40, 5.0, faulty(), 3)
    assert spread(40, 5.0, faulty(), 3).digest != spread(40, 5.0, faulty(), 4).digest


def test_newcomers_hear_what_is_said_after_they_came() -> None:
    outcome = spread(60, 30.0, Mix(), churn=1.0)
    assert outcome.holds, outcome.text
    assert outcome.counts["came"] > 15
    assert outcome.counts["full rumours"] > 20


# --- links ---


def linked(nodes: int = 4, make: Any = Gossip, seconds: float = 5.0) -> World:
    """A world in which everybody knows everybody."""
    subject = RumourSubject(every_s=1e9)
    addresses = tuple(map(address_of, range(nodes)))
    options = Options(nodes=nodes, faults=())
    world = World(Trial(lambda env: make(env, addresses), subject, options, mix=Mix()), subject.checkers((), None))
    world.start()
    world.run_until(seconds)
    return world


def test_everybody_is_linked_once_with_everybody() -> None:
    world = linked()
    assert world.strangers is not None
    for node in range(4):
        others = tuple(other for other in range(4) if other != node)
        assert world.strangers.linked(node) == others
        assert len(world.nodes[node].host.root.env.peers) == 3


def test_a_stranger_that_misbehaves_is_banned_and_dials_again_in_vain() -> None:
    world = linked()
    strangers = world.strangers
    assert strangers is not None
    for other in (0, 1, 2):
        strangers.misbehave(3, other, "sent garbage")
    world.run_until(60.0)
    assert strangers.linked(3) == ()
    assert (strangers.bans, strangers.refusals > 10) == (3, True)
    assert [strangers.linked(node) for node in (0, 1, 2)] == [(1, 2), (0, 2), (0, 1)]
    assert all(key_of(3) in strangers.stranger(node).bans for node in (0, 1, 2))


def test_honest_strangers_are_never_banned() -> None:
    world = linked(12, seconds=60.0)
    assert world.strangers is not None
    assert world.strangers.bans == 0


def test_a_crash_ends_links_and_a_restart_makes_new_ones() -> None:
    world = linked()
    assert world.strangers is not None
    world.nodes[2].crash()
    world.run_until(world.now + 10.0)
    assert [world.strangers.linked(node) for node in range(4)] == [(1, 3), (0, 3), (), (0, 1)]
    world.nodes[2].start()
    world.run_until(world.now + 10.0)
    assert world.strangers.linked(2) == (0, 1, 3)


def test_a_cut_ends_the_links_across_it() -> None:
    world = linked()
    assert world.strangers is not None
    world.network.cuts = [0b1100, 0b1100, 0b0011, 0b0011]
    world.run_until(world.now + 20.0)
    assert [world.strangers.linked(node) for node in range(4)] == [(1,), (0,), (3,), (2,)]
    world.network.heal()
    world.run_until(world.now + 20.0)
    assert [len(world.strangers.linked(node)) for node in range(4)] == [3, 3, 3, 3]


class Slow(Gossip):
    """Writes a record for each link, on a disk that takes long."""

    records = (Heard,)
    numbers: ClassVar[list[tuple[int, bytes]]] = []

    def on_met(self, node: int, key: bytes, address: str, outbound: bool) -> None:
        super().on_met(node, key, address, outbound)
        self.env.persist(Heard(node, key))
        self.env.send(node, Give(1, key))
        self.numbers.append((self.env.peers[0], key))

    def restore(self, record: Heard) -> None:
        pass


def test_a_peer_that_is_too_slow_is_parted_from() -> None:
    world = linked(2)
    node = world.nodes[0]
    strangers, network = world.strangers, world.network
    assert strangers is not None
    network.ways = Ways(world.seed, Mix(uplink_bytes_per_s=1000.0, uplink_queue_bytes_max=500), 2)
    [number] = strangers.stranger(0).ends
    node.send([Send((number,), (), Give(1, b"." * 400))])
    assert strangers.linked(0) == (1,)
    node.send([Send((number,), (), Give(1, b"." * 400))])
    assert (strangers.linked(0), network.overflowed) == ((), 1)
    world.run_until(world.now + 1.0)


def test_a_number_is_not_used_again_while_something_said_to_its_last_link_has_not_left() -> None:
    """A Turn that waits for a slow disk would reach another stranger under the number of the one that it was for."""
    world = linked(3, Slow)
    strangers, node = world.strangers, world.nodes[0]
    assert strangers is not None
    node.disk.slowness = 1e6
    node.host.root.env.persist(Heard(0, b""))
    node.put(Fired("again"))
    before = strangers.stranger(0).ends.keys()
    number = min(before)
    other = strangers.stranger(0).ends[number].other.node
    other.crash()
    world.run_until(world.now + 5.0)
    assert number in strangers.stranger(0).resting
    other.start()
    world.run_until(world.now + 20.0)
    assert other.id in strangers.linked(0)
    assert number not in strangers.stranger(0).ends, "it has another number, for the disk has written nothing yet"


# --- planted bugs ---


class KeepsToItself(Gossip):
    """Three of four nodes answer no Want."""

    def start(self) -> None:
        self.answers = self.env.rng.random() < 0.25
        super().start()

    def on_want(self, sender: int, message: Want) -> None:
        if self.answers:
            super().on_want(sender, message)


class Idle(Gossip):
    """Never repeats anything."""

    def on_timer(self, key: object) -> None:
        pass


class Repeats(Gossip):
    """Takes what it has already."""

    def on_give(self, sender: int, message: Give) -> None:
        self.known.pop(message.number, None)
        super().on_give(sender, message)
        self._offers[message.number] = [sender]


class Garbles(Gossip):
    """Passes on something else."""

    def on_give(self, sender: int, message: Give) -> None:
        super().on_give(sender, msgspec.structs.replace(message, data=message.data + b"!"))


QUIET, LOSSY = Mix(), Mix(loss=0.3)
DOWN = Mix(crash_every_s=0.3, down_s=3.0)


@pytest.mark.parametrize(
    ("make", "mix", "violated", "words"),
    [
        (KeepsToItself, LOSSY, "spread", "was up and did not hear rumour"),
        (Idle, DOWN, "liveness", "nodes do not have what others have"),
        (Repeats, Mix(), "spread", "twice"),
        (Garbles, QUIET, "spread", "as rumour 0"),
    ],
)
def test_a_core_that_does_not_spread_rumours_is_caught(make: type[Gossip], mix: Mix, violated: str, words: str) -> None:
    outcomes = [spread(30, 20.0, mix, seed, make) for seed in range(3)]
    assert any(outcome.violated == violated and words in outcome.text for outcome in outcomes), outcomes


# --- a thousand ---


@pytest.mark.slow
def test_a_thousand_nodes_for_a_minute_need_less_than_two_hundred_megabytes() -> None:
    command = [sys.executable, "-m", "tests.sim.rumours", "--nodes", "1000", "--duration-s", "60"]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["violated"] is None, found
    assert found["rumours"] > 50, "the others began at nodes that left"
    assert found["came"] > 70
    assert found["messages"] > 500_000
    assert found["rss_mb_max"] < 200


@pytest.mark.slow
def test_a_thousand_nodes_with_faults() -> None:
    outcome = spread(1000, 30.0, faulty())
    assert outcome.holds, outcome.text
    assert outcome.counts["full rumours"] > 20
    assert outcome.counts["crashed nodes"] > 10
