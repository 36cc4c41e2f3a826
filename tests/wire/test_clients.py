"""Clients: welcome or refused, read from while they behave, cut off when they do not take their replies."""

import asyncio

import msgspec
import pytest

from quorate.runtime.framing import FrameTooLarge
from quorate.runtime.greeting import Dialled
from quorate.runtime.handshake import Refused, Welcome, client_hello
from quorate.runtime.listener import ClientLimits

from tests.wire.harness import call, clients, framed, until

CLIENT = {"role": "client", "protocol": "", "cluster": "", "node": None, "target": None}


def test_a_client_is_welcomed_served_and_missed(run) -> None:
    async def main() -> None:
        async with clients() as made:
            caller = await call(made.listener.port)
            assert await caller.greet(**CLIENT) == Welcome(1, "raft", "c", 0)
            await caller.write(framed(b"get", b"put"))
            await until(lambda: made.requests == [b"get", b"put"])
            (connection,) = made.connections
            assert connection.unanswered == 2
            connection.reply(b"got")
            connection.reply(b"done")
            connection.done(2)
            assert [await caller.frame(), await caller.frame()] == [b"got", b"done"]
            assert connection.unanswered == 0
            caller.close()
            await until(lambda: made.lost)
            connection.reply(b"to nobody")
            connection.done()
            assert made.listener.connections == set()
            counters = made.listener.counters
            assert (counters.accepts, counters.received_frames, counters.sent_frames) == (1, 2, 2)

    run(main())


def test_a_peer_on_the_client_port_is_told_so(run) -> None:
    async def main() -> None:
        async with clients() as made:
            caller = await call(made.listener.port)
            refused = await caller.greet()
            assert isinstance(refused, Refused)
            assert "this is the client port, you are a peer" in refused.why
            assert made.connections == []
            assert made.listener.counters.refusals == 1
            caller.close()

    run(main())


def test_one_client_too_many_is_refused_until_one_leaves(run) -> None:
    async def main() -> None:
        async with clients(ClientLimits(connections_max=2)) as made:
            callers = [await call(made.listener.port) for _ in range(3)]
            answers = [await caller.greet(**CLIENT) for caller in callers]
            assert [type(answer) for answer in answers] == [Welcome, Welcome, Refused]
            assert "serves 2 clients already" in answers[2].why
            callers[0].close()
            await until(lambda: len(made.listener.clients) == 1)
            another = await call(made.listener.port)
            assert isinstance(await another.greet(**CLIENT), Welcome)
            for caller in [*callers, another]:
                caller.close()

    run(main())


def test_a_flood_of_callers_is_cut_off_unheard(run) -> None:
    async def main() -> None:
        async with clients(ClientLimits(connections_max=2, refusals_max=2)) as made:
            callers = [await call(made.listener.port) for _ in range(10)]
            await until(lambda: sum(caller.reader.at_eof() for caller in callers) == 6)
            for caller in callers:
                caller.close()

    run(main())


@pytest.mark.parametrize(
    ("limits", "held"),
    [
        (ClientLimits(unanswered_max=10), 10),
        (ClientLimits(unanswered_bytes_max=10 << 10), 10),
    ],
    ids=["requests", "bytes"],
)
def test_too_many_unanswered_requests_stop_the_reading(run, limits: ClientLimits, held: int) -> None:
    """The reading stops at the limit, but for what the same read brought, and goes on at half of it."""

    async def main() -> None:
        async with clients(limits) as made:
            caller = await call(made.listener.port)
            await caller.greet(**CLIENT)
            connection = made.connections[0]
            for number in range(held):
                await caller.write(framed(b"x" * 1024))
                await until(lambda n=number: len(made.requests) == n + 1)
            assert connection._reading
            await caller.write(framed(b"x" * 1024))
            await until(lambda: len(made.requests) == held + 1)
            assert not connection._reading
            await caller.write(framed(b"late"))
            while connection.unanswered > held // 2 + 1:
                connection.done()
                await asyncio.sleep(0)
                assert not connection._reading
            assert len(made.requests) == held + 1
            connection.done()
            await until(lambda: made.requests[-1] == b"late")
            connection.done(1000)  # more than there are is no error
            assert connection.unanswered == connection._unanswered_bytes == 0
            caller.close()

    run(main())


def test_a_client_that_reads_no_replies_is_not_read_from_and_then_cut_off(run, caplog) -> None:
    async def main() -> None:
        async with clients(ClientLimits(backlog_bytes_max=4 << 20)) as made:
            lazy, other = await call(made.listener.port), await call(made.listener.port)
            await lazy.greet(**CLIENT)
            await other.greet(**CLIENT)
            connection, busy = made.connections
            lazy.reader._transport.pause_reading()
            most = 0
            was_read_from = True
            while connection.is_open:
                connection.reply(b"x" * (1 << 18))
                await asyncio.sleep(0)
                most = max(most, connection.backlog_bytes)
                was_read_from = connection._reading
            assert most <= 4 << 20
            assert not was_read_from
            busy.reply(b"still here")
            assert await other.frame() == b"still here"
            await until(lambda: made.lost)
            assert "does not read its replies" in made.lost[0]
            assert made.listener.counters.cuts == 1
            lazy.close()
            other.close()

    run(main())
    assert any("does not read its replies" in line for line in caplog.messages)


