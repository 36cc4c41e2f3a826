"""Four nodes that drive ABCI apps: in their process and over sockets; restarts, pruning, and apps that die or lie."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from quorate.kernel import AppEnded
from quorate.ledger.comet.abci.request_messages import RequestFinalizeBlock, RequestProcessProposal, RequestQuery
from quorate.ledger.comet.abci.response_messages import ResponseFinalizeBlock, ResponseProcessProposal
from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.ledger.comet.verification import verify_commit
from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.parts.crypto.zip215 import verify_zip215
from quorate.runtime.endpoints import Endpoint
from quorate.service.abci.app_server import AppServer

from tests.runtime.servers import run, until, until_async
from tests.service.chain_servers import ChainServers, chain_servers


async def has(made: ChainServers, node: int, key: bytes) -> bytes:
    """The value at a node's app, once it is there."""
    reader = made.reader(node)

    async def found() -> bytes:
        return (await reader.query_app(RequestQuery(key))).value

    value: bytes = await until_async(found)
    return value


def test_a_transaction_through_one_node_is_in_the_apps_of_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with chain_servers(tmp_path) as made:
            await made.level(1)
            reader = made.reader(2)
            assert (await reader.submit_tx(b"a=1")).code == 0
            assert (await reader.submit_tx(b"nonsense")).code == 2
            assert [await has(made, node, b"a") for node in made.ids] == [b"1"] * 4
            with pytest.raises(RPCRefusal, match="tx already exists in cache"):
                await reader.submit_tx(b"a=1")
            await made.level(3)
            await is_a_chain(made)

    run(main())


async def is_a_chain(made: ChainServers) -> None:
    """What the stores have is one chain, with commits that prove it."""
    for node in made.running:
        reader = made.reader(node)
        for height in range(1, reader.latest_height() + 1):
            stored = await reader.stored(height)
            commit = await reader.commit_of(height)
            assert stored is not None
            assert commit is not None
            header = stored.block.header
            assert await reader.height_of(header.hash()) == height
            verify_commit(header.chain_id, stored.validators, commit.block_id, height, commit, verify_zip215)
            assert commit.block_id.hash == header.hash()
            assert header.validators_hash == stored.validators.hash()
            after = await reader.stored(height + 1)
            if after is not None:
                assert after.block.header.app_hash == stored.answer.app_hash
        head = reader.latest_height()
        assert await reader.validators_of(head + 1) is not None
        assert await reader.params_of(head + 1) is not None
        assert await reader.stored(head + 100) is None


def test_a_restart_of_all_and_of_one_that_was_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with chain_servers(tmp_path) as made:
            await made.level(1)
            await made.reader(1).submit_tx(b"a=1")
            await has(made, 1, b"a")
            await made.crash(4)
            await made.reader(1).submit_tx(b"b=2")
            assert await has(made, 3, b"b") == b"2"
            await made.stop()
            await made.start()  # with apps that know nothing
            assert [await has(made, node, b"b") for node in made.ids] == [b"2"] * 4
            await made.reader(4).submit_tx(b"c=3")
            assert await has(made, 1, b"c") == b"3"
            await is_a_chain(made)

    run(main())


def test_a_store_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with chain_servers(tmp_path, nodes=1) as made:
            await made.level(1)
            await made.reader(1).submit_tx(b"a=1")
            await made.level(3)
            await made.stop(1)
            for file in (tmp_path / "n1").glob("blocks.sqlite*"):
                file.unlink()
            await made.start(1)
            await made.level(3)
            await is_a_chain(made)

    run(main())


def test_blocks_that_the_app_needs_no_more_are_pruned(tmp_path: Path) -> None:
    async def main() -> None:
        async with chain_servers(tmp_path, nodes=1, make_app=lambda: KVStoreApp(retain_blocks=2)) as made:
            await made.level(1)
            for n in range(3):
                await made.reader(1).submit_tx(b"k%d=1" % n)
                await has(made, 1, b"k%d" % n)
            await until(lambda: made.reader(1).latest_height() >= 4 and made.reader(1).earliest_height() > 1)
            reader = made.reader(1)
            assert reader.latest_height() - reader.earliest_height() <= 3
            assert await reader.stored(1) is None
            assert await reader.commit_of(1) is None

    run(main())


# --- apps over sockets ---


async def with_apps(stack: AsyncExitStack, folder: Path, nodes: int) -> tuple[dict[int, AppServer], str]:
    servers = {}
    for node in range(1, nodes + 1):
        servers[node] = AppServer(KVStoreApp(), Endpoint("", 0, str(folder / f"app{node}.sock")))
        await servers[node].start()
        stack.push_async_callback(servers[node].stop)
    return servers, f"unix://{folder}/app{{node}}.sock"


async def why_ended(made: ChainServers, node: int) -> str:
    with pytest.raises(AppEnded) as raised:
        await made.running[node].wait()
    return str(raised.value)


def test_an_app_that_dies_ends_its_node_alone_and_both_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            apps, address = await with_apps(stack, tmp_path, 4)
            made = await stack.enter_async_context(chain_servers(tmp_path, app=address))
            await made.level(1)
            await made.reader(1).submit_tx(b"a=1")
            assert await has(made, 4, b"a") == b"1"
            await apps[4].stop()
            why = await why_ended(made, 4)
            assert "app4.sock" in why
            assert "start the app again, then the node" in why
            await made.stop(4)
            await made.reader(2).submit_tx(b"b=2")
            assert await has(made, 1, b"b") == b"2"
            apps[4] = AppServer(KVStoreApp(), Endpoint("", 0, str(tmp_path / "app4.sock")))
            await apps[4].start()
            stack.push_async_callback(apps[4].stop)
            await made.start(4)
            assert await has(made, 4, b"b") == b"2"

    run(main())


class Judging(KVStoreApp):
    """Raises at a block of a certain transaction."""

    def finalize_block(self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock:
        if b"bad=1" in request.txs:
            raise RuntimeError("this I cannot run")
        return super().finalize_block(request)


class Undecided(KVStoreApp):
    """Does not say whether a block may be."""

    def process_proposal(self, request: RequestProcessProposal) -> ResponseProcessProposal:
        return ResponseProcessProposal()


@pytest.mark.parametrize(
    ("app", "why"), [(Judging, r"RuntimeError: this I cannot run"), (Undecided, "it must be ACCEPT or REJECT")]
)
def test_a_wrong_app_ends_its_node_with_words(app: type[ABCIApp], why: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with chain_servers(tmp_path, nodes=1, make_app=app) as made:
            if app is Judging:
                await made.level(1)
                await made.reader(1).submit_tx(b"bad=1")
            text = await why_ended(made, 1)
            assert why in text
            assert "What to do: mend the app" in text

    run(main())
