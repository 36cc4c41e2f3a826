"""CometBFT's RPC of a node that drives the built-in app: what is handed in, found, and still there after a restart."""

import asyncio
import errno
import json
import socket
import threading
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from quorate.ledger.comet.json_shapes import of_json
from quorate.ledger.comet.light_blocks import SIGNED_HEADER
from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.runtime.errors import WorkLeft
from quorate.service.comet import file_thread, rpc_needs
from quorate.service.comet.indexer import INDEX_FILE, ChainIndexer

from tests.runtime.servers import run, until, until_async
from tests.service.chain_servers import chain_servers
from tests.service.comet.rpc_nodes import RPCServers, aiohttp

TX = b"name=Ada"
HASH = sha256(TX).hexdigest().upper()


def rpc_servers(folder: Path, nodes: int = 1, **options: Any) -> Any:
    return chain_servers(folder, nodes, kind=RPCServers, **options)


ROUTES = (
    'abci_query?data="name"',
    "tx?hash=0x" + HASH + "&prove=true",
    "block?height={height}",
    "block_results?height={height}",
    "commit?height={height}",
    "validators?height={height}",
    "consensus_params?height={height}",
    "blockchain?minHeight=1&maxHeight={height}",
    "genesis",
)


async def answers(made: RPCServers, height: int) -> dict[str, Any]:
    await made.found("tx?hash=0x" + HASH)
    said = {route: await made.get(route.format(height=height)) for route in ROUTES}
    del said[ROUTES[0]]["response"]["height"]  # a query is answered by the last block, which may come at any time
    return said


def test_a_transaction_is_handed_in_and_found_after_a_restart_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with rpc_servers(tmp_path) as made:
            done = await made.get('broadcast_tx_commit?tx="name=Ada"')
            height = int(done["height"])
            assert (done["hash"], done["check_tx"]["code"], done["tx_result"]["code"]) == (HASH, 0, 0)
            await made.level(height + 1)  # the commit of the height is the one in the next block
            before = await answers(made, height)
            assert before[ROUTES[0]]["response"]["value"] == b64encode(b"Ada").decode()
            assert before[ROUTES[1]]["proof"]["root_hash"] == before[ROUTES[2]]["block"]["header"]["data_hash"]
            assert before[ROUTES[2]]["block"]["data"]["txs"] == [b64encode(TX).decode()]
            of_json(SIGNED_HEADER, before[ROUTES[4]]["signed_header"])
            assert (before[ROUTES[4]]["canonical"], before[ROUTES[5]]["total"]) == (True, "1")
            searched = await made.get(f"tx_search?query=\"tx.height={height} AND app.key='name'\"")
            assert [tx["hash"] for tx in searched["txs"]] == [HASH]
            await is_itself(made)
            await made.stop()
            await made.start()
            await made.level(height + 1)
            await until_async(lambda: has_run(made, height + 1))
            assert await answers(made, height) == before

    run(main())


async def has_run(made: RPCServers, height: int) -> bool:
    """Whether the app, which kept nothing, has run the blocks of the store again."""
    return int((await made.get("abci_info"))["response"].get("last_block_height", "0")) >= height


async def is_itself(made: RPCServers) -> None:
    status, genesis = await made.get("status"), (await made.get("genesis"))["genesis"]
    info, voter = status["node_info"], status["validator_info"]
    assert (info["network"], info["moniker"]) == ("test", "n1")
    assert info["id"] == voter["address"].lower(), "a node votes with the key that it proves itself with"
    assert info["other"]["rpc_address"] == f"tcp://{made.config.nodes[1].rpc}"
    assert (voter["voting_power"], status["sync_info"]["catching_up"]) == ("1", False)
    first = (await made.get("block?height=1"))["block"]["header"]
    assert (genesis["chain_id"], genesis["genesis_time"]) == (first["chain_id"], first["time"])
    assert [validator["address"] for validator in genesis["validators"]] == [voter["address"]]
    moment = (await made.get("consensus_state"))["round_state"]
    head = int(status["sync_info"]["latest_block_height"])
    assert moment["height/round/step"] == f"{head + 1}/0/1", "nothing waits for a block"
    assert moment["proposer"] == {"address": voter["address"], "index": 0}
    assert (await made.get("unconfirmed_txs"))["total"] == "0"
    assert int((await made.get("abci_info"))["response"]["last_block_height"]) == head
    assert (await made.get('check_tx?tx="nonsense"'))["code"] == 2


