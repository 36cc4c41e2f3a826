"""Reads by lease under faults. Clocks drift by up to a tenth; they are not set, as a lease cannot bear that.

A node that gives no lease, or forgets in a restart that it gave one, breaks something too seldom for a campaign (not in
250 seeds). Those two rules have tests of one step: ``tests/protocols/multipaxos/test_leaders.py``.
"""

from random import Random

import msgspec
import pytest

from quorate.parts.log import configuration
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.multipaxos.lease import Lease
from quorate.sim.options import FAULTS, MemberChange, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.trial import Trial
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

CHANGE = MemberChange(configuration.encode_change)
DEPOSED = range(20)
"""Of these seeds 9, 12 and 15 show a lease that ends too late."""
CONFIG = msgspec.structs.replace(equipment_of("multipaxos").simulation, lease_s=0.5)


class NeverEndingLease(Lease):
    """Breaks the bound: a lease lasts as long as whoever gave it keeps it, and that again and again."""

    def __init__(self, lease_s: float, drift: float) -> None:
        super().__init__(lease_s * 8, drift)


def swarm(seed: int) -> Mix:
    """The seed's own mix of faults, but no clock is set."""
    mix = draw(Random(f"{seed}/swarm"), FAULTS)
    mix.jump_s_max = 0.0
    return mix


def deposed(seed: int) -> Mix:
    """Leaders are cut off for longer than a lease, and clients are of two kinds then.

    A stale read needs both in the half second until the old leader steps down: one that writes to the new leader, as it
    soon gave the old one up, and one that reads from the old leader, as it has asked for no write since. So there are
    many clients, each with little to do and little patience.
    """
    mix = draw(Random(f"{seed}/swarm"), ("partition", "clock"))
    mix.jump_s_max = 0.0
    mix.partition_every_s, mix.partition_s, mix.coup = 1.0, 1.5, 0.3
    mix.members_every_s = None
    mix.clients, mix.keys, mix.think_s, mix.timeout_s = 12, 1, 0.3, 0.1
    return mix


def run(seed: int, mix: Mix) -> RunOutcome:
    """One seed, with reads by lease."""
    return simulate(
        Trial(
            REGISTRY["multipaxos"].make(CONFIG, MultiPaxos),
            subject("register"),
            Options(seed=seed),
            equipment_of("multipaxos").invariants,
            change=CHANGE,
            mix=mix,
        )
    )


@pytest.mark.parametrize("part", [0, 1, *[pytest.param(part, marks=pytest.mark.slow) for part in (2, 3)]])
def test_reads_by_lease_are_linearizable(part: int) -> None:
    for seed in range(part * 15, part * 15 + 15):
        outcome = run(seed, swarm(seed))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


def test_reads_by_lease_are_linearizable_when_leaders_are_deposed() -> None:
    for seed in DEPOSED:
        outcome = run(seed, deposed(seed))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


def test_a_lease_that_ends_too_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.protocols.multipaxos.core.Lease", NeverEndingLease)
    assert any(run(seed, deposed(seed)).violated == "linearizability" for seed in DEPOSED)
