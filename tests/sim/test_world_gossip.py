"""Worlds of many nodes and no log: rumours reach every node, and a core that fails to spread them is caught."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from quorate.kernel import Fired, Host, Received, Send, Submitted, Turn
from quorate.sim.swarm import Mix

from tests.sim.gossip import PICKS, Give, Gossip, Have, Heard, Meet, Want
from tests.sim.rumours import spread

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ((0.0, 0.05, 0.12), (0.05, 0.0, 0.08), (0.12, 0.08, 0.0))


def faulty() -> Mix:
    """Crashes, losses, duplicates, a thin uplink and three continents."""
    return Mix(
        crash_every_s=0.5,
        down_s=3.0,
        loss=0.05,
        duplication=0.05,
        uplink_bytes_per_s=4000.0,
        uplink_queue_bytes_max=500,
        regions=REGIONS,
    )


# --- the core, one step at a time ---


def host(neighbours: tuple[int, ...] = (1, 2)) -> Host:
    """Node 0 of four, which knows these."""
    made = Host(Gossip, 0, range(4), Random(0))
    made.start(0.0)
    core = made.root
    assert isinstance(core, Gossip)
    core._neighbours[:] = neighbours
    return made


def step(made: Host, *inputs: Any) -> Turn:
    return made.step(inputs, 1.0)


def test_it_meets_as_many_others_as_it_wants_or_all_there_are() -> None:
    for nodes, count in ((1, 0), (4, 3), (100, PICKS)):
        turn = Host(Gossip, 0, range(nodes), Random(0)).start(0.0)
        met = [send for send in turn.early if isinstance(send.message, Meet)]
        assert sum(len(set(send.to) - {0}) for send in met) == count


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


def test_what_does_not_come_it_asks_of_another() -> None:
    made = host()
    step(made, Received(1, Have((7,))), Received(2, Have((7,))))
    asked = [step(made, Fired("again")).sends for _ in range(3)]
    assert asked == [[Send((node,), (), Want((7,)))] for node in (2, 1, 2)]


def test_it_repeats_what_it_has_to_a_neighbour() -> None:
    made, data = host((2,)), (7).to_bytes(8, "big")
    assert step(made, Submitted((data,))).sends == [Send((2,), (), Have((7,)))]
    turn = step(made, Fired("again"))
    assert turn.sends == [Send((2,), (), Have((7,)))]
    assert [timer.key for timer in turn.timers] == ["again"]


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
    faults = ("crashed nodes", "lost", "duplicated", "overflowed")
    assert all(outcome.counts[name] > 0 for name in faults), outcome.counts


def test_a_rumour_whose_origin_crashes_is_excused() -> None:
    mix = faulty()
    mix.crash_every_s = 0.05
    outcomes = [spread(20, 20.0, mix, seed) for seed in range(3)]
    assert all(outcome.holds for outcome in outcomes), outcomes
    assert sum(outcome.counts["excused rumours"] for outcome in outcomes) > 0


def test_the_same_seed_is_the_same_run() -> None:
    assert spread(40, 5.0, faulty(), 3) == spread(40, 5.0, faulty(), 3)
    assert spread(40, 5.0, faulty(), 3).digest != spread(40, 5.0, faulty(), 4).digest


# --- planted bugs ---


class KeepsToItself(Gossip):
    """Answers no Want on some nodes."""

    def on_want(self, sender: int, message: Want) -> None:
        if self.env.id % 4:
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
        (Idle, LOSSY, "spread", "was up and did not hear rumour"),
        (Idle, DOWN, "liveness", "nodes do not have what others have"),
        (Repeats, Mix(duplication=0.3), "spread", "twice"),
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
    assert (found["violated"], found["rumours"]) == (None, 60)
    assert found["messages"] > 500_000
    assert found["rss_mb_max"] < 200


@pytest.mark.slow
def test_a_thousand_nodes_with_faults() -> None:
    outcome = spread(1000, 30.0, faulty())
    assert outcome.holds, outcome.text
    assert outcome.counts["full rumours"] > 20
    assert outcome.counts["crashed nodes"] > 10
