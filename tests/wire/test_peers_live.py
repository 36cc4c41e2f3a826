"""Nodes that come, go and move while the others run. Real sockets, both loops."""

import asyncio
import socket
import threading

import msgspec
import pytest

from quorate.kernel import NODE_ID_MAX
from quorate.runtime.handshake import Refused, judge
from quorate.runtime.handshake import encode as encoded
from quorate.runtime.names import NameLimits, Names

from tests.wire.harness import FAST, Cluster, call, cluster, hello, listening_socket, until


def refusals(caplog, *words: str) -> int:
    return sum(all(word in line for word in ("no link to", *words)) for line in caplog.messages)


async def newcomer(made: Cluster, node: int, knows: int = 0) -> None:
    """Node ``node`` starts with a socket of its own and knows one node of the cluster."""
    sock = listening_socket()
    made.sockets.append(sock)
    made.make(node, addresses={knows: made.addresses[knows], node: sock.getsockname()})
    made.addresses[node] = sock.getsockname()
    await made.peers[node].start(sock)


async def flows(made: Cluster, a: int, b: int, payload: bytes) -> None:
    """A frame each way arrives."""
    await until(lambda: b in made.peers[a].connected() and a in made.peers[b].connected())
    before = len(made.frames(b, a)), len(made.frames(a, b))
    assert made.peers[a].send(b, payload)
    assert made.peers[b].send(a, payload)
    await until(lambda: made.frames(b, a)[before[0] :] == made.frames(a, b)[before[1] :] == [payload])


def test_a_node_that_is_met_while_the_others_run_is_one_of_them(run) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            await newcomer(made, 7)
            assert not made.peers[0].send(7, b"too early")
            strays = made.peers[0].strays
            assert (strays.dropped_frames, strays.dropped_bytes, strays.sent_frames) == (1, 9, 0)
            made.peers[0].meet(7, made.addresses[7], b"k" * 32)
            await flows(made, 0, 7, b"hi")
            assert made.peers[0].connected() == (1, 7)
            counters = made.peers[0].counters[7]
            assert (counters.sent_frames, counters.received_frames, counters.accepts) == (1, 1, 1)
            assert made.peers[0].keys == {7: b"k" * 32}
            assert made.peers[1].connected() == (0,), "whoever was not told of it does not know it"
            await flows(made, 0, 1, b"as before")

    run(main())


def test_a_node_that_is_not_met_yet_is_refused_until_it_is(run, caplog) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            await newcomer(made, 7)
            await until(lambda: refusals(caplog, "to node 0", "you are node 7, this cluster has 0, 1"))
            made.peers[0].meet(7, "{}:{}".format(*made.addresses[7]))
            await flows(made, 0, 7, b"hi")

    run(main())


def test_a_node_that_was_parted_from_is_hung_up_on_and_refused_with_the_reason(run, caplog) -> None:
    async def main() -> None:
        async with cluster(3) as made:
            await flows(made, 0, 2, b"before")
            gone = made.peers[0].incoming[2]
            made.peers[0].part(2, "replaced by 7")
            assert not gone.is_open
            assert not made.peers[0].send(2, b"too late")
            assert made.peers[0].strays.dropped_frames == 1
            assert made.peers[0].backlog_bytes(2) == 0
            assert 2 not in made.peers[0].counters
            assert made.peers[0].connected() == (1,)
            made.peers[2].send(0, b"unheard")
            text = "node 2 was removed from this cluster: replaced by 7; never start it again: a new node has another"
            await until(lambda: refusals(caplog, "to node 0", text))
            dials = made.peers[2].counters[0].dials
            await until(lambda: made.peers[2].counters[0].dials >= dials + 3)  # again and again, in vain
            assert made.peers[2].connected() == (1,)
            assert made.frames(0, 2) == [b"before"]
            made.peers[0].cut(2, "nobody is there")
            await flows(made, 0, 1, b"others feel nothing")
            await flows(made, 1, 2, b"they know each other still")

    run(main())