def test_a_reply_that_is_too_large_is_the_nodes_to_handle(run) -> None:
    async def main() -> None:
        async with clients(ClientLimits(frame_size_bytes_max=4096)) as made:
            caller = await call(made.listener.port)
            await caller.greet(**CLIENT)
            with pytest.raises(FrameTooLarge):
                made.connections[0].reply(b"x" * 4097)
            made.connections[0].reply(b"too large an answer")
            assert await caller.frame() == b"too large an answer"
            caller.close()

    run(main())


def test_frames_right_behind_the_welcome_reach_a_client(run) -> None:
    """The node may speak first, with frames above the handshake's own limit."""

    async def main() -> None:
        async with clients() as made:
            made.listener.on_connect = lambda connection: connection.reply(b"x" * 100_000)
            for dialled in [await dial(made.listener.port) for _ in range(5)]:
                await until(lambda d=dialled: d.got)
                assert dialled.got == [b"x" * 100_000]
                dialled.cut("enough")

    run(main())


class Client(Dialled):
    def __init__(self) -> None:
        super().__init__(client_hello(), ClientLimits().frames, 5.0)
        self.got: list[bytes] = []

    def on_message_frames(self, frames: list[bytes]) -> None:
        self.got.extend(frames)


async def dial(port: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


def test_a_stop_answers_first(run) -> None:
    async def main() -> None:
        async with clients(msgspec.structs.replace(ClientLimits(), close_grace_s=5.0)) as made:
            caller = await call(made.listener.port)
            await caller.greet(**CLIENT)
            made.connections[0].reply(b"goodbye")
            stopping = asyncio.create_task(made.listener.stop())
            assert await caller.frame() == b"goodbye"
            assert await caller.hung_up() == b""
            await stopping
            assert made.lost == ["this node stops"]
            caller.close()

    run(main())


# --- limits for all clients together ---


def test_requests_that_do_not_fit_are_refused_and_the_others_served(run) -> None:
    async def main() -> None:
        limits = ClientLimits(requests_bytes_max=1 << 20)
        async with clients(limits) as made:
            refused: list[tuple[int, int]] = []
            made.listener.on_busy = lambda connection, frames: refused.extend(
                (made.connections.index(connection), len(frame)) for frame in frames
            )
            greedy, modest = await call(made.listener.port), await call(made.listener.port)
            await greedy.greet(**CLIENT)
            await modest.greet(**CLIENT)
            for _ in range(10):
                await greedy.write(framed(b"x" * 100_000))
            await until(lambda: len(made.requests) + len(refused) == 10)
            assert refused == [(0, 100_000)] * 5, "a client alone has half of what there is"
            await modest.write(framed(b"y" * 100_000))
            await until(lambda: len(made.requests) == 6)
            assert made.requests[-1] == b"y" * 100_000
            assert made.listener.counters.busy == 5
            greedy.close()
            await until(lambda: made.lost)
            assert made.listener.admission.cost_bytes < 101_000
            modest.close()

    run(main())


def test_half_sent_requests_are_bounded_over_all_clients_and_the_one_begun_first_is_cut(run) -> None:
    async def main() -> None:
        async with clients(ClientLimits(unfinished_bytes_max=1 << 20)) as made:
            callers = [await call(made.listener.port) for _ in range(3)]
            for caller in callers:
                await caller.greet(**CLIENT)
            for number, caller in enumerate(callers, 1):
                await caller.write(framed(b"x" * 600_000)[:500_000])
                await until(lambda n=number: made.listener.unfinished.size_bytes == n * 500_000 or made.lost)
            assert made.lost == ["too slow"]
            assert [connection.is_open for connection in made.connections] == [False, True, True]
            await callers[2].write(framed(b"x" * 600_000)[500_000:])
            await until(lambda: len(made.requests) == 1)
            assert made.listener.unfinished.size_bytes == 500_000
            for caller in callers:
                caller.close()

    run(main())


def test_replies_that_are_not_read_are_bounded_over_all_clients_and_the_one_with_most_is_cut(run) -> None:
    async def main() -> None:
        limits = ClientLimits(replies_bytes_max=12 << 20)
        async with clients(limits) as made:
            lazy = [await call(made.listener.port) for _ in range(3)]
            for caller in lazy:
                await caller.greet(**CLIENT)
                caller.reader._transport.pause_reading()
            prompt = await call(made.listener.port)
            await prompt.greet(**CLIENT)
            replies = made.listener.replies
            for number in range(1000):
                made.connections[number % 3 % 2].reply(b"x" * (1 << 18))
                made.connections[2].reply(b"y" * 1000)
                await asyncio.sleep(0)
                assert replies.size_bytes <= 12 << 20
                if made.lost:
                    break
            assert [connection.is_open for connection in made.connections] == [False, True, True, True]
            assert replies.has_room(made.connections[3]) == (2 * replies.size_bytes <= 12 << 20)
            made.connections[3].reply(b"still here")
            assert await prompt.frame() == b"still here"
            for caller in [*lazy, prompt]:
                caller.close()
            await until(lambda: not made.listener.connections)
            assert replies.size_bytes == made.listener.unfinished.size_bytes == 0

    run(main())
