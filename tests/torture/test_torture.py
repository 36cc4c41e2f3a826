"""Torture: real processes, each in a network of its own, four clients, and every fault that there is, from a seed.

Without root the links go through proxies, and what cannot be had is left out; the report says so.

It fails for a history that no single machine could have given (so for an answer that was lost), a fault that took no
effect, a node that ended by itself, members that do not agree at the end, or stores that differ; for nothing that is
slow. It ends with a report, a line of JSON: ``pytest -s`` shows it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.torture import clocked
from tests.torture.account import report, text
from tests.torture.changing import ChangingCluster
from tests.torture.every_fault import EveryFault
from tests.torture.network import Network, why_impossible
from tests.torture.protocols import QUICK
from tests.torture.proxies import Proxies
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = pytest.mark.torture

FOUNDERS: Final = range(1, 6)
SECONDS: Final = float(os.environ.get("QUORATE_TORTURE_S", "180"))
"""Of the slow one."""
THINK_S_MAX: Final = 0.05
"""Of clients in the slow one: half an hour makes a history that is checked in minutes."""
DWELL_S_MAX: Final = 2.0

Plan = Callable[[EveryFault], None]


def links() -> Network | Proxies:
    """The best that this machine has."""
    return Proxies(FOUNDERS) if why_impossible() else Network(FOUNDERS)


def torture(
    folder: Path,
    seed: int,
    plan: Plan,
    planted: str = clocked.HEALTHY,
    links: Callable[[], Network | Proxies] = links,
    **pace: Any,
) -> None:
    with (
        links() as network,
        network.inside(),
        ChangingCluster(network, folder / "cluster", "raft", QUICK, planted) as cluster,
    ):
        run(cluster, folder / "history.jsonl", seed, plan, planted, **pace)


def run(
    cluster: ChangingCluster,
    history: Path,
    seed: int,
    plan: Plan,
    planted: str,
    dwell_s_max: float = 0.0,
    **pace: float,
) -> None:
    with Traffic(cluster, history, seed, **pace) as traffic:
        traffic.progress()
        nemesis = EveryFault(cluster, traffic, seed, dwell_s_max)
        try:
            plan(nemesis)
            traffic.finish()
        finally:
            print(text(report(seed, planted, traffic.recorder, nemesis)))
        nemesis.mend()  # all nodes say the same of who votes
        check_replicas(cluster)
        cluster.check_alive()
        check_history(traffic.recorder)


def each_once(nemesis: EveryFault) -> None:
    """Every kind, in an order that the seed chooses."""
    for kind in nemesis.chance.sample(list(nemesis.kinds), len(nemesis.kinds)):
        nemesis.strike(kind)


def for_a_while(nemesis: EveryFault) -> None:
    """Every kind once, and then whatever the seed says, until time is up."""
    ends_at = time.monotonic() + SECONDS
    each_once(nemesis)
    while time.monotonic() < ends_at:
        nemesis.strike(nemesis.chance.choice(list(nemesis.kinds)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_fault_once(tmp_path: Path) -> None:
    torture(tmp_path, 1, each_once, think_s_max=THINK_S_MAX)


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS + 1200)
def test_every_fault_for_a_while(tmp_path: Path) -> None:
    torture(tmp_path, 2, for_a_while, dwell_s_max=DWELL_S_MAX, think_s_max=THINK_S_MAX)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_fault_by_proxies(tmp_path: Path) -> None:
    """As where there is no root."""
    torture(tmp_path, 4, each_once, links=lambda: Proxies(FOUNDERS))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_planted_bug_is_caught(tmp_path: Path) -> None:
    """A leader that commits what it alone holds: cut off from the others, it answers writes that are lost."""
    with pytest.raises(AssertionError, match=r"not linearizable|ended with exit code"):
        torture(tmp_path, 3, leaders_cut_off, clocked.COMMITS_ALONE)


def leaders_cut_off(nemesis: EveryFault) -> None:
    """Not only leaders, but those among others."""
    for _ in range(6):
        nemesis.strike("isolate")