def test_a_node_that_moved_is_dialled_there_and_one_that_did_not_is_left_alone(run) -> None:
    async def main() -> None:
        async with cluster(3) as made:
            await flows(made, 0, 2, b"before")
            link = made.peers[0].links[2]
            made.peers[0].move(2, "{}:{}".format(*made.addresses[2]))
            made.peers[0].move(2, "nowhere")
            assert made.peers[0].links[2] is link, "nothing is to be changed, or can be"
            await made.peers.pop(2).stop()
            old = made.addresses[2]
            await newcomer(made, 2)
            assert made.addresses[2] != old
            made.peers[0].move(2, "{}:{}".format(*made.addresses[2]))
            assert made.peers[0].links[2] is not link
            await flows(made, 0, 2, b"there")

    run(main())


def test_a_number_can_be_met_again_at_another_address(run) -> None:
    async def main() -> None:
        async with cluster(3) as made:
            made.peers[0].part(2, "its disk is gone")
            await made.peers.pop(2).stop()
            await newcomer(made, 2)
            made.received.clear()
            made.peers[0].meet(2, made.addresses[2])
            await flows(made, 0, 2, b"again")
            assert made.peers[0].counters[2].received_frames == 1, "counted anew"

    run(main())


def test_parting_from_a_node_that_never_connected_ends_the_dialling(run) -> None:
    async def main() -> None:
        async with cluster(3, running=2) as made:
            await until(lambda: made.peers[0].counters[2].dials >= 2)
            counters = made.peers[0].counters[2]
            made.peers[0].part(2, "never came")
            made.peers[0].part(2, "twice is once")
            made.peers[0].part(9, "was never there")
            await until(lambda: len(made.peers[0]._tasks) == 1)
            dials = counters.dials
            other = made.peers[1].counters[2]
            seen = other.dials
            await until(lambda: other.dials >= seen + 3)
            assert counters.dials == dials

    run(main())


def deaf_socket() -> tuple[socket.socket, list[socket.socket]]:
    """One that answers no call, since its queue is full."""
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    deaf.listen(0)
    held = [socket.socket() for _ in range(3)]
    for sock in held:
        sock.setblocking(False)
        sock.connect_ex(deaf.getsockname())
    return deaf, held


def test_a_node_may_move_while_a_dial_to_its_old_address_hangs(run) -> None:
    async def main() -> None:
        deaf, held = deaf_socket()
        made = Cluster(2)
        made.make(0, addresses={0: made.addresses[0], 1: deaf.getsockname()})
        await made.start(0)
        await until(lambda: made.peers[0].counters[1].dials == 1)
        await asyncio.sleep(0)
        await made.start(1)
        made.peers[0].meet(1, made.addresses[1])
        await flows(made, 0, 1, b"moved")
        assert made.peers[0].counters[1].dials == 2, "the counters go on"
        assert len(made.peers[0]._tasks) == 1, "the dial that hung is over"
        for peers in made.peers.values():
            await peers.stop()
        for sock in [deaf, *held]:
            sock.close()

    run(main())


def test_a_node_may_move_while_its_name_is_looked_up(run) -> None:
    hangs = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        assert hangs.wait(30)
        return ["127.0.0.1"]

    async def main() -> None:
        made = Cluster(2)
        made.make(0, addresses={0: made.addresses[0], 1: ("slow", 1)}, names=Names(look_up, NameLimits(wait_s_max=9)))
        await made.start(0, 1)
        await until(lambda: made.peers[0].counters[1].dials == 1)
        made.peers[0].meet(1, made.addresses[1])
        await flows(made, 0, 1, b"moved")
        for peers in made.peers.values():
            await peers.stop()

    try:
        run(main())
    finally:
        hangs.set()


def test_a_node_that_moves_is_called_at_its_new_address_at_once(run) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            await flows(made, 0, 1, b"here")
            old = made.peers[0].links[1].connection
            assert old is not None
            made.peers[0].meet(1, made.addresses[1])
            assert old.is_open, "the same address: nothing happens"
            made.peers[0].meet(1, "127.0.0.1:1")
            assert not old.is_open
            made.peers[0].meet(1, made.addresses[1])
            await flows(made, 0, 1, b"here again")
            await made.peers.pop(1).stop()
            await newcomer(made, 1)
            made.received.clear()
            made.peers[0].meet(1, made.addresses[1])
            await flows(made, 0, 1, b"there")

    run(main())


