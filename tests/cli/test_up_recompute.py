"""A chain of 200 heights on four real nodes, with unequal powers that change: each thing in it recomputed anew.

That is ``tests/ledger/comet/recompute.py``, which shares none with the package, and was tried on a chain of CometBFT.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.comet_chain import Chain, chain
from tests.ledger.comet.recompute import Recomputed, Shown

pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

HEIGHTS = 200
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


def test_a_long_chain_is_as_it_is_recomputed(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        changes = grow(made)
        recomputed = Recomputed(made.get("genesis")["genesis"])
        for height in range(1, HEIGHTS + 1):
            recomputed.follow(shown(made, height, made.urls[height % 4]))
    counts = recomputed.counts
    assert counts["block hash"] == counts["parts"] == counts["validators"] == HEIGHTS
    assert counts["median time"] == HEIGHTS - 1
    assert counts["proposer"] > HEIGHTS // 2
    assert counts["signatures"] > 2 * HEIGHTS
    assert changes > 8
    assert counts["validator updates"] >= changes
