"""The asynchronous client against real nodes, when all is well or nearly so."""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from quorate.machines.kv import commands as kv
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import Refused, TooLarge, Unreachable
from quorate.service.requests import COMMAND_BYTES_MAX, Status

from tests.ports import free_ports
from tests.runtime.servers import run, servers, until
from tests.storage.helpers import MEMORY


def test_the_store_through_a_client(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster, cluster.client() as client:
            assert await client.get(b"a") is None
            first = await client.put(b"a", b"1")
            assert await client.put(b"a", b"2") == first + 1
            assert (await client.get(b"a")).value == b"2"
            assert (await client.range(b"a", revision=first)).kvs[0].value == b"1"
            await client.put(b"b", b"3")
            assert [item.key for item in (await client.range(b"a", b"c", keys_only=True)).kvs] == [b"a", b"b"]
            compare = kv.Compare(b"a", kv.Target.VALUE, kv.Relation.EQUAL, b"2")
            done = await client.txn([compare], [kv.Put(b"a", b"4")], [kv.Put(b"a", b"5")])
            assert done.succeeded
            assert not (await client.txn([compare], [], [kv.DeleteRange(b"b")])).succeeded
            assert await client.delete(b"a", b"c") == 1
            await client.compact(first + 2)
            with pytest.raises(Refused, match="compacted"):
                await client.range(b"a", revision=first)
            with pytest.raises(Refused, match="key is not provided"):
                await client.put(b"", b"")
            await cluster.converged()

    run(main())


def test_five_thousand_puts_at_once_take_effect_in_order_of_nobody_and_once_each(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster, cluster.client() as client:
            before = await client.put(b"first", b"")
            revisions = await asyncio.gather(*(client.put(b"k%05d" % n, b"%d" % n) for n in range(5_000)))
            assert sorted(revisions) == list(range(before + 1, before + 5_001))
            found = await client.range(b"k", kv.prefix_end(b"k"))
            assert [(item.key, item.value, item.version) for item in found.kvs] == [
                (b"k%05d" % n, b"%d" % n, 1) for n in range(5_000)
            ]
            await cluster.converged()

    run(main())


def test_a_client_of_a_follower_alone_is_served(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster:
            leader = await cluster.leader()
            follower = next(node for node in cluster.ids if node != leader)
            async with cluster.client(follower) as client:
                await asyncio.gather(*(client.put(b"%d" % n, b"x") for n in range(300)))
                assert len((await client.range(b"0", b"\0")).kvs) == 300
                assert (await client.get(b"7", serializable=True)).value == b"x"

    run(main())


@pytest.mark.parametrize("order", [0, 1])
def test_a_dead_endpoint_and_a_leader_that_is_not_listed_do_not_keep_a_client_moving(tmp_path, order: int) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster:
            leader = await cluster.leader()
            follower = next(node for node in cluster.ids if node != leader)
            listed = [*cluster.endpoints(follower), f"127.0.0.1:{free_ports(1)[0]}"]
            async with AsyncClient(listed[::-1] if order else listed, timeout_s=5.0) as client:
                for n in range(20):
                    await client.put(b"k", b"%d" % n)
                assert (await client.get(b"k")).version == 20

    run(main())


def test_statuses_tell_of_each_endpoint_what_it_says_or_why_it_says_nothing(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster:
            leader = await cluster.leader()
            gone = next(node for node in cluster.ids if node != leader)
            await cluster.stop(gone)
            async with cluster.client() as client:
                found = await client.statuses()
            assert [address for address, _ in found] == cluster.endpoints()
            for node, (_, status) in zip(cluster.ids, found, strict=True):
                if node == gone:
                    assert isinstance(status, Unreachable)
                    assert "refused" in str(status)
                else:
                    assert isinstance(status, Status)
                    assert (status.node, status.leader, status.protocol, status.stalled) == (node, leader, "raft", None)
                    assert status.role == ("leader" if node == leader else "follower")

    run(main())


def test_what_is_too_large_is_refused_and_the_client_goes_on(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes=1) as cluster, cluster.client() as client:
            with pytest.raises(TooLarge, match=f"the limit is {COMMAND_BYTES_MAX}"):
                await client.put(b"k", bytes(COMMAND_BYTES_MAX + 1))
            with pytest.raises(TooLarge):
                await client.query(bytes(COMMAND_BYTES_MAX + 1))
            room = COMMAND_BYTES_MAX - len(kv.encode(kv.Put(b"k", bytes(70_000)))) + 70_000
            for name in (b"1", b"2"):
                await client.put(name, bytes(room))
            with pytest.raises(TooLarge, match="ask for less"):
                await client.range(b"1", b"3")
            assert len((await client.get(b"1")).value) == room
            # A command whose answer would be too large changes nothing.
            with pytest.raises(TooLarge, match="ask for less") as caught:
                await client.txn([], [kv.Put(b"k", b"done"), kv.Range(b"1", b"3")])
            assert not caught.value.took_effect
            assert await client.get(b"k") is None

    run(main())


def test_more_keys_than_a_command_deletes_are_deleted_in_pages(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes=1) as cluster, cluster.client() as client:
            for first in range(0, 4200, 120):
                puts: list[kv.Operation] = [kv.Put(b"k%05d" % (first + n), b"") for n in range(120)]
                await client.txn([], puts)
            with pytest.raises(TooLarge, match="a page of keys at a time") as caught:
                await client.delete(b"k", b"l")
            assert not caught.value.took_effect
            assert await client.delete(b"k", b"k00100", in_pages=True) == 100
            assert await client.delete(b"k", b"l", in_pages=True) == 4100
            assert (await client.range(b"k", b"l")).count == 0
            assert await client.delete(b"k", in_pages=True) == 0

    run(main())


def test_many_large_commands_at_a_follower_fit_no_single_frame_and_are_all_taken() -> None:
    async def main(folder: Path) -> None:
        async with servers(folder) as cluster, AsyncExitStack() as stack:
            leader = await cluster.leader()
            follower = next(node for node in cluster.ids if node != leader)
            clients = [await stack.enter_async_context(cluster.client(follower)) for _ in range(13)]
            for client in clients:
                await client.put(b"warm", b"")
            await asyncio.gather(*(client.put(b"k%d" % n, bytes(1_400_000)) for n, client in enumerate(clients)))
            assert cluster.alive()

    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        run(main(Path(name)))


# --- calls that are given up ---


def test_a_cancelled_call_leaves_the_others_alone(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster, cluster.client() as client:
            await client.put(b"k", b"")
            calls = [asyncio.ensure_future(client.put(b"k%d" % n, b"x")) for n in range(100)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in done[::2])
            assert all(isinstance(result, int) for result in done[1::2])
            await until(lambda: not client.core.single.waiting)
            assert not client.core.session._outstanding
            assert await client.put(b"k", b"again")

    run(main())


def test_a_call_cancelled_while_the_session_opens_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with AsyncClient(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=0.2) as client:
            call = asyncio.ensure_future(client.put(b"k", b"v"))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not client.core.single.waiting)
            with pytest.raises(Unreachable):
                await client.put(b"k", b"v")

    run(main())
