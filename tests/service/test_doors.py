"""Two front doors on one node: the native port, and beside it one that speaks in lines, before the same Replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from quorate.machines.kv import commands as kv
from quorate.protocols.echo import EchoConfig
from quorate.service.requests import Apply, Command, Failure, OpenSession, Query, Response, Result, encode
from quorate.service.server import Server

from tests.doors import Line, LineCaller, LineDoor
from tests.ports import free_ports
from tests.runtime.servers import run, servers, until


class KvDoor(LineDoor):
    """``open NONCE``, ``put SESSION SERIAL KEY VALUE``, ``get KEY``; every request has the id 1."""

    def __init__(self, server: Server, port: int) -> None:
        super().__init__(port, self._line, self._closed_too, words)
        self._server = server
        self.left: list[LineCaller] = []

    def _line(self, caller: LineCaller, line: list[str]) -> None:
        what, *rest = line
        request: Command | Query
        if what == "open":
            request = Command(1, encode(OpenSession(int(rest[0]))))
        elif what == "put":
            put = kv.encode(kv.Put(rest[2].encode(), rest[3].encode()))
            request = Command(1, encode(Apply(int(rest[0]), int(rest[1]), 0, put)))
        else:
            request = Query(1, kv.encode(kv.Range(rest[0].encode())))
        self._server.replica.request(caller, request)
        self._server.node.wake()

    def _closed_too(self, caller: LineCaller) -> None:
        self._server.replica.closed(caller)
        self.left.append(caller)


def words(response: Response) -> str:
    if isinstance(response, Failure):
        return f"failed {response.code}"
    assert isinstance(response, Result)
    if response.data.isdigit():
        return f"opened {response.data.decode()}"
    result = kv.decode_result(response.data)
    if isinstance(result, kv.RangeResult):
        return "got " + (result.kvs[0].value.decode() if result.kvs else "")
    return "put"


@asynccontextmanager
async def lines(server: Server) -> AsyncIterator[KvDoor]:
    """Another front door."""
    door = KvDoor(server, *free_ports(1))
    await door.start()
    try:
        yield door
    finally:
        await door.stop()


async def opened(line: Line, nonce: int) -> str:
    while (answer := await line.ask("open", str(nonce)))[0] != "opened":
        assert answer[0] == "failed"  # no leader yet
    return answer[1]


def test_each_door_answers_its_own_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, 1) as cluster, lines(cluster.running[1]) as door, cluster.client() as native:
            count = 50

            async def by_lines(number: int) -> None:
                line = await Line.open(door.port)
                session = await opened(line, number)
                for serial in range(1, count + 1):
                    assert await line.ask("put", session, str(serial), f"line/{number}", str(serial)) == ["put"]
                    assert await line.ask("get", f"line/{number}") == ["got", str(serial)]
                assert await line.ask("put", session, "1", f"line/{number}", "again") == ["put"]  # it is known
                line.close()

            async def natively() -> None:
                for value in range(1, count + 1):
                    await native.put(b"native", b"%d" % value)
                    assert (await native.get(b"native")).value == b"%d" % value

            await asyncio.gather(by_lines(1), by_lines(2), natively())
            for key in ("line/1", "line/2", "native"):
                assert (await native.get(key.encode())).value == b"%d" % count
            line = await Line.open(door.port)
            assert await line.ask("get", "native") == ["got", str(count)]
            (caller,) = door.callers
            assert caller.principal.startswith("line 127.0.0.1:")
            assert all(caller.principal == "" for caller in cluster.running[1]._callers.values())

    run(main())


def test_clients_that_hang_up_at_either_door_are_forgotten_and_their_commands_apply(tmp_path: Path) -> None:
    """By echo, whose node 2 keeps what it is given until node 1, the sequencer, is there."""

    async def main() -> None:
        async with servers(tmp_path, 2, protocol="echo", options=EchoConfig()) as cluster:
            server = cluster.running[2]
            replica = server.replica
            async with lines(server) as door:
                line, stays = await Line.open(door.port), await Line.open(door.port)
                session = await opened(line, 7)
                async with cluster.client(2) as native:
                    await native.put(b"native", b"1")
                    await cluster.crash(1)
                    line.send("put", session, "1", "line", "2")
                    stays.send("put", session, "2", "stays", "2")
                    asked = asyncio.ensure_future(native.put(b"native", b"2"))
                    await until(lambda: len(replica._commands) == 3)
                    line.close()
                    await until(lambda: len(replica._commands) == 2)
                    assert len(door.left) == 1
                    asked.cancel()
                await until(lambda: len(replica._commands) == 1)  # the native client has hung up as well
                await cluster.start(1)
                assert await stays.read() == ["put"]
                assert replica._waiting_count() == 0
            async with cluster.client(2) as client:
                for key in (b"line", b"native", b"stays"):
                    assert (await client.get(key)).value == b"2"
            await cluster.converged()

    run(main())
