"""Chains on four real nodes: 200 heights with unequal powers that change, and fewer of one without an app. Each thing
in them is recomputed anew.

That is ``tests/ledger/comet/recompute.py``, which shares none with the package, and was tried on a chain of CometBFT.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cli.comet_chain import Chain, RequestChain, chain
from tests.ledger.comet.recompute import Recomputed, Shown

pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

HEIGHTS = 200
OF_REQUESTS = 60
POWERS = (10, 5, 3, 1)
EVERY = 8
"""So many transactions there are between two changes."""


def grow(made: Chain) -> int:
    """Up to the height, with a change of powers now and then; one node leaves and comes back. How many changes."""
    keys, changes, count = made.keys(), 0, 0
    for node, power in enumerate(POWERS):
        made.put(f"val=ed25519!{keys[node]}!{power}")
    while made.height < HEIGHTS + 2:
        count += 1
        made.put(f"key{count % 7}=value{count}", made.urls[count % 4])
        if count % EVERY == 0:
            node = changes % 4
            power = 0 if node == 3 and changes % 8 == 3 else POWERS[node] + changes % 5
            changes += 1
            made.put(f"val=ed25519!{keys[node]}!{power:0{3 + changes}}")  # zeros make it another transaction
    return changes


def shown(made: Chain, height: int, url: str) -> Shown:
    def get(route: str) -> Any:
        return made.get(f"{route}?height={height}", url)

    return Shown(get("block"), get("validators"), get("block_results"), get("commit")["signed_header"]["commit"])


def recomputed(made: Chain, heights: int) -> Counter[str]:
    """What was looked at; anything else than what was recomputed raises."""
    found = Recomputed(made.get("genesis")["genesis"])
    for height in range(1, heights + 1):
        found.follow(shown(made, height, made.urls[height % 4]))
    counts = found.counts
    assert counts["block hash"] == counts["parts"] == counts["validators"] == heights
    assert counts["median time"] == heights - 1
    assert counts["proposer"] > heights // 2
    assert counts["signatures"] > 2 * heights
    return counts


def test_a_long_chain_is_as_it_is_recomputed(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        changes = grow(made)
        counts = recomputed(made, HEIGHTS)
    assert changes > 8
    assert counts["validator updates"] >= changes


def test_a_chain_of_requests_is_as_it_is_recomputed(tmp_path: Path) -> None:
    with chain(tmp_path, RequestChain) as made:
        while made.height < OF_REQUESTS + 2:
            made.put(f"key{made.height % 7}={made.height}", made.urls[made.height % 4])
        counts = recomputed(made, OF_REQUESTS)
    assert counts["app hash"] == OF_REQUESTS - 1
