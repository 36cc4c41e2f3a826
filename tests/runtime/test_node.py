"""A Node over its life: what it finds again at a restart, what it refuses, and how it ends."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from quorate.kernel import Began, seed_in
from quorate.machines.kv import commands as kv
from quorate.parts.log.replicated import Decided
from quorate.protocols.raft import Raft, RaftConfig
from quorate.runtime import node as module
from quorate.runtime.codec import Codec
from quorate.runtime.errors import JournalLocked, SnapshotCorrupt, SnapshotSpoiled, WrongIdentity
from quorate.runtime.files import Identity
from quorate.runtime.jobs import Jobs
from quorate.runtime.journal import Journal
from quorate.service.client.aio import AsyncClient
from quorate.service.replica import Replica
from quorate.service.server import Server

from tests.runtime.servers import FAST, Servers, run, servers, until

SNAPSHOTS = msgspec.structs.replace(FAST, snapshot_entries=200, keep_entries=20, chunk_bytes=1000)


async def put_many(cluster: Servers, count: int, prefix: bytes = b"k") -> None:
    async with cluster.client() as client:
        await asyncio.gather(*(client.put(b"%b%d" % (prefix, n % 97), b"%d" % n) for n in range(count)))


def files(cluster: Servers, node: int, kind: str) -> list[Path]:
    return sorted(path for path in (cluster.folder / f"n{node}" / kind).rglob("*") if path.is_file())


# --- restart ---


@pytest.mark.parametrize("options", [FAST, SNAPSHOTS], ids=["journal alone", "with snapshots"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_restart_finds_everything_again(tmp_path, options: RaftConfig, nodes: int) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes, options=options) as cluster:
            await put_many(cluster, 3_000)
            await cluster.converged()
            before = {node: cluster.state(node) for node in cluster.ids}
            term = max(cluster.core(node).term for node in cluster.ids)
            for _ in range(2):
                await cluster.stop()
                await cluster.start()
                await cluster.leader()
                await until(lambda: all(cluster.state(node)[1] == before[node][1] for node in cluster.ids))
            assert min(cluster.core(node).term for node in cluster.ids) >= term
            await put_many(cluster, 300, b"more")
            await cluster.converged()

    run(main())


def test_a_journal_is_replaced_by_a_checkpoint_and_still_says_everything(
    tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quorate")
    monkeypatch.setattr(module, "CHECKPOINT_AFTER_BYTES", 10_000)

    async def main() -> None:
        async with servers(tmp_path, options=SNAPSHOTS) as cluster:
            for _ in range(5):
                await put_many(cluster, 400)
            await cluster.converged()
            before = cluster.state(1)[1]
            assert caplog.text.count("checkpoint") >= 3
            assert all(cluster.running[node].node._journal.size_bytes < 100_000 for node in cluster.ids)
            await cluster.stop()
            assert all(len(files(cluster, node, "snapshots/marks-0")) <= 2 for node in cluster.ids)
            assert all(len(files(cluster, node, "snapshots")) <= 4 for node in cluster.ids)
            await cluster.start()
            await cluster.leader()
            await until(lambda: all(cluster.state(node)[1] == before for node in cluster.ids))

    run(main())


def test_a_node_that_was_away_longer_than_the_log_gets_a_snapshot_and_converges(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, options=SNAPSHOTS) as cluster:
            await put_many(cluster, 100)
            leader = await cluster.leader()
            away = next(node for node in cluster.ids if node != leader)
            await cluster.crash(away)
            for turn in range(4):
                await put_many(cluster, 300, b"%d/" % turn)
            assert cluster.core(leader).log.base_index > 200
            await cluster.start(away)
            await until(lambda: cluster.core(away).snapshot_index > 200)
            await put_many(cluster, 50, b"after")
            await cluster.converged()
            await cluster.stop(away)
            await cluster.start(away)
            await cluster.converged()

    run(main())


def test_each_start_is_on_record_and_counts_for_nothing_at_the_next(tmp_path) -> None:
    """By its seed and its inputs a run could be done again; a node that recovers by records has no use for it."""

    async def main() -> None:
        async with servers(tmp_path, 1) as cluster:
            for life in range(3):
                await put_many(cluster, 10, b"%d/" % life)
                before = cluster.state(1)[1]
                await cluster.stop()
                await cluster.start()
                await until(lambda before=before: cluster.state(1)[1] == before)
            await cluster.stop()
        journal, frames = Journal.open(tmp_path / "n1" / "journal", identity=Identity("test", 1))
        journal.close()
        codec = Codec(Raft)
        records = [record for frame in frames for record in codec.decode_records(frame)]
        began = [record.value for record in records if type(record.value) is Began]
        assert len(began) == len({one.seed for one in began}) == 4
        assert records[0].value == began[0]
        assert seed_in(records) == b""

    run(main())


# --- what it refuses ---


def test_a_corrupt_snapshot_ends_the_node_with_what_to_do(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1, options=SNAPSHOTS) as cluster:
            await put_many(cluster, 500)
            await until(lambda: cluster.core(1).snapshot_index)
            await cluster.stop()
            for path in files(cluster, 1, "snapshots"):
                data = bytearray(path.read_bytes())
                data[-10] ^= 1
                path.write_bytes(data)
            server = cluster.make(1)
            await server.start()
            with pytest.raises(SnapshotCorrupt, match="the digest of the payload is wrong"):
                await server.wait()
            await server.stop()
            with pytest.raises(SnapshotSpoiled, match=r"was found corrupt\. It is kept as snap"):
                await cluster.make(1).start()

    run(main())


def test_a_second_server_on_one_folder_is_refused_and_does_not_hurt_the_first(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1, options=SNAPSHOTS) as cluster:
            await put_many(cluster, 100)
            for _ in range(2):
                second = cluster.make(1)
                with pytest.raises(JournalLocked, match="one folder serves one running node"):
                    await second.start()
                await second.stop()
            await put_many(cluster, 500)
            before = cluster.state(1)[1]
            await cluster.stop()
            await cluster.start()
            await until(lambda: cluster.state(1)[1] == before)

    run(main())


@pytest.mark.parametrize("changes", [{"cluster": "another"}, {"node": 2}], ids=["cluster", "node"])
def test_the_folder_of_another_is_refused(tmp_path, changes: dict) -> None:
    async def main() -> None:
        async with servers(tmp_path, 3, start=False) as cluster:
            first = cluster.make(1)
            await first.start()
            await first.stop()
            other = cluster.make(**{"node": 1, "data": tmp_path / "n1", **changes})
            with pytest.raises(WrongIdentity):
                await other.start()
            again = cluster.make(1)
            await again.start()
            await again.stop()

    run(main())


@pytest.mark.parametrize("port", ["peer", "client"])
def test_a_port_that_is_taken_fails_the_start_and_leaves_the_folder_free(tmp_path, port: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1, start=False) as cluster:
            host, _, number = getattr(cluster.members[1], port).rpartition(":")
            taken = await asyncio.start_server(lambda *_: None, host, int(number))
            server = cluster.make(1)
            with pytest.raises(OSError, match="in use"):
                await server.start()
            taken.close()
            await taken.wait_closed()
            await cluster.start()
            await put_many(cluster, 5)

    run(main())


# --- our own mistakes ---


class Broken(Exception):
    """Ours."""


@pytest.mark.parametrize("nodes", [1, 3])
def test_an_app_that_raises_ends_its_node_with_that_error(tmp_path, monkeypatch, nodes: int) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes) as cluster:
            await put_many(cluster, 10)
            leader = await cluster.leader()
            victim = cluster.running[leader]
            original = Replica.output

            def output(self: Replica, value: object, path: object = ()) -> None:
                if self is victim.replica and isinstance(value, Decided):
                    raise Broken("planted")
                original(self, value)

            monkeypatch.setattr(Replica, "output", output)
            async with cluster.client() as client:
                call = asyncio.ensure_future(client.put(b"k", b"v"))
                with pytest.raises(Broken, match="planted"):
                    await victim.wait()
                await cluster.stop(leader)
                if nodes == 3:
                    await call
                call.cancel()

    run(main())


@pytest.mark.parametrize("verb", ["submit", "on_timer"])
def test_a_core_that_raises_ends_its_node_with_that_error(tmp_path, monkeypatch, verb: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1) as cluster:
            await put_many(cluster, 10)

            def broken(*_: object) -> None:
                raise Broken("planted")

            monkeypatch.setattr(Raft, verb, broken)
            server = cluster.running[1]
            server.node.submit([b"x"])
            with pytest.raises(Broken, match="planted"):
                await server.wait()

    run(main())


async def start_and_wait(server: Server) -> None:
    """To its end, whenever that comes."""
    await server.start()
    await server.wait()


@pytest.mark.parametrize("what", ["start", "output"])
def test_what_raises_at_the_start_leaves_the_folder_free(tmp_path, monkeypatch, what: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1, start=False) as cluster:
            server = cluster.make(1)

            def broken(*_: object) -> None:
                raise Broken("planted")

            with monkeypatch.context() as patch:
                patch.setattr(*((Raft, "start") if what == "start" else (Replica, "output")), broken)
                with pytest.raises(Broken):
                    await start_and_wait(server)
                await server.stop()
            await cluster.start()
            await put_many(cluster, 5)

    run(main())


# --- the end ---


def test_a_stop_is_orderly_and_may_be_repeated(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1) as cluster:
            await put_many(cluster, 50)
            server = cluster.running[1]
            waiting = asyncio.ensure_future(server.wait())
            server.node.submit([b"queued"])
            await server.stop()
            await waiting
            await server.wait()
            await server.stop()
            server.node.wake()
            server.node.submit([b"too late"])
            await asyncio.sleep(0)

    run(main())


def test_a_server_that_was_never_started_may_be_stopped(tmp_path) -> None:
    async def main() -> None:
        await Servers(tmp_path, 1).make(1).stop()

    run(main())


def test_a_stop_while_a_snapshot_loads_leaves_no_task_that_failed(tmp_path, monkeypatch) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1, options=SNAPSHOTS) as cluster:
            await put_many(cluster, 500)
            await until(lambda: cluster.core(1).snapshot_index)
            await cluster.stop()
            applied: list[object] = []
            may_load = threading.Event()
            restore = Replica.restore

            def late(self: Replica, file: BinaryIO, path: object) -> Callable[[], None]:
                assert may_load.wait(30)
                return restore(self, file)

            monkeypatch.setattr(Replica, "output", lambda self, value, path: applied.append(value))
            monkeypatch.setattr(Replica, "restore", late)
            server = cluster.make(1)
            await server.start()
            await until(lambda: server.node.shell._loading)  # and everything waits for the snapshot
            assert not applied
            asyncio.get_running_loop().call_later(0.05, may_load.set)
            (loading,) = server.node._loads
            await server.stop()
            await loading
            assert not applied
            assert server.replica.applied_index == 0

    run(main())


def test_a_read_of_the_store_agrees_on_all_nodes(tmp_path) -> None:
    """A digest that saw only what one node holds would let the tests above pass."""

    async def main() -> None:
        async with servers(tmp_path) as cluster:
            await put_many(cluster, 20)
            await cluster.converged()
            odd = cluster.running[2]
            odd.machine.apply(kv.encode(kv.Put(b"odd", b"one")))
            with pytest.raises(AssertionError):
                await cluster.converged()

    run(main())


def test_while_a_snapshot_loads_a_serializable_read_waits(tmp_path, monkeypatch) -> None:
    """The state is empty then; an answer from it would say that the key is not there."""

    async def main() -> None:
        async with servers(tmp_path, nodes=1, options=SNAPSHOTS) as cluster:
            async with AsyncClient(cluster.endpoints(1)) as client:
                for number in range(300):
                    await client.put(b"key", b"%d" % number)
            await until(lambda: cluster.core(1).snapshot_index)
            await cluster.stop(1)
            may_load = asyncio.Event()
            load = Jobs.load

            async def late(jobs: Jobs, index: int, path: object):
                await may_load.wait()
                return await load(jobs, index)

            monkeypatch.setattr(Jobs, "load", late)
            await cluster.start(1)
            async with AsyncClient(cluster.endpoints(1), timeout_s=20.0) as client:
                reading = asyncio.ensure_future(client.get(b"key", serializable=True))
                await until(lambda: cluster.running[1].listener.counters.received_frames >= 2)
                may_load.set()
                assert await reading is not None

    run(main())
