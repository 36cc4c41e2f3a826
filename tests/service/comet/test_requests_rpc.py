"""CometBFT's RPC of nodes that serve the key-value store: blocks are theirs, and transactions are signed requests."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.machines.named import NamedMachines
from quorate.parts import requests
from quorate.protocols.tendermint.app_messages import LogBegins
from quorate.service.comet.block_store import FILE_NAME
from quorate.service.comet.indexer import INDEX_FILE
from quorate.service.comet.requests_side import NO_COMMANDS, NOT_SIGNED, SPENT, WRONG_SIGNATURE

from tests.ledger.comet.recompute import Recomputed, Shown
from tests.runtime.servers import run, until, until_async
from tests.service.chain_servers import QUICK
from tests.service.comet.rpc_nodes import RequestServers
from tests.service.signed_txs import SignedTxs

OFTEN = replace(QUICK, snapshot_heights=2)
"""A snapshot at every other height."""


@asynccontextmanager
async def request_servers(folder: Path, nodes: int = 1, **options: Any) -> AsyncIterator[RequestServers]:
    made = RequestServers(folder, nodes, **options)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def client_of(made: RequestServers, node: int = 1) -> SignedTxs:
    """The first client of the chain."""
    client = SignedTxs("test")
    await made.brought(client.opening(), node)
    client.opened(1)
    return client


async def recomputed(made: RequestServers, last: int, node: int = 1) -> None:
    """All blocks are those of the genesis and of each other, by code that shares none with the package."""
    chain = Recomputed((await made.get("genesis", node))["genesis"])
    for height in range(1, last + 1):
        of = f"?height={height}"
        found = [await made.get(route + of, node) for route in ("block", "validators", "block_results")]
        commit = (await made.get("commit" + of, node))["signed_header"]["commit"]
        chain.follow(Shown(*found, commit))
    assert chain.counts["block hash"] == last


ROUTES = (
    "tx?hash=0x{hash}&prove=true",
    "block?height={height}",
    "block_results?height={height}",
    "commit?height={height}",
    "validators?height={height}",
    "consensus_params?height={height}",
    "header?height={height}",
    "blockchain?minHeight=1&maxHeight={height}",
    "genesis",
    "abci_info",
)


async def answers(made: RequestServers, tx: bytes, height: int) -> dict[str, Any]:
    name = sha256(tx).hexdigest()
    await made.found(f"tx?hash=0x{name}")
    return {route: await made.get(route.format(hash=name, height=height)) for route in ROUTES}


def test_a_request_is_handed_in_and_found_after_a_restart_and_without_its_files_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with request_servers(tmp_path) as made:
            client = await client_of(made)
            tx = client.put(b"name", b"Ada")
            height = await made.brought(tx)
            await made.brought(client.put(b"more", b"1"))
            before = await answers(made, tx, height)
            assert before[ROUTES[1]]["block"]["data"]["txs"] == [b64encode(tx).decode()]
            assert before[ROUTES[0]]["proof"]["root_hash"] == before[ROUTES[1]]["block"]["header"]["data_hash"]
            assert before["abci_info"]["response"]["last_block_height"] == "3"
            found = (await made.get('abci_query?path="/store"&data="name"'))["response"]
            assert (found["code"], found["value"], found["height"]) == (0, b64encode(b"Ada").decode(), "3")
            assert (await made.get('abci_query?data="none"'))["response"]["log"] == "does not exist"
            searched = await made.get(f'tx_search?query="tx.height={height}"')
            assert [found["hash"] for found in searched["txs"]] == [sha256(tx).hexdigest().upper()]
            assert (await made.get('block_search?query="block.height>1"'))["total_count"] == "2"
            await recomputed(made, 3)
            for files in ((), (FILE_NAME,), (INDEX_FILE, FILE_NAME)):
                await made.stop()
                for file in [file for name in files for file in (tmp_path / "n1").glob(name + "*")]:
                    file.unlink()
                await made.start()
                await made.stored(3)
                assert await answers(made, tx, height) == before, files

    run(main())


async def none_waits(made: RequestServers, node: int) -> bool:
    return (await made.get("unconfirmed_txs", node))["total"] == "0"


def test_what_is_brought_to_one_node_is_decided_by_all(tmp_path: Path) -> None:
    """Whoever is to propose; and clients of the nodes go on besides."""

    async def main() -> None:
        async with request_servers(tmp_path, 4, options=replace(QUICK, powers=(5, 3, 2, 1))) as made:
            client = await client_of(made, 3)
            for n in range(4):
                await made.brought(client.put(b"k%d" % n, b"1"), node=n % 2 + 1)
            async with made.client() as usual:
                await usual.put(b"usual", b"2")
            height = (await made.get("status"))["sync_info"]["latest_block_height"]
            await made.stored(int(height))
            assert int(height) >= 6
            assert len({str(await made.get(f"header?height={height}", node)) for node in made.ids}) == 1
            for node in made.ids:
                assert (await made.get('abci_query?data="k3"', node))["response"]["value"] == b64encode(b"1").decode()
            assert (await made.get("net_info", 2))["n_peers"] == "3"
            assert (await made.get("validators"))["total"] == "4"
            # A client asks all nodes, and this one may hear of it when the others have decided.
            await until_async(lambda: none_waits(made, 4))
            moment = (await made.get("consensus_state"))["round_state"]["height/round/step"]
            assert int(moment.split("/")[0]) > int(height)
            await recomputed(made, int(height), 4)

    run(main())


def test_what_is_no_request_is_refused_by_code_and_in_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with request_servers(tmp_path) as made:
            client = await client_of(made)
            done = client.put(b"a", b"1")
            await made.brought(done)
            other = SignedTxs("another cluster", client.signer)
            other.session = client.session
            refused = {
                b"nonsense": (NOT_SIGNED, "is a request that a client of Quorate signed"),
                requests.sign(client.signer, [b"nonsense"]): (NO_COMMANDS, "no command of this cluster"),
                other.put(b"a", b"2"): (WRONG_SIGNATURE, "the client did not sign"),
                done: (SPENT, "it is not ordered again"),
            }
            made.running[1].node.host.root.app.pending._decided_at.clear()  # a while later
            for tx, (code, why) in refused.items():
                for route in ("broadcast_tx_sync", "check_tx"):
                    answer = await made.get(f"{route}?tx=0x{tx.hex()}")
                    assert (answer["code"], answer["codespace"]) == (code, "quorate"), (route, answer)
                    assert why in answer["log"]
                failed = await made.get(f"broadcast_tx_commit?tx=0x{tx.hex()}")
                assert (failed["check_tx"]["code"], failed["height"]) == (code, "0")
            assert made.reader(1).latest_height() == 2, "none of them was ordered"
            for asked, why in {
                "path=%22/else%22&data=%22a%22": "no such path",
                "data=%22a%22&height=1": "past heights",
                "data=%22a%22&prove=true": "nothing proves",
            }.items():
                answer = (await made.get("abci_query?" + asked))["response"]
                assert (answer["code"], answer["value"]) == (1, None)
                assert why in answer["log"]

    run(main())


def test_a_request_that_waits_already_and_one_for_which_there_is_no_room(tmp_path: Path) -> None:
    async def main() -> None:
        made = RequestServers(tmp_path, 4, replace(QUICK, pending_max=1))
        try:
            await made.start(1)  # alone it decides nothing
            client = SignedTxs("test")
            first, second = client.opening(), client.opening()
            view = made.reader(1)
            assert (await view.submit_tx(first)).code == 0
            with pytest.raises(RPCRefusal, match="already exists in cache"):
                await view.submit_tx(first)
            with pytest.raises(RPCRefusal, match="mempool is full"):
                await view.submit_tx(second)
            with pytest.raises(RPCRefusal, match="of no bytes"):
                await view.submit_tx(b"")
            with pytest.raises(RPCRefusal, match="at most"):
                await view.submit_tx(bytes(1 << 21))
            waiting = view.waiting_txs(5)
            assert (list(waiting.txs), waiting.total, waiting.total_bytes) == ([first], 1, len(first))
        finally:
            await made.stop()

    run(main())


async def about(made: RequestServers, *heights: int) -> list[Any]:
    return [await made.get(f"{what}?height={height}") for height in heights for what in ("commit", "validators")]


def test_after_snapshots_the_store_gets_what_the_log_still_has(tmp_path: Path) -> None:
    """It lacks its last blocks, as after a crash; all of them are in the newest snapshot, so none is told anew."""

    async def main() -> None:
        async with request_servers(tmp_path, options=OFTEN) as made:
            client = await client_of(made)
            for n in range(5):
                await made.brought(client.put(b"k", b"%d" % n))
                await until(lambda: not made.core(1).checkpoints._taking)
            core = made.core(1)
            assert (core.log.base, [image.height for image in core.checkpoints.images]) == (4, [4, 6])
            shown = await about(made, 5, 6)
            await made.stop()
            with sqlite3.connect(tmp_path / "n1" / FILE_NAME) as file:
                file.execute("DELETE FROM blocks WHERE height > 4")
            await made.start()
            await made.stored(6)
            assert await about(made, 5, 6) == shown
            assert (await made.get("status"))["sync_info"]["earliest_block_height"] == "1", "nothing was lost"
            await made.brought(client.put(b"more", b"1"))
            await recomputed(made, 7)
            shown = await about(made, 6, 7)
            await made.stop()
            (tmp_path / "n1" / FILE_NAME).unlink()
            await made.start()
            await made.stored(7)
            assert (await made.get("status"))["sync_info"]["earliest_block_height"] == "5", "the log begins there"
            assert await about(made, 6, 7) == shown
            made.running[1].blocks.take([LogBegins(8)])  # as after a snapshot from others that no block follows yet
            made.core(1).log.reset(7)
            await until(lambda: not made.running[1].store.height)
            assert (await made.get("status"))["sync_info"]["latest_block_height"] == "0"

    run(main())


def test_a_node_that_took_over_a_snapshot_serves_what_follows(tmp_path: Path) -> None:
    async def main() -> None:
        async with request_servers(tmp_path, 4, options=replace(OFTEN, powers=(5, 4, 3, 2))) as made:
            client = await client_of(made)
            await made.stored(1)
            await made.stop(4)
            for n in range(8):
                await made.brought(client.put(b"k", b"%d" % n))
            await made.start(4)
            await until(lambda: made.core(4).log.last == made.core(1).log.last)
            height = await made.brought(client.put(b"last", b"1"))
            await made.stored(height)
            view = made.reader(4)
            assert view.earliest_height() > 2, "what was before is gone"
            assert await view.validators_of(height + 1) is not None
            assert await made.get(f"commit?height={height}", 4)
            shown = {str(await made.get(f"validators?height={height}", node)) for node in made.ids}
            assert len(shown) == 1
            assert (await made.get('abci_query?data="last"', 4))["response"]["log"] == "exists"

    run(main())


def test_objects_have_no_keys(tmp_path: Path) -> None:
    def machine(_: Path) -> NamedMachines:
        return NamedMachines({}, lambda why: why.encode())

    async def main() -> None:
        async with request_servers(tmp_path, machine=machine) as made:
            await made.brought(SignedTxs("test").opening())
            answer = (await made.get('abci_query?data="a"'))["response"]
            assert (answer["code"], answer["codespace"]) == (1, "quorate")
            assert "by its handle" in answer["log"]

    run(main())
