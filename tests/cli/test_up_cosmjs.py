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

from tests.cli.comet_chain import PATIENCE_S, Chain, chain
from tests.service.comet.test_cosmjs import FOLDER, ROUTES, SCRIPT, STREAMS, pytestmark

__all__ = ["pytestmark"]
pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")

TXS = ("k1=v1", "k2=v2", "k3=v3")
"""One in each of the heights 2, 4 and 6; a block for the app's hash is after each."""


def routes(made: Chain, url: str, kind: str) -> dict[str, Any]:
    """What CosmJS made of the answers, by route. Once it has subscribed, there are transactions."""
    name = sha256(TXS[0].encode()).hexdigest()
    process = subprocess.Popen(["node", str(SCRIPT), FOLDER, url, kind, name], stdout=subprocess.PIPE, text=True)
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


def test_the_routes_of_cosmjs_on_four_nodes(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        made.grow(1)
        for place, tx in enumerate(TXS):
            assert made.put(tx) == 2 * place + 2
            while made.height < 2 * place + 3:
                time.sleep(0.05)
        kinds = dict(zip(("http", "batch", "websocket"), made.urls[1:], strict=True))
        for place, (kind, url) in enumerate(kinds.items()):
            found = routes(made, url, kind)
            assert len(found) == ROUTES + (len(STREAMS) if kind == "websocket" else 0)
            check(found, place)
            if kind == "websocket":
                heights = [found[stream]["height"] for stream in ("subscribeNewBlockHeader", "subscribeTx")]
                assert found["subscribeNewBlock"]["header"]["height"] == heights[0]
                assert min(heights) > found["status"]["syncInfo"]["latestBlockHeight"]


def check(found: dict[str, Any], before: int) -> None:
    """``before``: how many clients were there earlier."""
    assert bytes.fromhex(found["abciQuery"]["value"]) == b"v1"
    assert int(found["abciInfo"]["lastBlockHeight"]) >= 7
    assert found["block"]["block"]["header"]["height"] == 3
    assert [result["code"] for result in found["blockResults"]["results"]] == [0]
    assert found["blockSearch"]["totalCount"] >= 5
    assert [meta["header"]["height"] for meta in found["blockchain"]["blockMetas"]] == [4, 3, 2]
    assert (found["broadcastTxSync"]["code"], found["broadcastTxCommit"]["checkTx"]["code"]) == (0, 2)
    assert len(found["broadcastTxAsync"]["hash"]) == 64
    assert found["commit"]["canonical"] is True
    assert len(found["commit"]["commit"]["signatures"]) == 4
    assert found["genesis"]["chainId"] == found["status"]["nodeInfo"]["network"]
    assert found["health"] is None
    assert found["numUnconfirmedTxs"]["total"] >= 0
    assert found["status"]["syncInfo"]["catchingUp"] is False
    assert (found["tx"]["height"], bytes.fromhex(found["tx"]["tx"])) == (2, TXS[0].encode())
    assert found["tx"]["proof"]["data"] == found["tx"]["tx"]
    assert (found["txSearch"]["totalCount"] >= 3 + 2 * before, len(found["txSearch"]["txs"])) == (True, 2)
    assert (found["validators"]["total"], found["validators"]["count"]) == (4, 4)
