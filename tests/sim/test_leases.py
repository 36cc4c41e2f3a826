"""Reads by lease under faults. Clocks drift by up to a tenth; they are not set, as a lease cannot bear that.

A node that gives no lease, or forgets in a restart that it gave one, breaks something too seldom for a campaign (not in
250 seeds). Those two rules have tests of one step: ``tests/protocols/multipaxos/test_leaders.py``.
"""

from random import Random

import msgspec
import pytest

from quorate.parts.log import configuration
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.lease import Lease
from quorate.sim.options import FAULTS, MemberChange, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import draw
from quorate.sim.trial import Trial
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

CHANGE = MemberChange(configuration.encode_change)
CONFIG = msgspec.structs.replace(equipment_of("multipaxos").simulation, lease_s=0.5)


class NeverEndingLease(Lease):
    """Breaks the bound: a lease lasts as long as whoever gave it keeps it, and that again and again."""

    def __init__(self, lease_s: float, drift: float) -> None:
        super().__init__(lease_s * 8, drift)


def run(seed: int, core: type[MultiPaxos] = MultiPaxos, config: MultiPaxosConfig = CONFIG) -> RunOutcome:
    """One seed, its own mix of faults, but no clock is set."""
    mix = draw(Random(f"{seed}/swarm"), FAULTS)
    mix.jump_s_max = 0.0
    entry = REGISTRY["multipaxos"]
    make = entry.make(config, core)
    return simulate(
        Trial(
            make,
            subject("register"),
            Options(seed=seed),
            equipment_of("multipaxos").invariants,
            change=CHANGE,
            mix=mix,
        )
    )


@pytest.mark.parametrize("part", range(4))
def test_reads_by_lease_are_linearizable(part: int) -> None:
    for seed in range(part * 15, part * 15 + 15):
        outcome = run(seed)
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


def test_a_lease_that_ends_too_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.protocols.multipaxos.core.Lease", NeverEndingLease)
    assert any(run(seed).violated == "linearizability" for seed in range(145, 155))
