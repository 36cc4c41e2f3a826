"""Kill -9 and pauses in a loop, under traffic: nothing acknowledged is lost, nothing old is read.

SIGKILL takes what a process had not handed to the kernel; it does not take the page cache (tests/storage simulates
that). A pause makes a leader that does not know that it was deposed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import LocalCluster
from tests.torture.nemesis import KILLS, PAUSES, Nemesis
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = pytest.mark.torture

QUICK = "[raft]\nheartbeat_s = 0.05\nelection_timeout_s_min = 0.3\nsnapshot_entries = 300\nkeep_entries = 50"
"""Elections that do not take long, and snapshots all the time."""


def torture(folder: Path, kinds: dict[str, int], seed: int, kills: int = 0, pauses: int = 0) -> None:
    with (
        LocalCluster(folder / "cluster", options=QUICK) as cluster,
        Traffic(cluster.endpoints, folder / "history.jsonl", seed) as traffic,
    ):
        traffic.progress()
        nemesis = Nemesis(cluster, traffic, seed)
        nemesis.run(kinds, kills, pauses)
        traffic.finish()
        check_replicas(cluster)
        counts = traffic.recorder.counts
        print(
            f"seed {seed}: {nemesis.kills} kills, {nemesis.pauses} pauses {dict(nemesis.done)}; "
            f"{counts['invoke']} operations, {counts['fail']} failed, {counts['info']} unknown"
        )
        check_history(traffic.recorder)


@pytest.mark.timeout(150)
def test_kills(tmp_path: Path) -> None:
    torture(tmp_path, KILLS, seed=1, kills=12)


@pytest.mark.timeout(150)
def test_pauses(tmp_path: Path) -> None:
    torture(tmp_path, PAUSES, seed=2, pauses=12)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [3])
def test_a_hundred_kills_with_pauses_between(tmp_path: Path, seed: int) -> None:
    torture(tmp_path, KILLS | PAUSES, seed, kills=100)
