"""Nodes of CometBFT 0.38, unmodified, that drive our app: processes, and their RPC.

`go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.26`: on the PATH, or named in COMETBFT.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import urllib.parse
import urllib.request
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import Request, RequestExtendVote
from quorate.ledger.comet.abci.response_messages import Response, ResponseExtendVote
from quorate.ledger.comet.validators import key_address
from quorate.machines.abci.kv_snapshots import SyncedKVStoreApp

from tests.ports import free_ports

COMETBFT = os.environ.get("COMETBFT") or shutil.which("cometbft")
START_S = 40.0
needs_cometbft = pytest.mark.skipif(
    COMETBFT is None, reason="CometBFT 0.38 is not here, so no real engine drives our app: name it in COMETBFT"
)


class Recorded(SyncedKVStoreApp):
    """Remembers its calls, and extends its votes."""

    def __init__(self, snapshot_interval: int = 1 << 30) -> None:
        super().__init__(snapshot_interval)
        self.calls: list[tuple[Request, Response]] = []

    def answer(self, request: Request) -> Response:
        response = super().answer(request)
        self.calls.append((request, response))
        return response

    def extend_vote(self, request: RequestExtendVote) -> ResponseExtendVote:
        return ResponseExtendVote(b"height %d" % request.height)

    def check(self) -> set[type[Request]]:
        """That the calls since the last time are one run of an engine; which kinds there were."""
        checker = GrammarChecker()
        for request, response in self.calls:
            checker.observe(request, response)
        kinds = {type(request) for request, _ in self.calls}
        self.calls.clear()
        return kinds


async def cometbft(*arguments: str | Path) -> asyncio.subprocess.Process:
    assert COMETBFT is not None
    return await asyncio.create_subprocess_exec(
        COMETBFT, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )


async def homes(folder: Path, validators: int, others: int = 0) -> list[Path]:
    """Of a chain, quick, with vote extensions from the start."""
    made = await cometbft(
        *("testnet", "--v", str(validators), "--n", str(others), "--o", folder, "--populate-persistent-peers=false")
    )
    assert await made.wait() == 0
    return prepared(folder)


def prepared(folder: Path) -> list[Path]:
    """The homes that were made there."""
    found = sorted(folder.glob("node*"))
    for home in found:
        edit(home, timeout_commit='"50ms"', addr_book_strict="false", allow_duplicate_ip="true", pex="false")
        genesis = home / "config" / "genesis.json"
        document = json.loads(genesis.read_text())
        document["consensus_params"]["abci"]["vote_extensions_enable_height"] = "1"
        genesis.write_text(json.dumps(document))
    return found


def edit(home: Path, **values: str) -> None:
    """Settings of its config.toml, wherever they are."""
    config = home / "config" / "config.toml"
    text = config.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        assert count == 1, name
    config.write_text(text)


class Engine:
    """A node. ``peer``: as others dial it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, peer: str) -> None:
        self.process, self.port, self.peer = process, port, peer

    async def get(self, route: str, **arguments: str) -> Any:
        query = urllib.parse.urlencode(arguments)

        def fetch() -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{route}?{query}", timeout=20) as answer:
                return json.load(answer)["result"]

        return await asyncio.to_thread(fetch)

    async def put(self, text: str) -> int:
        """Have a transaction committed; the height."""
        done = await self.get("broadcast_tx_commit", tx=f'"{text}"')
        assert (done["check_tx"]["code"], done["tx_result"]["code"]) == (0, 0), done
        return int(done["height"])

    async def value(self, key: str) -> bytes:
        return b64decode((await self.get("abci_query", data=f'"{key}"'))["response"]["value"] or "")

    async def reach(self, height: int) -> None:
        """Wait until it has come so far."""
        async with asyncio.timeout(START_S):
            while True:
                try:
                    if int((await self.get("status"))["sync_info"]["latest_block_height"]) >= height:
                        return
                except OSError:
                    assert self.process.returncode is None
                await asyncio.sleep(0.1)


@asynccontextmanager
async def engine(home: Path, app: str, peers: Sequence[str] = (), *options: str) -> AsyncIterator[Engine]:
    """A process, which perhaps is not ready yet."""
    rpc, port = free_ports(2)
    key = json.loads((home / "config" / "node_key.json").read_text())["priv_key"]["value"]
    ident = key_address(b64decode(key)[32:]).hex()
    process = await cometbft(
        *("start", "--home", home, "--proxy_app", app, "--rpc.laddr", f"tcp://127.0.0.1:{rpc}"),
        *("--p2p.laddr", f"tcp://127.0.0.1:{port}", "--p2p.persistent_peers", ",".join(peers), *options),
    )
    try:
        yield Engine(process, rpc, f"{ident}@127.0.0.1:{port}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
