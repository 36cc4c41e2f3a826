"""CosmJS, unmodified, on real nodes: its 19 routes by HTTP, in batches and over a WebSocket, each at another node.

It needs node and a folder into which `npm install @cosmjs/tendermint-rpc@0.39.0` was done: QUORATE_COSMJS=FOLDER.
"""

from __future__ import annotations

import json
import subprocess
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.cli.comet_chain import PATIENCE_S, Chain, both_kinds, chain
from tests.service.comet.test_cosmjs import FOLDER, ROUTES, SCRIPT, STREAMS, pytestmark

__all__ = ["pytestmark"]
pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")

TXS = ("k1=v1", "k2=v2", "k3=v3")
HEIGHT = 7
"""Of the chain at least. With an app a block for its hash is after each transaction."""


def routes(made: Chain, url: str, kind: str, tx: bytes) -> dict[str, Any]:
    """What CosmJS made of the answers, by route. Once it has subscribed, there are transactions."""
    command = ["node", str(SCRIPT), FOLDER, url, kind, sha256(tx).hexdigest(), made.about_tx]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_S
    try:
        assert process.stdout is not None
        found = {}
        for _ in range(ROUTES):
            answer = json.loads(process.stdout.readline())
            found[answer["route"]] = answer["value"]
        while process.poll() is None:
            assert time.monotonic() < deadline, "it ends when it has heard of a block and of a transaction"
            made.put(f"more{time.monotonic_ns()}=1")
        for line in process.stdout:
            answer = json.loads(line)
            found[answer["route"]] = answer["value"]
        assert process.returncode == 0
        return found
    finally:
        process.kill()
        process.wait()


@both_kinds
def test_the_routes_of_cosmjs_on_four_nodes(kind: type[Chain], tmp_path: Path) -> None:
    with chain(tmp_path, kind) as made:
        made.grow(1)
        first = made.tx(TXS[0])
        height = made.commit(first)
        for text in TXS[1:]:
            made.put(text)
        made.grow(HEIGHT)
        kinds = dict(zip(("http", "batch", "websocket"), made.urls[1:], strict=True))
        for place, (way, url) in enumerate(kinds.items()):
            found = routes(made, url, way, first)
            assert len(found) == ROUTES + (len(STREAMS) if way == "websocket" else 0)
            check(found, made, place)
            assert (found["tx"]["height"], bytes.fromhex(found["tx"]["tx"])) == (height, first)
            if way == "websocket":
                heights = [found[stream]["height"] for stream in ("subscribeNewBlockHeader", "subscribeTx")]
                assert found["subscribeNewBlock"]["header"]["height"] == heights[0]
                assert min(heights) > found["status"]["syncInfo"]["latestBlockHeight"]


def check(found: dict[str, Any], made: Chain, before: int) -> None:
    """``before``: how many clients were there earlier, each of which brought two transactions."""
    accepted = 2 * before if made.refusals[0] == 0 else 0
    assert bytes.fromhex(found["abciQuery"]["value"]) == b"v1"
    assert int(found["abciInfo"]["lastBlockHeight"]) >= HEIGHT
    assert found["block"]["block"]["header"]["height"] == 3
    txs = made.get("block?height=4")["block"]["data"]["txs"]
    assert [result["code"] for result in found["blockResults"]["results"]] == [0] * len(txs)
    assert found["blockSearch"]["totalCount"] >= 5
    assert [meta["header"]["height"] for meta in found["blockchain"]["blockMetas"]] == [4, 3, 2]
    assert (found["broadcastTxSync"]["code"], found["broadcastTxCommit"]["checkTx"]["code"]) == made.refusals
    assert len(found["broadcastTxAsync"]["hash"]) == 64
    assert found["commit"]["canonical"] is True
    assert len(found["commit"]["commit"]["signatures"]) == 4
    assert found["genesis"]["chainId"] == found["status"]["nodeInfo"]["network"]
    assert found["health"] is None
    assert found["numUnconfirmedTxs"]["total"] >= 0
    assert found["status"]["syncInfo"]["catchingUp"] is False
    assert found["tx"]["proof"]["data"] == found["tx"]["tx"]
    assert (found["txSearch"]["totalCount"] >= 3 + accepted, len(found["txSearch"]["txs"])) == (True, 2)
    assert (found["validators"]["total"], found["validators"]["count"]) == (4, 4)
