"""Which protocols are tortured, with how many nodes, and the options that make them quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from quorate.protocols import REGISTRY

from tests.cluster import LocalCluster

_OF_LEADERS = "heartbeat_s = 0.05\nelection_timeout_s_min = 0.3\nsnapshot_entries = 300\nkeep_entries = 50"
QUICK: Final = f"[raft]\n{_OF_LEADERS}"
"""Raft with elections that do not take long, and snapshots all the time."""
OPTIONS: Final = {
    "raft": QUICK,
    "multipaxos": f"[multipaxos]\n{_OF_LEADERS}",
    "pbft": "[pbft]\nrequest_timeout_s = 1.0\nview_timeout_s_max = 4.0\nbeat_s = 0.1\n"
    "checkpoint_batches = 16\nwindow = 32\nsnapshot_batches = 64",
    "tendermint": "[tendermint]\npropose_s = 0.5\nprevote_s = 0.2\nprecommit_s = 0.2\nbeat_s = 0.1\n"
    "snapshot_heights = 64",
}
"""The same for the others. What is not here has neither leaders that are replaced nor snapshots."""

PROTOCOLS: Final = sorted(REGISTRY)
ALWAYS: Final = ("pbft", "raft")
"""Tortured by the fast tests: one that bears crashes, one that bears lies. The others are left to the slow ones."""
WAITING: Final = ("echo",)
"""Those that wait for their first node while it is down: nobody takes over."""
FAILING_OVER: Final = [name for name in PROTOCOLS if name not in WAITING]
COMPACTING: Final = sorted(OPTIONS)
"""Those whose nodes catch up by snapshots."""


def in_tiers(protocols: list[str], fast: tuple[str, ...] = ALWAYS) -> list[Any]:
    """Parameters of a torture, each in the tier of its protocol."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in protocols]


def nodes_of(protocol: str) -> int:
    """So many that one may fail."""
    return REGISTRY[protocol].traits.fault_model.nodes(1)


def cluster_of(protocol: str, folder: Path) -> LocalCluster:
    """One that is quick and bears one fault."""
    return LocalCluster(folder / "cluster", nodes_of(protocol), protocol, OPTIONS.get(protocol, ""))
