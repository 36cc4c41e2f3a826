"""A ledger on real processes that are killed: no payment is lost or made twice, and every node has the same chain."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from quorate.ledger.genesis import Genesis
from quorate.ledger.header import sha256d
from quorate.machines.chain.chain_messages import Head
from quorate.protocols import REGISTRY
from quorate.service.client.errors import QuorateError
from quorate.service.ledger.genesis_table import genesis_lines
from quorate.service.ledger.ledger_client import LedgerClient, NotThere

from tests.cluster import LocalCluster, until
from tests.ledger.payers import COLLECTOR, FUNDS, PAYERS

TO = bytes(range(20))
SNAPSHOTS = "[raft]\nsnapshot_entries = 40\nsnapshot_bytes_min = 4096\nsnapshot_bytes_max = 8192\nkeep_entries = 10\n"


def genesis_for(folder: Path, step_s: int = 2**32 - 1) -> Genesis:
    accounts = tuple(sorted((payer.address, FUNDS) for payer in PAYERS))
    return Genesis(f"test-{folder.name}", 1_700_000_000, COLLECTOR, accounts, 7, 1, step_s)


def cluster_with(folder: Path, genesis: Genesis, protocol: str = "raft", options: str = "") -> LocalCluster:
    nodes = REGISTRY[protocol].traits.fault_model.nodes(1)
    return LocalCluster(folder, nodes, protocol, options + "\n" + "\n".join(genesis_lines(genesis)))


async def pay(client: LedgerClient, genesis: Genesis, number: int, stop: asyncio.Event) -> list[bytes]:
    """Payments of one payer, one after the other, each until the chain has it; their ids."""
    paid: list[bytes] = []
    payer = PAYERS[number]
    while not stop.is_set():
        raw = payer.raw(genesis.id, len(paid), TO, 1, 1)
        id = sha256d(raw)
        while True:
            with contextlib.suppress(QuorateError):
                result = await client.send([raw])
                if not result.skipped or "has it already" in result.skipped[0][1]:
                    paid.append(id)
                    break
                raise AssertionError(result)
    return paid


async def heads(cluster: LocalCluster) -> set[tuple[int, bytes]]:
    found = set()
    for endpoint in cluster.endpoints:
        async with LedgerClient([endpoint], timeout_s=10, faults=0) as client:
            head: Head = await client.head(serializable=True)
            found.add((head.block.payload.height, head.block.header.id))
    return found


async def has_all(client: LedgerClient) -> bool:
    """Not where the node that answers was so far behind that its blocks begin with those of a snapshot."""
    try:
        await client.block(1)
    except NotThere:
        return False
    return True


async def check(cluster: LocalCluster, genesis: Genesis, paid: list[list[bytes]]) -> None:
    async with LedgerClient(cluster.endpoints, timeout_s=60) as client:
        head = await client.head()
        height = head.block.payload.height
        addresses = [TO, COLLECTOR, *(payer.address for payer in PAYERS)]
        accounts = [(await client.account(address)).proof.account.account for address in addresses]
        count = sum(map(len, paid))
        assert sum(account.balance for account in accounts) == genesis.supply + 7 * height == head.supply
        assert accounts[0].balance == count
        assert accounts[1].balance == count + 7 * height
        for ids in paid:
            for id in (*(ids[:3] if await has_all(client) else ()), *ids[-3:]):
                found = await client.payment(id)
                assert (await client.block(found.proof.block.payload.height)).id == found.id
        with pytest.raises(NotThere):
            await client.payment(bytes(32))

    def are_equal() -> bool:
        return len(asyncio.run(heads(cluster))) == 1

    await asyncio.to_thread(until, are_equal, "equal heads")


async def under_kills(cluster: LocalCluster, genesis: Genesis) -> None:
    stop = asyncio.Event()
    async with LedgerClient(cluster.endpoints, timeout_s=60) as client:
        payers = [asyncio.create_task(pay(client, genesis, number, stop)) for number in range(4)]
        for node in cluster.ids:
            await asyncio.sleep(1)
            cluster.kill(node)
            await asyncio.sleep(1)
            await asyncio.to_thread(cluster.start_node, node)
        await asyncio.sleep(1)
        stop.set()
        paid = await asyncio.gather(*payers)
    assert all(paid)
    await check(cluster, genesis, paid)
    for node in cluster.ids:
        cluster.kill(node)
    await asyncio.to_thread(cluster.start)
    await check(cluster, genesis, paid)
    stopped = await asyncio.to_thread(cluster.stop)
    assert set(stopped.values()) == {0}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("options", ["", SNAPSHOTS], ids=["a whole log", "snapshots"])
def test_nodes_that_are_killed_come_to_equal_heads_and_the_exact_supply(options: str, tmp_path: Path) -> None:
    genesis = genesis_for(tmp_path)
    with cluster_with(tmp_path, genesis, options=options) as cluster:
        asyncio.run(under_kills(cluster, genesis))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_same_where_nodes_may_lie(tmp_path: Path) -> None:
    """Clients count equal answers, so proofs and results must be the same at every node."""
    genesis = genesis_for(tmp_path, step_s=7200)

    async def run(cluster: LocalCluster) -> None:
        stop = asyncio.Event()
        async with LedgerClient(cluster.endpoints, timeout_s=60) as client:
            payers = [asyncio.create_task(pay(client, genesis, number, stop)) for number in range(3)]
            await asyncio.sleep(2)
            cluster.kill(4)
            await asyncio.sleep(1)
            await asyncio.to_thread(cluster.start_node, 4)
            stop.set()
            paid = await asyncio.gather(*payers)
        await check(cluster, genesis, paid)

    with cluster_with(tmp_path, genesis, "pbft") as cluster:
        asyncio.run(run(cluster))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", list(REGISTRY))
def test_every_protocol_orders_payments(protocol: str, tmp_path: Path) -> None:
    genesis = genesis_for(tmp_path, step_s=7200)

    async def run(cluster: LocalCluster) -> None:
        async with LedgerClient(cluster.endpoints, timeout_s=60) as client:
            result = await client.send([PAYERS[0].raw(genesis.id, nonce, TO, 1, 1) for nonce in range(3)])
            assert (result.height, result.skipped) == (1, ())
            assert (await client.account(TO)).proof.account.account.balance == 3

    with cluster_with(tmp_path, genesis, protocol) as cluster:
        asyncio.run(run(cluster))
