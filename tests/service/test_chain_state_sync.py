"""Nodes that were away, or are new, take over the state of others' apps: in their process and over sockets."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import AppEnded
from quorate.ledger.comet.abci.request_messages import RequestInitChain, RequestQuery
from quorate.ledger.comet.abci.response_messages import ResponseInitChain
from quorate.ledger.comet.params import ConsensusParams, Duration, EvidenceParams
from quorate.machines.abci.kv_snapshots import SyncedKVStoreApp
from quorate.protocols.tendermint import app_chain
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.runtime.endpoints import Endpoint
from quorate.service.abci.app_server import AppServer

from tests.runtime.servers import run, until, until_async
from tests.service.chain_servers import ChainServers

OTHERS = (1, 2, 3)


class Letting(SyncedKVStoreApp):
    """Lets blocks go soon, and evidence with them."""

    def init_chain(self, request: RequestInitChain) -> ResponseInitChain:
        evidence = EvidenceParams(2, Duration(0, 1_000_000), 1 << 16)
        return replace(super().init_chain(request), consensus_params=ConsensusParams(evidence=evidence))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AppChain, "LEAP_HEIGHTS", 6)
    monkeypatch.setattr(AppChain, "MARK_HEIGHTS", 2)
    monkeypatch.setattr(
        app_chain, "HESITATE_BEATS", 500
    )  # until the others say how far they are, on a slow machine too


async def writes(made: ChainServers, count: int, first: int = 0) -> None:
    """So many transactions, one after the other."""
    for n in range(first, first + count):
        await made.reader(1).submit_tx(b"k%d=%d" % (n, n))
        await has(made, 1, b"k%d" % n)


async def has(made: ChainServers, node: int, key: bytes) -> bytes:
    async def found() -> bytes:
        value: bytes = (await made.reader(node).query_app(RequestQuery(key))).value
        return value

    value: bytes = await until_async(found)
    return value


def core(made: ChainServers, node: int) -> AppChain:
    found: AppChain = made.reader(node).core
    return found


def test_a_new_node_takes_over_the_state_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_chain, "HESITATE_BEATS", 500)  # until others say how far they are, however slow the machine

    async def main() -> None:
        made = ChainServers(tmp_path, 4, "kvstore", lambda: SyncedKVStoreApp(3))
        try:
            await made.start(*OTHERS)
            await made.level(1)
            await writes(made, 8)
            await until(lambda: all(core(made, node).snapshots.offered for node in OTHERS))
            await made.start(4)
            assert await has(made, 4, b"k7") == b"7"
            assert core(made, 4).log.base > 1
            await writes(made, 2, first=8)
            assert await has(made, 4, b"k9") == b"9"
            assert made.reader(4).earliest_height() == core(made, 4).log.base + 1
            await made.stop(4)
            await made.start(4)  # its app has nothing again, and the log does not begin with the first block
            assert await has(made, 4, b"k9") == b"9"
        finally:
            await made.stop()

    run(main())


def test_a_new_node_for_which_nobody_has_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AppChain, "LEAP_HEIGHTS", 1 << 20)

    async def main() -> None:
        made = ChainServers(tmp_path, 4, "kvstore", lambda: Letting(3, retain_blocks=3))
        try:
            await made.start(*OTHERS)
            await made.level(1)
            await writes(made, 6)
            await until(lambda: all(core(made, node).log.base for node in OTHERS))
            await made.start(4)
            assert await has(made, 4, b"k5") == b"5"
        finally:
            await made.stop()

    run(main())


def test_one_that_was_away_for_too_long_says_so_and_comes_back_with_an_empty_app(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            apps: dict[int, Any] = {}

            async def serve(node: int) -> None:
                at = Endpoint("", 0, str(tmp_path / f"app{node}.sock"))
                apps[node] = AppServer(Letting(3, retain_blocks=3), at)
                await apps[node].start()
                stack.push_async_callback(apps[node].stop)

            for node in (*OTHERS, 4):
                await serve(node)
            made = ChainServers(tmp_path, 4, f"unix://{tmp_path}/app{{node}}.sock")
            stack.push_async_callback(made.stop)
            await made.start()
            await made.level(1)
            await writes(made, 1)
            await has(made, 4, b"k0")
            await made.stop(4)
            await writes(made, 8, first=1)
            count = 9
            while not all(core(made, node).log.base > 6 for node in OTHERS):  # one that was late has a later snapshot
                await writes(made, 1, first=count)
                count += 1
            last = made.reader(1).latest_height()
            assert all(core(made, node).log.base < last for node in OTHERS)
            await made.stop(1)
            await made.start(1)  # its app is level; the log does not begin with the first block
            await made.start(4)
            with pytest.raises(AppEnded) as raised:
                await made.running[4].wait()
            assert "the other nodes have dropped the blocks up to" in str(raised.value)
            assert "What to do: empty the app" in str(raised.value)
            await made.stop(4)
            await apps[4].stop()
            await serve(4)
            await made.start(4)
            assert await has(made, 4, b"k%d" % (count - 1)) == b"%d" % (count - 1)
            await writes(made, 1, first=count)
            assert await has(made, 4, b"k%d" % count) == b"%d" % count

    run(main())