def test_several_nodes(tmp_path: Path) -> None:
    """Peers; validators of the next height at any moment; a node that is behind; a transaction of no bytes."""

    async def main() -> None:
        async with rpc_servers(tmp_path, 4) as made:
            await made.level(1)
            view = made.reader(2)
            asked = asyncio.create_task(ask_on(made, 3))
            for n in range(3):
                done = await made.get(f'broadcast_tx_commit?tx="k{n}=1"', node=2)
                assert done["tx_result"]["code"] == 0
            assert await asked >= 3
            net = await made.get("net_info", node=2)
            assert [peer["node_info"]["moniker"] for peer in net["peers"]] == ["n1", "n3", "n4"]
            status = await made.get("status", node=3)
            assert [peer["node_info"]["id"] for peer in net["peers"]][1] == status["node_info"]["id"]
            assert all(int(peer["connection_status"]["Duration"]) > 0 for peer in net["peers"])
            with pytest.raises(RPCRefusal, match="of no bytes"):
                await view.submit_tx(b"")
            await until(lambda: not view.is_catching_up())
            log = view.core.log
            log.others_next = {3: 1}
            assert view.is_catching_up(), "it has heard of two, itself among them"
            log.others_next = {1: log.last + 9, 4: 1}
            assert not view.is_catching_up(), "one may lie"
            log.others_next[3] = log.last + 9
            assert view.is_catching_up()

    async def ask_on(made: RPCServers, node: int) -> int:
        """Whoever follows the chain never hears that there are no validators."""
        height = 1
        while height < 5:
            height = int((await made.get("validators", node))["block_height"])
        return height

    run(main())


def test_only_what_is_new_is_told(tmp_path: Path) -> None:
    """After a restart all blocks come out of the core once more."""

    async def main() -> None:
        async with rpc_servers(tmp_path) as made:
            await made.get('broadcast_tx_commit?tx="a=1"')
            await made.level(2)
            view = made.reader(1)
            await made.stop()
            head = view.latest_height()
            server = made.make(1)
            made.running[1] = server
            told: list[int] = []
            server.view.listen(lambda decided: told.append(decided.block.header.height))
            await server.start()
            await made.get('broadcast_tx_commit?tx="b=2"')
            assert told
            assert told == list(range(head + 1, head + 1 + len(told)))

    run(main())


def test_a_port_that_is_taken_ends_the_start_with_words(tmp_path: Path) -> None:
    async def main() -> None:
        made = RPCServers(tmp_path, 1, "kvstore")
        port = int(str(made.config.nodes[1].rpc).rpartition(":")[2])
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # another test may have had it just now
            taken.bind(("127.0.0.1", port))
            taken.listen()
            with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{port}: .*another program") as raised:
                await made.start()
            assert raised.value.errno == errno.EADDRINUSE
        await made.start()
        await made.get("health")
        await made.stop()

    run(main())


def test_without_what_the_port_needs_a_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rpc_needs, "NEEDS", "no_such_module")
    caplog.set_level("INFO", "quorate.rpc")

    async def main() -> None:
        async with rpc_servers(tmp_path) as made:
            await made.level(1)
            assert not (tmp_path / "n1" / INDEX_FILE).exists()

    run(main())
    (record,) = [record for record in caplog.records if record.name == "quorate.rpc"]
    assert "pip install 'quorate[comet]'" in record.message
    assert record.levelname == "INFO"


def test_an_index_that_is_damaged_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rpc_servers(tmp_path) as made:
            await made.get('broadcast_tx_commit?tx="name=Ada"')
            await made.stop()
            for file in (tmp_path / "n1").glob(INDEX_FILE + "*"):
                file.write_bytes(b"not a database, surely" * 1000)
            await made.start()
            async with aiohttp.ClientSession() as session, session.get(made.url(1, "tx?hash=0x" + HASH)) as answer:
                assert "indexing is disabled" in json.dumps(await answer.json())
            await made.stop()
            for file in (tmp_path / "n1").glob(INDEX_FILE + "*"):
                file.unlink()
            await made.start()
            assert (await made.found("tx?hash=0x" + HASH))["hash"] == HASH

    run(main())
    assert "remove the file" in caplog.text


def test_an_index_on_a_disk_that_hangs_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_thread, "STOP_S_MAX", 1.0)
    hangs, answers_again = threading.Event(), threading.Event()

    def add(*_: Any) -> None:
        hangs.set()
        answers_again.wait()

    monkeypatch.setattr(ChainIndexer, "_add", add)

    async def main() -> None:
        async with rpc_servers(tmp_path) as made:
            await until(hangs.is_set)
            server = made.running[1]
            try:
                with pytest.raises(WorkLeft, match=r"index\.sqlite was left as it is"):
                    await server.stop()
                await server.wait()
                assert not server.store._is_open, "the rest stopped in order"
            finally:
                answers_again.set()

    run(main())
