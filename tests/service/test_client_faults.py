"""The client when nodes die, hang, lie or are not there: what it raises is what its docstrings promise."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from quorate.machines.kv import commands as kv
from quorate.machines.kv.machine import KvMachine
from quorate.machines.state_machine import StateMachine
from quorate.runtime.handshake import Welcome
from quorate.service.client import aio
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, QuorateError, Refused, Unreachable
from quorate.service.client.pace import Pace
from quorate.service.client.sync import Client
from quorate.service.replica import Replica
from quorate.service.requests import Code, Command, Failure, Result, Status, decode_request, encode
from quorate.service.sessions import Sessions

from tests.ports import free_ports
from tests.runtime.servers import Servers, run, servers, until
from tests.wire.harness import framed


class Counting(StateMachine):
    """Adds one to a name, each time that it is told to."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}

    def apply(self, command: bytes) -> bytes:
        self.counts[command] = self.counts.get(command, 0) + 1
        return b"%d" % self.counts[command]

    def query(self, query: bytes) -> bytes:
        return msgspec.msgpack.encode(sorted(self.counts.items()))

    def snapshot(self) -> Any:
        raise NotImplementedError

    def restore(self, file: Any) -> Any:
        raise NotImplementedError


# --- nodes that die ---


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_commands_under_way_while_the_leader_dies_take_effect_exactly_once(tmp_path, how: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, machine=lambda _: Counting()) as cluster, cluster.client() as client:
            await client.command(b"warm")
            for turn in range(2):
                leader = await cluster.leader()
                calls = [asyncio.ensure_future(client.command(b"%d/%d" % (turn, n))) for n in range(2_500)]
                await until(lambda calls=calls: any(call.done() for call in calls))
                assert not all(call.done() for call in calls)
                await (cluster.stop if how == "stop" else cluster.crash)(leader)
                assert await asyncio.gather(*calls) == [b"1"] * 2_500
                await cluster.start()
            counts = dict(msgspec.msgpack.decode(await client.query(b"")))
            assert len(counts) == 5_001
            assert set(counts.values()) == {1}
            await until(lambda: len({s.replica.applied_index for s in cluster.running.values()}) == 1)
            assert len({s.machine.query(b"") for s in cluster.running.values()}) == 1

    run(main())


def test_commands_whose_answers_are_lost_are_not_applied_again(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, machine=lambda _: Counting()) as cluster, cluster.client() as client:
            await client.command(b"warm")
            leader = await cluster.leader()
            server = cluster.running[leader]
            for running in cluster.running.values():
                running.node.reply = lambda *_: None
            calls = [asyncio.ensure_future(client.command(b"%d" % n)) for n in range(50)]
            await until(lambda: len(server.machine.counts) == 51)
            await cluster.crash(leader)
            for running in cluster.running.values():
                del running.node.reply
            assert await asyncio.gather(*calls) == [b"1"] * 50
            assert {count for _, count in msgspec.msgpack.decode(await client.query(b""))} == {1}

    run(main())


def test_a_replica_that_forgets_what_it_applied_is_seen(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replica, "_once", lambda self, session, command: self.machine.apply(command.operation))
    with pytest.raises(AssertionError):
        test_commands_whose_answers_are_lost_are_not_applied_again(tmp_path)


