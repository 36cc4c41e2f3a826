"""CosmJS, unmodified, on our port: its 19 routes by HTTP, in batches and over a WebSocket.

It needs node and a folder into which `npm install @cosmjs/tendermint-rpc@0.39.0` was done: QUORATE_COSMJS=FOLDER.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from quorate.service.comet.index_keeper import IndexKeeper
from quorate.service.comet.indexer import ChainIndexer
from quorate.service.comet.rpc_port import serve_rpc

from tests.ledger.comet.rpc.recorded_view import RecordedView, lines
from tests.runtime.servers import until_async

FOLDER = os.environ.get("QUORATE_COSMJS", "")
SCRIPT = Path(__file__).with_name("cosmjs_routes.cjs")
STREAMS = {"subscribeNewBlock", "subscribeNewBlockHeader", "subscribeTx"}
ROUTES = 17

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node"),
    pytest.mark.skipif(not FOLDER, reason="needs CosmJS: QUORATE_COSMJS=FOLDER, with its node_modules"),
]


async def has_reached(indexer: ChainIndexer, height: int) -> bool:
    return await indexer.highest() >= height


async def asked_by(kind: str, folder: Path) -> dict[str, Any]:
    """What CosmJS made of the answers, by route."""
    view, indexer = RecordedView(5), ChainIndexer(folder)
    keeper = IndexKeeper(view, indexer)
    await keeper.start()
    await until_async(lambda: has_reached(indexer, 5))
    opened = await serve_rpc(view, "127.0.0.1", 0, chain_index=indexer)
    name = lines("talk")[1]["answer"]["result"]["hash"]
    command = ["node", str(SCRIPT), FOLDER, f"http://127.0.0.1:{opened.port}", kind, name]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    found = {}
    try:
        async with asyncio.timeout(50):
            async for line in process.stdout:
                answer = json.loads(line)
                found[answer["route"]] = answer["value"]
                if kind == "websocket" and len(found) == ROUTES:
                    await asyncio.sleep(1)  # until it has subscribed
                    view.decide()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await opened.close()
        await keeper.stop()
    return found


@pytest.mark.parametrize("kind", ["http", "batch", "websocket"])
def test_cosmjs(kind: str, tmp_path: Path) -> None:
    found = asyncio.run(asked_by(kind, tmp_path))
    assert len(found) == ROUTES + (len(STREAMS) if kind == "websocket" else 0)
    assert bytes.fromhex(found["abciQuery"]["value"]) == b"v1"
    assert found["block"]["block"]["header"]["height"] == 3
    assert len(found["blockResults"]["results"]) == 4
    assert [block["block"]["header"]["height"] for block in found["blockSearch"]["blocks"]] == [4, 5]
    assert [meta["header"]["height"] for meta in found["blockchain"]["blockMetas"]] == [4, 3, 2]
    assert found["broadcastTxSync"]["code"] == 0
    assert found["broadcastTxCommit"]["checkTx"]["code"] == 2
    assert found["commit"]["canonical"] is True
    assert found["genesis"]["chainId"] == found["status"]["nodeInfo"]["network"]
    assert found["status"]["syncInfo"]["latestBlockHeight"] == 5
    assert found["tx"]["height"] == 3
    assert found["tx"]["proof"] is not None
    assert (found["txSearch"]["totalCount"], len(found["txSearch"]["txs"])) == (6, 2)
    assert found["validators"]["total"] == 1
    if kind == "websocket":
        assert found["subscribeNewBlock"]["header"]["height"] == 6
        assert found["subscribeNewBlockHeader"]["height"] == 6
        assert found["subscribeTx"]["height"] == 6
