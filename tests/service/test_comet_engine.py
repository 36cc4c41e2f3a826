"""A real CometBFT 0.38 drives our kvstore: blocks, vote extensions, a crash of either side, and replay.

Its calls, recorded as the app answers them, must pass our grammar checker: what that refuses, no real engine does.
"""

import asyncio
import json
import os
import re
import shutil
import urllib.parse
import urllib.request
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import (
    Request,
    RequestCheckTx,
    RequestCommit,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
)
from quorate.ledger.comet.abci.response_messages import Response, ResponseExtendVote
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.parts.crypto.zip215 import verify_zip215
from quorate.protocols.tendermint.signed_bytes import extension_bytes

from tests.ports import free_ports
from tests.service.abci_apps import served

COMETBFT = os.environ.get("COMETBFT") or shutil.which("cometbft")
START_S = 30.0
ALL = (
    RequestInfo,
    RequestInitChain,
    RequestCheckTx,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestCommit,
    RequestQuery,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        COMETBFT is None, reason="CometBFT 0.38 is not here, so no real engine drives our app: name it in COMETBFT"
    ),
]


class Recorded(KVStoreApp):
    """Remembers its calls, and extends its votes."""

    def __init__(self) -> None:
        super().__init__()
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


def check_extensions(home: Path, calls: list[tuple[Request, Response]]) -> int:
    """What CometBFT signed of the extensions that it gave to PrepareProposal is what our nodes sign; of how many."""
    genesis = json.loads((home / "config" / "genesis.json").read_text())
    key = b64decode(genesis["validators"][0]["pub_key"]["value"])
    checked = 0
    for request, _ in calls:
        if isinstance(request, RequestPrepareProposal):
            for vote in request.local_last_commit.votes:
                height, round = request.height - 1, request.local_last_commit.round
                assert vote.vote_extension == b"height %d" % height
                data = extension_bytes(genesis["chain_id"], height, round, vote.vote_extension)
                assert verify_zip215(key, data, vote.extension_signature)
                checked += 1
    return checked


async def cometbft(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    assert COMETBFT is not None
    return await asyncio.create_subprocess_exec(
        COMETBFT, *arguments, "--home", str(home),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def new_home(folder: Path) -> Path:
    """A chain of one validator, quick, with vote extensions from the start."""
    home = folder / "home"
    assert await (await cometbft(home, "init")).wait() == 0
    config = home / "config" / "config.toml"
    config.write_text(re.sub(r'timeout_commit = "\w+"', 'timeout_commit = "50ms"', config.read_text()))
    genesis = home / "config" / "genesis.json"
    document = json.loads(genesis.read_text())
    document["consensus_params"]["abci"]["vote_extensions_enable_height"] = "1"
    genesis.write_text(json.dumps(document))
    return home


class Engine:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

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


@asynccontextmanager
async def engine(home: Path, app: str) -> AsyncIterator[Engine]:
    rpc, peers = free_ports(2)
    started = Engine(
        await cometbft(
            home, "start", "--proxy_app", app, "--rpc.laddr", f"tcp://127.0.0.1:{rpc}",
            "--p2p.laddr", f"tcp://127.0.0.1:{peers}", "--consensus.create_empty_blocks=false",
        ),
        rpc,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    if int((await started.get("status"))["sync_info"]["latest_block_height"]):
                        break
                except OSError:
                    assert started.process.returncode is None
                await asyncio.sleep(0.1)
        yield started
    finally:
        if started.process.returncode is None:
            started.process.kill()
        await started.process.wait()


def test_a_real_engine(tmp_path: Path) -> None:
    async def main() -> None:
        home = await new_home(tmp_path)
        app = Recorded()
        async with served(app) as server:
            address = str(server.endpoint)
            async with engine(home, address) as running:
                for number in range(5):
                    await running.put(f"key{number}=value{number}")
                assert await running.value("key3") == b"value3"
            assert check_extensions(home, app.calls) >= 4
            assert app.check() >= set(ALL)
            async with engine(home, address) as running:  # it was killed, and the app was not
                height = await running.put("more=1")
            kinds = app.check()
            assert RequestInitChain not in kinds
        later = Recorded()  # the app has lost everything
        async with served(later) as server, engine(home, str(server.endpoint)) as running:
            assert await running.put("last=1") > height
            assert await running.value("key4") == b"value4"
            assert RequestInitChain in later.check()
            await server.stop()
            await asyncio.wait_for(running.process.wait(), 20.0)  # an app that is lost ends CometBFT
        assert later.pairs == {**app.pairs, b"last": b"1"}

    asyncio.run(main())
