"""The client's core among servers that do as they like: see ``hostile.py`` for what is watched."""

from __future__ import annotations

import pytest

from quorate.runtime.handshake import Bears
from quorate.service.client.core import ClientCore
from quorate.trials.client_mutants import CallsUnknownDefinite, UsesSerialsTwice

from tests.service.client.hostile import Hostile

SEEDS = 60
STEPS = 400
CRASH = None
ONE = Bears(1, 4)
SERVERS: dict[str, tuple[int, tuple[Bears | None, ...]]] = {
    "nodes that crash": (3, (CRASH,)),
    "one node": (1, (CRASH,)),
    "many nodes that crash": (5, (CRASH,)),
    "nodes that lie": (4, (ONE,)),
    "nodes that do not agree on how many there are": (4, (ONE, ONE, Bears(1, 60), Bears(2, 7))),
    "nodes that do not agree on anything": (3, (CRASH, CRASH, CRASH, ONE, Bears(9, 28))),
}


def swarm(seed: int, servers: str, core: type[ClientCore] = ClientCore) -> Hostile:
    """A whole run."""
    made = Hostile(seed, *SERVERS[servers], core)
    for _ in range(STEPS):
        made.step()
    made.finish()
    return made


@pytest.mark.parametrize("servers", SERVERS)
def test_whatever_servers_do_each_call_ends_once_and_nothing_is_kept(servers: str) -> None:
    runs = [swarm(seed, servers) for seed in range(SEEDS)]
    ended = [call for run in runs for call in run.ended]
    assert len(ended) > 20 * SEEDS
    assert any(call.result is not None for call in ended)
    assert {type(call.error).__name__ for call in ended} >= {"Unreachable", "NoQuorum", "NoneType"}
    assert any(run.serials for run in runs), "some sessions were opened"


@pytest.mark.parametrize(
    ("core", "why"),
    [(UsesSerialsTwice, "a serial stands for one command"), (CallsUnknownDefinite, "it may still take effect")],
)
def test_planted_bugs_are_seen(core: type[ClientCore], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        all(swarm(seed, "nodes that crash", core) for seed in range(SEEDS))


def test_closing_at_any_time_ends_all_calls() -> None:
    for servers in SERVERS:
        for seed in range(20):
            made = Hostile(seed, *SERVERS[servers], ClientCore)
            for _ in range(seed * 10):
                made.step()
            made.core.close(made.now)
            made.act()
            assert all(call.is_over for call in made.calls)
            assert not made.open
            assert not made.dialling
            made.begin()
            made.act()
            assert made.ended[made.calls[-1]] == 1, "a closed client refuses"
