"""A real CometBFT 0.38 drives our kvstore: all fourteen calls, a crash of either side, replay, and state sync.

Its calls, recorded as the app answers them, must pass our grammar checker: what that refuses, no real engine does.
"""

import asyncio
import json
from base64 import b64decode
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci.request_messages import Request, RequestInitChain
from quorate.ledger.comet.abci.response_messages import Response
from quorate.parts.crypto.zip215 import verify_zip215
from quorate.protocols.tendermint.signed_bytes import extension_bytes

from tests.service.abci_apps import served
from tests.service.comet_engine import Recorded, edit, engine, homes, needs_cometbft

pytestmark = [pytest.mark.slow, needs_cometbft]

ALONE = {
    *(requests.RequestInfo, requests.RequestInitChain, requests.RequestCheckTx, requests.RequestQuery),
    *(requests.RequestPrepareProposal, requests.RequestProcessProposal, requests.RequestExtendVote),
    *(requests.RequestFinalizeBlock, requests.RequestCommit),
}
"""What the app of a chain's only validator is asked."""
OFFERED = {requests.RequestListSnapshots, requests.RequestLoadSnapshotChunk}
RESTORED = {requests.RequestOfferSnapshot, requests.RequestApplySnapshotChunk}
QUIET = "--consensus.create_empty_blocks=false"
SNAPSHOT_EVERY = 25


def check_extensions(home: Path, calls: list[tuple[Request, Response]]) -> int:
    """What CometBFT signed of the extensions that it gave to PrepareProposal is what our nodes sign; of how many."""
    genesis = json.loads((home / "config" / "genesis.json").read_text())
    key = b64decode(genesis["validators"][0]["pub_key"]["value"])
    checked = 0
    for request, _ in calls:
        if isinstance(request, requests.RequestPrepareProposal):
            for vote in request.local_last_commit.votes:
                height, round = request.height - 1, request.local_last_commit.round
                assert vote.vote_extension == b"height %d" % height
                data = extension_bytes(genesis["chain_id"], height, round, vote.vote_extension)
                assert verify_zip215(key, data, vote.extension_signature)
                checked += 1
    return checked


def test_a_real_engine(tmp_path: Path) -> None:
    async def main() -> None:
        (home,) = await homes(tmp_path, 1)
        app = Recorded()
        async with served(app) as server:
            address = str(server.endpoint)
            async with engine(home, address, (), QUIET) as running:
                await running.reach(1)
                for number in range(5):
                    await running.put(f"key{number}=value{number}")
                assert await running.value("key3") == b"value3"
            assert check_extensions(home, app.calls) >= 4
            assert app.check() >= ALONE
            async with engine(home, address, (), QUIET) as running:  # it was killed, and the app was not
                await running.reach(1)
                height = await running.put("more=1")
            kinds = app.check()
            assert RequestInitChain not in kinds
        later = Recorded()  # the app has lost everything
        async with served(later) as server, engine(home, str(server.endpoint), (), QUIET) as running:
            await running.reach(1)
            assert await running.put("last=1") > height
            assert await running.value("key4") == b"value4"
            assert RequestInitChain in later.check()
            await server.stop()
            await asyncio.wait_for(running.process.wait(), 20.0)  # an app that is lost ends CometBFT
        assert later.pairs == {**app.pairs, b"last": b"1"}

    asyncio.run(main())


def test_two_validators_and_a_node_that_takes_over_a_snapshot(tmp_path: Path) -> None:
    """Votes of another validator are verified, and our app's snapshots are offered, sent and restored."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            *validators, newcomer = await homes(tmp_path, 2, 1)
            apps = [Recorded(SNAPSHOT_EVERY) for _ in range(3)]
            addresses = [str((await stack.enter_async_context(served(app))).endpoint) for app in apps]
            first = await stack.enter_async_context(engine(validators[0], addresses[0]))
            second = await stack.enter_async_context(engine(validators[1], addresses[1], [first.peer]))
            await first.reach(1)
            for number in range(3):
                await first.put(f"key{number}=value{number}")
            await second.reach(SNAPSHOT_EVERY + 5)
            trusted = (await first.get("commit", height="1"))["signed_header"]["commit"]["block_id"]["hash"]
            syncs_state(newcomer, (first.port, second.port), trusted)
            third = await stack.enter_async_context(engine(newcomer, addresses[2], [first.peer, second.peer]))
            await third.reach(SNAPSHOT_EVERY)
            assert await third.value("key2") == b"value2"
            height = await first.put("after=1")
            await third.reach(height)
            assert await third.value("after") == b"1"
            assert int((await third.get("status"))["sync_info"]["earliest_block_height"]) > SNAPSHOT_EVERY
            kinds = [app.check() for app in apps]
            for its in kinds[:2]:
                assert its >= ALONE - {requests.RequestQuery} | {requests.RequestVerifyVoteExtension}
            assert kinds[0] | kinds[1] >= OFFERED
            assert kinds[2] >= RESTORED
            assert requests.RequestInitChain not in kinds[2]

    asyncio.run(main())


def syncs_state(home: Path, ports: tuple[int, ...], trusted: str) -> None:
    """It is to begin with a snapshot; these RPCs say what belongs to it."""
    servers = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    edit(home, rpc_servers=f'"{servers}"', trust_height="1", trust_hash=f'"{trusted}"', discovery_time='"5s"')
    config = home / "config" / "config.toml"
    before, found, after = config.read_text().partition("[statesync]")
    config.write_text(before + found + after.replace("enable = false", "enable = true", 1))
