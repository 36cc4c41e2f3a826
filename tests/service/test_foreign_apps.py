"""Apps that others wrote, behind nodes of ours: under load, killed and started again; what they answered is counted.

How to get them: ``tests/service/foreign_apps.py``.
"""

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from quorate.ledger.comet.abci.request_messages import RequestInfo, RequestQuery
from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.protocols.tendermint.app_chain import AppChain

from tests.runtime.servers import run, until, until_async
from tests.service.chain_servers import ChainServers, chain_servers
from tests.service.foreign_apps import CALLS, FURTHER, ForeignApp, Instances, count_answers, each_app
from tests.service.test_chain_server import has, why_ended

pytestmark = pytest.mark.slow

NODES = (1, 2, 3, 4)
STRUCK = 2
WRITERS, EACH = 4, 100


async def write(made: ChainServers, writer: int, nodes: tuple[int, ...]) -> list[bytes]:
    """Transactions through several nodes, some of which are down."""
    keys = [b"w%d-%d" % (writer, n) for n in range(EACH)]
    for n, key in enumerate(keys):
        view = made.reader(nodes[(writer + n) % len(nodes)])
        assert (await view.submit_tx(key + b"=%d" % n)).code == 0
        await asyncio.sleep(0.01)
    return keys


async def are_one_chain(made: ChainServers) -> None:
    """All nodes have the same blocks, and each header has what each node's app said of the block before. The chain may
    go on meanwhile: there are apps whose hash changes with every block."""
    heights = [made.reader(node).latest_height() for node in made.running]
    for height in range(1, min(heights) + 1):
        found = [await made.reader(node).stored(height) for node in made.running]
        assert None not in found
        assert len({stored.block.header.hash() for stored in found if stored is not None}) == 1
        for node in made.running:
            before = await made.reader(node).results_of(height - 1)
            if before is not None:
                assert {stored.block.header.app_hash for stored in found if stored is not None} == {before.app_hash}


async def has_all(made: ChainServers, node: int) -> bool:
    """Its app has the block that its store has, and no other hash."""
    view = made.reader(node)
    info, stored = await view.app_info(), None
    if info.last_block_height:
        stored = await view.stored(info.last_block_height)
    return stored is not None and stored.answer.app_hash == info.last_block_app_hash


@pytest.mark.parametrize("app", each_app())
def test_a_foreign_app_under_load(app: ForeignApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = count_answers(monkeypatch)
    apps = Instances(app, tmp_path)

    async def main() -> None:
        await apps.start(*NODES)
        async with chain_servers(tmp_path, app=apps.address) as made:
            await until(lambda: all(made.reader(node).latest_height() for node in NODES))
            written = asyncio.gather(*[write(made, writer, (1, 3, 4)) for writer in range(WRITERS)])
            await apps.kill(STRUCK)
            assert "start the app again, then the node" in await why_ended(made, STRUCK)
            await made.stop(STRUCK)
            await apps.start(STRUCK)
            await made.start(STRUCK)
            keys = [key for some in await written for key in some]
            for key in keys[:: len(keys) // 10]:
                assert [await has(made, node, key) for node in NODES] == [b"%d" % int(key.split(b"-")[1])] * 4
            for node in NODES:
                await until_async(partial(has_all, made, node))
            await are_one_chain(made)
            answer = await made.reader(STRUCK).query_app(RequestQuery(keys[-1]))
            assert answer.key == keys[-1]
            await are_started_again(made, apps)

    async def whole() -> None:
        try:
            await main()
        finally:
            await apps.kill()

    run(whole())
    assert set(answered) - FURTHER == CALLS
    assert app.answers <= set(answered)
    assert answered[RequestInfo] >= 9


E2E = [param for param in each_app() if param.id == "CometBFT's e2e app"]


@pytest.mark.parametrize("app", E2E)
def test_all_fourteen_calls(app: ForeignApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new node is far behind, so its app is given the state of another one."""
    monkeypatch.setattr(AppChain, "LEAP_HEIGHTS", 12)
    answered = count_answers(monkeypatch)
    apps = Instances(app, tmp_path)

    async def main() -> None:
        made = ChainServers(tmp_path, 4, apps.address)
        try:
            await apps.start(*NODES)
            await made.start(1, 2, 3)
            for n in range(20):
                assert (await until_async(partial(taken, made, b"k=%d" % n))).code == 0
            await until(lambda: made.reader(1).latest_height() > 30)
            await made.start(4)
            assert await has(made, 4, b"k") == b"19"
            await until(lambda: made.reader(4).earliest_height() > 1)
            await until_async(partial(has_all, made, 4))
        finally:
            await made.stop()
            await apps.kill()

    run(main())
    assert set(answered) == CALLS | FURTHER


async def are_started_again(made: ChainServers, apps: Instances) -> None:
    """All nodes and their apps, which were killed."""
    before = made.reader(1).latest_height()
    await made.stop()
    await apps.kill()
    await apps.start(*NODES)
    await made.start()
    assert (await until_async(lambda: taken(made, b"after=1"))).code == 0
    assert [await has(made, node, b"after") for node in NODES] == [b"1"] * 4
    assert made.reader(1).latest_height() > before
    await are_one_chain(made)


async def taken(made: ChainServers, tx: bytes) -> ResponseCheckTx | None:
    """None: the app is still told of old blocks."""
    with suppress(RPCRefusal):
        return await made.reader(1).submit_tx(tx)
    return None