def test_an_address_that_is_not_one_is_told_and_harms_nobody(run, caplog) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            made.peers[0].meet(7, "7501")
            await until(lambda: refusals(caplog, "to node 7", "'7501' is not an address", "write host:port"))
            assert not made.peers[0].send(7, b"nowhere")
            assert made.peers[0].counters[7].dropped_frames == 1
            await newcomer(made, 7)
            made.peers[0].meet(7, made.addresses[7])
            await flows(made, 0, 7, b"hi")

    run(main())


def test_numbers_that_no_node_can_have_are_refused() -> None:
    made = Cluster(2)
    peers = made.make(0)
    for number in (-1, NODE_ID_MAX + 1):
        with pytest.raises(ValueError, match="numbers go from 0 to 1023"):
            peers.meet(number, "h:1")
    with pytest.raises(AssertionError):
        peers.part(0, "myself")
    for sock in made.sockets:
        sock.close()


def test_a_node_met_before_the_start_and_parted_from_before_it_is_never_dialled(run) -> None:
    async def main() -> None:
        made = Cluster(3)
        peers = made.make(0, addresses={0: made.addresses[0]})
        peers.meet(1, made.addresses[1])
        peers.meet(2, made.addresses[2])
        peers.part(2, "changed our mind")
        made.sockets[2].listen()
        made.sockets[2].setblocking(False)
        made.make(1, addresses={node: made.addresses[node] for node in (0, 1)})
        await made.start(0, 1)
        await flows(made, 0, 1, b"hi")
        with pytest.raises(BlockingIOError):
            made.sockets[2].accept()
        for node in made.peers.values():
            await node.stop()
        for sock in made.sockets:
            sock.close()

    run(main())


def test_a_caller_of_too_many_takes_the_place_of_the_oldest(run) -> None:
    async def main() -> None:
        limits = msgspec.structs.replace(FAST, handshake_timeout_s=60.0)
        async with cluster(2, running=1, limits=limits) as made:
            waiting = [await call(made.addresses[0][1]) for _ in range(limits.callers_per_host_max)]
            await until(lambda: len(made.peers[0].callers) == limits.callers_per_host_max)
            assert not any(caller.reader.at_eof() for caller in waiting)
            waiting.append(await call(made.addresses[0][1]))
            await waiting[0].hung_up()
            assert made.peers[0].totals.evictions == 1
            assert not any(caller.reader.at_eof() for caller in waiting[1:])
            for caller in waiting:
                caller.close()

    run(main())


def test_idle_callers_who_call_again_at_once_keep_no_node_out(run) -> None:
    """More than may wait from one host, and the node that starts is on that host too."""

    async def idle(port: int) -> None:
        while True:
            caller = await call(port)
            await caller.hung_up()
            caller.close()

    async def main() -> None:
        limits = msgspec.structs.replace(FAST, handshake_timeout_s=60.0)
        async with cluster(3, running=2, limits=limits) as made:
            ports = [made.addresses[node][1] for node in (0, 1)]
            many = [asyncio.ensure_future(idle(port)) for port in ports for _ in range(limits.callers_per_host_max + 8)]
            await until(lambda: min(made.peers[node].totals.evictions for node in (0, 1)) > 100)
            await made.start(2)
            await made.connected()
            for each in many:
                each.cancel()
            await asyncio.wait(many)

    run(main())


def test_a_refusal_fits_the_frame_that_a_caller_takes() -> None:
    made = Cluster(1)
    peers = made.make(0)
    peers.part(1, "\N{SNOWMAN}" * 5000)
    refused = judge(encoded(hello()), peers.me, "peer")
    assert isinstance(refused, Refused)
    assert refused.code == "removed"
    assert len(encoded(refused)) < 2048
    for number in range(2, NODE_ID_MAX):
        peers.meet(number, "h:1")
    refused = judge(encoded(hello(node=NODE_ID_MAX)), peers.me, "peer")
    assert isinstance(refused, Refused)
    assert len(encoded(refused)) < 2048
    made.sockets[0].close()
