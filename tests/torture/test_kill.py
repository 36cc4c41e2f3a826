"""Kill -9 and pauses in a loop, under traffic: nothing acknowledged is lost, nothing old is read.

SIGKILL takes what a process had not handed to the kernel; it does not take the page cache (tests/storage simulates
that). A pause makes a leader that does not know that it was deposed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.nemesis import KILLS, PAUSES, Nemesis
from tests.torture.protocols import ALWAYS, FAILING_OVER, PROTOCOLS, cluster_of, in_tiers
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = pytest.mark.torture


def torture(protocol: str, folder: Path, kinds: dict[str, int], seed: int, kills: int = 0, pauses: int = 0) -> None:
    with (
        cluster_of(protocol, folder) as cluster,
        Traffic(cluster, folder / "history.jsonl", seed) as traffic,
    ):
        traffic.progress()
        nemesis = Nemesis(cluster, traffic, seed)
        nemesis.run(kinds, kills, pauses)
        traffic.finish()
        check_replicas(cluster)
        counts = traffic.recorder.counts
        print(
            f"{protocol}, seed {seed}: {nemesis.kills} kills, {nemesis.pauses} pauses {dict(nemesis.done)}; "
            f"{counts['invoke']} operations, {counts['fail']} failed, {counts['info']} unknown"
        )
        check_history(traffic.recorder)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("protocol", in_tiers(PROTOCOLS, fast=("raft",)))
def test_kills(protocol: str, tmp_path: Path) -> None:
    torture(protocol, tmp_path, KILLS, seed=1, kills=4)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("protocol", in_tiers(FAILING_OVER, fast=("raft",)))
def test_all_are_killed_at_once(protocol: str, tmp_path: Path) -> None:
    torture(protocol, tmp_path, {"kill all": 1}, seed=4, kills=1)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("protocol", in_tiers(PROTOCOLS, fast=("raft",)))
def test_pauses(protocol: str, tmp_path: Path) -> None:
    torture(protocol, tmp_path, PAUSES, seed=2, pauses=3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_kills_with_pauses_between(protocol: str, tmp_path: Path) -> None:
    torture(protocol, tmp_path, KILLS | PAUSES, seed=3, kills=100 if protocol in ALWAYS else 25)
