"""Ordeals: the further kinds of faults that one seed has, and what they are like.

Each kind decides from a stream of chance of its own, named by the seed and the kind, whether the seed has it and how
bad it is. So a kind that is switched off, or that is new, changes nothing about the others, and a seed without any
further kind runs exactly as with the common ones alone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from msgspec.structs import replace

from quorate.sim.options import FURTHER
from quorate.sim.swarm import Drift, Mix, Snags, come_and_go, log_uniform

SHARES: Final = {
    "gone": 0.3,
    "members": 0.3,
    "snapshots": 0.4,
    "leases": 0.25,
    "quorums": 0.15,
    "delays": 0.25,
    "clients": 0.3,
    "stops": 0.15,
    "transfers": 0.15,
    "hang-ups": 0.25,
}
"""How many of the seeds have each kind."""
ABSENT: Final = 0.2
"""How many of the seeds with nodes that are gone also have absences of minutes. They take long to simulate."""
ABSENT_STRETCH_S: Final = (60.0, 180.0)
"""How long such a run is, for as long as nobody asks for another duration: from, to."""
UNHEARD: Final = 0.7
"""In how many of the seeds in which nodes come and go members often have not heard of a change."""
SOLE: Final = 0.6
"""How many of the seeds with leases have members change often, to a single one too, who restarts then."""
CLOSE: Final = 0.5
"""How many of the others have leaders cut off often."""

FALSE_CLIENTS_MAX: Final = 3
FaultsOfSeed = tuple[str, ...]


def chosen(seed: int, faults: tuple[str, ...], *, joins: bool = False, repairs: bool = False) -> FaultsOfSeed:
    """Which of the further kinds that are allowed this seed has.

    Other quorums are made for the nodes that there are at first, so nobody comes and goes then. Nor does anybody where
    nodes lose their folders, and all come back.
    """
    kinds = [kind for kind in FURTHER if kind in faults and Random(f"{seed}/ordeal/{kind}").random() < SHARES[kind]]
    if joins or "quorums" in kinds:
        without = "quorums" if joins else "members"
        kinds = [kind for kind in kinds if kind != without]
    if repairs:
        kinds = [kind for kind in kinds if kind not in ("gone", "members")]
    return tuple(kinds)


def burden(mix: Mix, seed: int, kinds: FaultsOfSeed, faults: tuple[str, ...], *, joins: bool = False) -> None:
    """Make a mix worse by these kinds, of all that are allowed. With ``joins`` nodes come and go already."""
    for kind in kinds:
        if kind in DRAWS and not (kind == "members" and joins):
            DRAWS[kind](mix, Random(f"{seed}/ordeal/{kind}/mix"), faults)
    if joins and "members" in faults:
        _strikes(mix, Random(f"{seed}/ordeal/strikes"))


def _gone(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    mix.gone = True
    mix.restarts = rng.random() < 0.7
    if rng.random() < ABSENT and "crash" in faults:
        duration_s = rng.uniform(*ABSENT_STRETCH_S)
        mix.stretch = max(mix.stretch, duration_s / 10.0)
        mix.absence_s = duration_s * rng.uniform(0.2, 0.6)
        mix.absence_every_s = duration_s / 6
        mix.think_s = max(mix.think_s, log_uniform(rng, 0.1, 0.5))
        mix.calm(10.0)


def _members(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    come_and_go(mix, rng, faults)
    _strikes(mix, rng)


def _strikes(mix: Mix, rng: Random) -> None:
    mix.missed = rng.uniform(0.5, 1.0) if rng.random() < UNHEARD else 0.0
    mix.strikes = rng.random() * 0.7


def _snapshots(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    mix.snags = Snags(
        failed=rng.random() * 0.2 if rng.random() < 0.6 else 0.0,
        untaken=rng.random() * 0.4 if rng.random() < 0.5 else 0.0,
        killed=log_uniform(rng, 0.005, 0.1) if "crash" in faults and rng.random() < 0.7 else 0.0,
        slow=rng.random() if rng.random() < 0.5 else 0.0,
        slow_s=log_uniform(rng, 0.01, 0.5),
        dry=log_uniform(rng, 0.03, 0.2) if rng.random() < 0.5 else 0.0,
        dry_s=log_uniform(rng, 0.5, 8.0),
    )
    if "crash" in faults and mix.absence_every_s is None:  # whoever was away needs one
        mix.absence_every_s, mix.absence_s = log_uniform(rng, 1.5, 5.0), rng.uniform(1.0, 4.0)
    if rng.random() < 0.6:  # drawn last, so that PBFT, which does not meet it, runs as before
        mix.snags = replace(mix.snags, spent=log_uniform(rng, 0.2, 1.0))


def _leases(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    """Clocks of running processes are not set, which a lease cannot bear; that of a machine that boots is."""
    mix.jump_s_max = 0.0
    mix.reboots = rng.random()
    is_sole = mix.plan_every_s is None and rng.random() < SOLE
    if is_sole:
        mix.calm(4.0)
        mix.members_every_s, mix.sole, mix.strikes, mix.coup = log_uniform(rng, 0.4, 1.2), 0.5, 0.9, 0.0
    elif rng.random() < CLOSE and "partition" in faults:
        mix.partition_every_s, mix.partition_s, mix.coup = 1.0, 1.5, 0.3
    else:
        return
    # A stale read takes one client that has given the old leader up and writes to the new one, and one that has not.
    mix.clients, mix.keys, mix.think_s, mix.timeout_s = 12, 1, 0.3, 0.1


def _delays(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    mix.drift = Drift(
        every_s=log_uniform(rng, 0.2, 5.0),
        shape=rng.uniform(0.8, 2.5),
        factor_max=log_uniform(rng, 10.0, 200.0),
    )


def _clients(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    mix.false_clients = rng.randint(1, FALSE_CLIENTS_MAX)


def _stops(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    """In half of them nothing else happens to processes."""
    mix.stop_every_s = log_uniform(rng, 0.5, 4.0)
    if rng.random() < 0.5:
        mix.crash_every_s, mix.coup = None, 0.0


def _transfers(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    mix.transfer_every_s = log_uniform(rng, 0.3, 3.0)


def _hang_ups(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    mix.hang_ups = rng.uniform(0.3, 1.0)
    mix.hang_up_every_s = log_uniform(rng, 0.1, 2.0) if rng.random() < 0.7 else None


DRAWS: dict[str, Callable[[Mix, Random, tuple[str, ...]], None]] = {
    "gone": _gone,
    "members": _members,
    "snapshots": _snapshots,
    "leases": _leases,
    "delays": _delays,
    "clients": _clients,
    "stops": _stops,
    "transfers": _transfers,
    "hang-ups": _hang_ups,
}
"""Kinds that change the mix. The others change the config alone."""