def test_all_nodes_down_is_unreachable_and_when_they_are_back_all_is_well(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster, cluster.client(timeout_s=0.3) as client:
            await until_put(client)
            await cluster.stop()
            for call in (client.get(b"k"), client.get(b"k", serializable=True), client.range(b"a", b"b")):
                with pytest.raises((Unreachable, NoQuorum), match=r"within 0\.3 s"):
                    await call
            with pytest.raises(Unreachable, match="refused"):
                await client.put(b"k", b"new")
            assert all(isinstance(status, Unreachable) for _, status in await client.statuses())
            await cluster.start()
            await until_put(client)

    run(main())


async def until_put(client: AsyncClient) -> None:
    """Elections may take longer than a short time-out."""
    while True:
        try:
            await client.put(b"k", b"v")
            return
        except QuorateError:
            continue


def test_two_of_three_down_is_no_quorum_for_reads_and_unknown_for_commands_taken_in(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster, cluster.client() as patient:
            await patient.put(b"k", b"v")
            leader = await cluster.leader()
            async with cluster.client(leader, timeout_s=0.3) as client:
                await until_put(client)
                for node in cluster.ids:
                    if node != leader:
                        await cluster.crash(node)
                # The leader took it in before it noticed that it is alone.
                with pytest.raises(OutcomeUnknown, match="may still take effect"):
                    await client.put(b"k", b"perhaps")
                with pytest.raises(NoQuorum):
                    await client.get(b"k")
                await until(lambda: cluster.core(leader).leader is None)
                with pytest.raises(NoQuorum, match="no leader is known"):
                    await client.put(b"k", b"never")
                with pytest.raises(NoQuorum, match="no leader is known"):
                    await client.get(b"k")
                assert (await client.get(b"k", serializable=True)).value == b"v"
            await cluster.start()
            # What may still take effect has done so, or not; what had no quorum has not.
            assert (await patient.get(b"k")).value in (b"v", b"perhaps")

    run(main())


# --- sessions ---


def test_a_command_that_was_sent_once_to_a_session_that_has_expired_goes_into_another_one(tmp_path) -> None:
    async def main() -> None:
        cluster = Servers(tmp_path, 1)
        server = cluster.make(1)
        server.replica.sessions = Sessions(2)
        await server.start()
        cluster.running[1] = server
        async with cluster.client() as first, cluster.client() as second, cluster.client() as third:
            for client in (first, second, third):
                await client.put(b"k", b"1")
            await first.put(b"k", b"2")
            assert (await first.get(b"k")).version == 4
            await asyncio.gather(*(second.put(b"k", b"3") for _ in range(20)))
            assert (await first.get(b"k")).version == 24, "each took effect once"
        await until(lambda: len(server.replica.sessions) == 0)  # the two that are known were closed
        await cluster.stop()

    run(main())


# --- time-outs and close ---


def test_the_time_out_bounds_calls_that_wait_for_room_and_for_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred waves of room would take forty seconds, one after the other."""

    async def main() -> None:
        monkeypatch.setattr(aio, "PACE", Pace(pipeline_max=2))
        async with AsyncClient(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=0.2) as client:
            calls = [client.put(b"k", b"") for _ in range(200)] + [client.get(b"k") for _ in range(200)]
            async with asyncio.timeout(20):
                done = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in done} == {Unreachable}

    run(main())


def test_closing_ends_all_calls_under_way_and_refuses_later_ones(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(aio, "PACE", Pace(pipeline_max=8))
        async with servers(tmp_path) as cluster:
            client = cluster.client()
            async with client:
                await client.put(b"k", b"")
                for node in cluster.ids[1:]:
                    await cluster.crash(node)
                calls = [asyncio.ensure_future(client.put(b"k", b"v")) for _ in range(100)]
                calls += [asyncio.ensure_future(client.get(b"k")) for _ in range(100)]
                await asyncio.sleep(0)
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, QuorateError) for error in done), done
            with pytest.raises(Unreachable, match="closed"):
                await client.put(b"k", b"v")
            with pytest.raises(Unreachable, match="closed"):
                await client.get(b"k")
            await client.close()

    run(main())


def test_a_call_before_the_client_is_entered_says_so() -> None:
    async def main() -> None:
        with pytest.raises(Unreachable, match="async with"):
            await AsyncClient("127.0.0.1:1").get(b"k")

    run(main())


# --- endpoints and servers that are none ---


NONE = [
    "",
    " , ",
    [],
    "here",
    "here:",
    ":1",
    "here:0",
    "here:65536",
    "here:²",
    "h:1,x",
    "::1:7401",
    "a..b:7401",
    "\0:1",
]


@pytest.mark.parametrize("endpoints", NONE)
def test_endpoints_that_are_none_are_refused_at_once(endpoints: Any) -> None:
    with pytest.raises(ValueError, match="host:port"):
        AsyncClient(endpoints)


def test_a_name_that_no_resolver_knows_is_unreachable() -> None:
    async def main() -> None:
        async with AsyncClient("no.such.host.invalid:7401", timeout_s=0.3) as client:
            with pytest.raises(Unreachable):
                await client.get(b"k")
            [(_, status)] = await client.statuses()
            assert isinstance(status, Unreachable)

    run(main())


class Liar:
    """A server that greets, and then answers each frame as it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls = 0
        self.port = 0
        self.serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        self.serving.add(asyncio.current_task())
        try:
            await self._frame(reader)
            writer.write(framed(msgspec.msgpack.encode(Welcome(1, "raft", "test", 1))))
            while (answer := self.answer(await self._frame(reader))) is not None:
                writer.write(answer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "little"))


@asynccontextmanager
async def liar(answer: Any) -> AsyncIterator[Liar]:
    made = Liar(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.wait(made.serving)


def results(data: bytes) -> Any:
    """Answers every command and query with the same."""

    def answer(frame: bytes) -> bytes:
        request = decode_request(frame)
        if isinstance(request, Command) and b"open" in request.entry:
            return framed(encode(Result(request.id, b"1")))
        return framed(encode(Result(request.id, data)))

    return answer


@pytest.mark.parametrize("answer", [b"\xff" * 40, framed(b"\xc1"), framed(b"\x93\x01\x02\x03"), framed(b""), None])
def test_a_server_that_speaks_garbage_is_left_and_not_hammered(answer: bytes | None) -> None:
    async def main() -> None:
        async with liar(lambda _: answer) as server, AsyncClient(f"127.0.0.1:{server.port}", timeout_s=0.5) as client:
            with pytest.raises((NoQuorum, Unreachable)):
                await client.get(b"k")
            assert server.calls < 40  # a loop without back-off calls thousands of times
            with pytest.raises(QuorateError):
                await client.put(b"k", b"v")
            [(_, status)] = await client.statuses()
            assert isinstance(status, QuorateError)

    run(main())


@pytest.mark.parametrize("data", [b"", b"\xc1", b"garbage", kv.encode(kv.PutResult(1))[:-1], b"\x91" * 2000])
def test_a_result_that_is_none_is_refused(data: bytes) -> None:
    async def main() -> None:
        async with liar(results(data)) as server, AsyncClient(f"127.0.0.1:{server.port}", timeout_s=1.0) as client:
            with pytest.raises(Refused):
                await client.get(b"k")
            with pytest.raises(Refused):
                await client.put(b"k", b"v")

    run(main())


@pytest.mark.parametrize("data", [b"", b"x", b"-1", b"9" * 5000, b"9" * 30, b"\xff"])
def test_a_session_that_is_no_number_is_refused(data: bytes) -> None:
    async def main() -> None:
        def answer(frame: bytes) -> bytes:
            return framed(encode(Result(decode_request(frame).id, data)))

        async with liar(answer) as server, AsyncClient(f"127.0.0.1:{server.port}", timeout_s=1.0) as client:
            with pytest.raises(Refused, match="session"):
                await client.put(b"k", b"v")

    run(main())


@pytest.mark.parametrize(("is_cut_off", "expected"), [(True, OutcomeUnknown), (False, NoQuorum)])
def test_a_refusal_says_nothing_of_an_earlier_sending(is_cut_off: bool, expected: type[QuorateError]) -> None:
    """The first sending may have been taken in where the link broke; only without one did nothing happen."""
    sendings = 0

    def answer(frame: bytes) -> bytes | None:
        nonlocal sendings
        request = decode_request(frame)
        if not isinstance(request, Command):
            return b""
        if b"open" in request.entry:
            return framed(encode(Result(request.id, b"1")))
        sendings += 1
        if is_cut_off and sendings == 1:
            return None
        return framed(encode(Failure(request.id, Code.UNAVAILABLE, "no leader is known")))

    async def main() -> None:
        async with liar(answer) as server, AsyncClient(f"127.0.0.1:{server.port}", timeout_s=0.5) as client:
            with pytest.raises(expected, match="no leader is known"):
                await client.put(b"k", b"v")
        assert sendings > 1

    run(main())


def test_answers_that_nobody_asked_for_are_ignored(tmp_path) -> None:
    async def main() -> None:
        def answer(frame: bytes) -> bytes:
            request = decode_request(frame)
            other = Status(7, 1, "raft", "follower", 99, 0, 0, 0, 0)
            right = encode(Result(request.id, kv.encode(kv.RangeResult(1, [], 0, False))))
            return framed(encode(Result(10**6, b"x")), encode(other), right, right)

        async with liar(answer) as server, AsyncClient(f"127.0.0.1:{server.port}", timeout_s=5.0) as client:
            for _ in range(5):
                assert await client.get(b"k") is None

    run(main())


def test_a_bad_node_among_good_ones_costs_no_answer(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster, liar(lambda _: b"\xff" * 8) as bad:
            endpoints = [f"127.0.0.1:{bad.port}", *cluster.endpoints()]
            async with AsyncClient(endpoints, timeout_s=20.0) as client:
                for n in range(20):
                    await client.put(b"k", b"%d" % n)
                assert (await client.get(b"k")).version == 20

    run(main())


# --- the blocking client ---


def in_threads(count: int, work: Any) -> list[Any]:
    """Run ``work(number)`` in so many threads; what each returned or raised."""
    found: list[Any] = [None] * count

    def one(number: int) -> None:
        try:
            found[number] = work(number)
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a call never returned"
    return found


def test_many_threads_share_a_blocking_client(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster:
            with Client(cluster.endpoints(), timeout_s=20.0) as client:

                def work(number: int) -> int:
                    for n in range(20):
                        client.put(b"%d/%d" % (number, n), b"x")
                    return len(client.range(b"%d/" % number, b"%d0" % number).kvs)

                assert await asyncio.to_thread(in_threads, 12, work) == [20] * 12
                everything = await asyncio.to_thread(client.range, b"\0", b"\0", keys_only=True)
                assert everything.count == 240
                assert await asyncio.to_thread(client.delete, b"\0", b"\0") == 240
                assert len(await asyncio.to_thread(client.statuses)) == 3

    run(main())


def test_closing_the_blocking_client_ends_the_calls_of_all_threads() -> None:
    client = Client(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=30.0)
    started = threading.Barrier(9)

    def work(number: int) -> Any:
        started.wait()
        if number == 0:
            return client.close()
        return client.put(b"k", b"v") if number % 2 else client.get(b"k")

    def opened(number: int) -> Any:
        return work(number) if number < 8 else started.wait() and None

    first, *others, _ = in_threads(9, opened)
    assert first is None
    assert all(isinstance(error, QuorateError) for error in others), others
    client.close()
    with pytest.raises(Unreachable, match="closed"):
        client.get(b"k")


def test_the_store_of_a_node_is_its_own(tmp_path) -> None:
    machine = KvMachine.opened(tmp_path / "kv")
    assert machine.query(kv.encode(kv.Range(b"k"))) == kv.encode(kv.RangeResult(1, [], 0, False))
