"""Handshake: who belongs together meets; everybody else is told why not and what to do."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.runtime.greeting import TOLD_COUNT_MAX, Told
from quorate.runtime.handshake import (
    MAGIC,
    Bears,
    Hello,
    LocalNode,
    Refused,
    Role,
    Welcome,
    answer_in,
    client_hello,
    encode,
    judge,
)
from quorate.runtime.peer_links import PeerLimits

from tests.wire.harness import FAST, Cluster, call, clients, cluster, framed, hello, until

ME = LocalNode("c", "raft", 0, frozenset({0, 1, 2}))

WRONG = [
    ({"magic": b"redis"}, "magic", "check the address"),
    ({"version": 2}, "version", "you speak 2: run the same release"),
    ({"role": "client"}, "role", "this is the peer port, you are a client"),
    ({"cluster": "d"}, "cluster", "this is cluster 'c', you are of cluster 'd': check `cluster`"),
    ({"protocol": "paxos"}, "protocol", "this node runs 'raft', you run 'paxos': check `protocol`"),
    ({"target": 2}, "target", "this is node 0, you want node 2"),
    ({"target": None}, "target", "you want node None"),
    ({"node": 0}, "node", "I am node 0 myself"),
    ({"node": 7}, "node", "you are node 7, this cluster has 0, 1, 2"),
    ({"node": None}, "node", "you are node None"),
    ({"node": 5000}, "malformed", "no Hello"),
    ({"cluster": "x" * 500}, "malformed", "no Hello"),
    ({"role": "king"}, "malformed", "no Hello"),
]


@pytest.mark.parametrize(("changes", "code", "text"), WRONG)
def test_a_wrong_peer_is_told_what_to_do(changes: dict[str, Any], code: str, text: str) -> None:
    refused = judge(encode(hello(**changes)), ME, "peer")
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert text in refused.why


@pytest.mark.parametrize(("changes", "code", "text"), WRONG)
def test_a_wrong_peer_is_refused_on_the_socket(changes: dict[str, Any], code: str, text: str) -> None:
    async def main() -> None:
        async with cluster(3, running=1) as made:
            caller = await call(made.addresses[0][1])
            refused = await caller.greet(**changes)
            assert isinstance(refused, Refused)
            assert (refused.code, text in refused.why) == (code, True)
            assert await caller.hung_up() == b""
            assert made.received == []
            caller.close()

    asyncio.run(main())


def test_the_right_peer_and_any_client_are_welcome() -> None:
    assert judge(encode(hello()), ME, "peer") == hello()
    assert isinstance(judge(encode(client_hello()), ME, "client"), Hello)
    assert isinstance(judge(encode(client_hello("c", "raft", 0)), ME, "client"), Hello)


@pytest.mark.parametrize(
    ("given_hello", "code"),
    [
        (client_hello(cluster="d"), "cluster"),
        (client_hello(protocol="pbft"), "protocol"),
        (client_hello(target=1), "target"),
        (hello(), "role"),
    ],
)
def test_a_client_may_name_what_it_wants(given_hello: Hello, code: str) -> None:
    refused = judge(encode(given_hello), ME, "client")
    assert isinstance(refused, Refused)
    assert refused.code == code


def test_another_version_is_told_so_whatever_else_it_says() -> None:
    refused = judge(msgspec.msgpack.encode([MAGIC, 99, {"all": "new"}, 3.5]), ME, "peer")
    assert isinstance(refused, Refused)
    assert refused.code == "version"


@given(st.binary(max_size=300), st.sampled_from(["peer", "client"]))
def test_any_first_frame_is_judged(frame: bytes, role: Role) -> None:
    judged = judge(frame, ME, role)
    assert isinstance(judged, Refused)
    assert answer_in(encode(judged)) == judged  # a refusal always fits its own limits


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"", "no Welcome"),
        (b"HTTP/1.1 400", "no Welcome"),
        (encode(Welcome(2, "raft", "c", 0)), "speaks version 2"),
    ],
)
def test_a_strange_answer_is_an_error_that_says_so(frame: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        answer_in(frame)


def test_a_welcome_says_how_many_liars_are_borne() -> None:
    me = msgspec.structs.replace(ME, bears=Bears(1, 4))
    assert answer_in(encode(me.welcome())) == Welcome(1, "raft", "c", 0, Bears(1, 4))
    assert answer_in(encode(ME.welcome())) == Welcome(1, "raft", "c", 0)
    older = msgspec.msgpack.encode(("welcome", 1, "raft", "c", 0))
    assert answer_in(older) == Welcome(1, "raft", "c", 0), "who does not say bears crashes alone"


@pytest.mark.parametrize("bears", [(-1, 4), (2, 4), (1, 3), (0, 0), (0, 1025), (2**40, 2**50), (1,), "1/4"])
def test_no_cluster_bears_what_cannot_be_borne(bears: Any) -> None:
    with pytest.raises(ValueError, match="no Welcome"):
        answer_in(msgspec.msgpack.encode(("welcome", 1, "raft", "c", 0, bears)))


# --- both ends real ---


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cluster": "d"}, "this is cluster 'c', you are of cluster 'd'"),
        ({"protocol": "paxos"}, "this node runs 'raft', you run 'paxos'"),
    ],
)
def test_both_sides_log_why_they_do_not_meet(run, caplog, changes: dict[str, Any], text: str) -> None:
    async def main() -> None:
        async with cluster(2, running=1) as made:
            made.make(1, **changes)
            await made.start(1)
            # Each calls the other: two lines of the one who calls, two of the one who is called.
            await until(lambda: sum("refused" in line for line in caplog.messages) >= 4)
            assert made.peers[0].connected() == made.peers[1].connected() == ()

    run(main())
    assert any(line.startswith("refused 127.0.0.1 on the peer port") and text in line for line in caplog.messages)
    assert any(line.startswith("no link to node 0: refused us") and text in line for line in caplog.messages)


def test_swapped_addresses_are_found_out(run, caplog) -> None:
    async def main() -> None:
        async with cluster(3, running=2) as made:
            made.make(2, addresses={0: made.addresses[1], 1: made.addresses[0], 2: made.addresses[2]})
            await made.start(2)
            await until(lambda: any("you want node 1: check the addresses" in line for line in caplog.messages))

    run(main())


@pytest.mark.parametrize("start", [b"", b"\x05", framed(b"x" * 50)[:20]], ids=["nothing", "half header", "half frame"])
@pytest.mark.parametrize("port", ["peer", "client"])
def test_a_silent_caller_is_hung_up_on(run, start: bytes, port: str) -> None:
    async def main() -> None:
        limits = msgspec.structs.replace(FAST, handshake_timeout_s=0.05)
        async with cluster(2, running=1, limits=limits) as made, clients() as served:
            served.listener.limits = msgspec.structs.replace(served.listener.limits, handshake_timeout_s=0.05)
            caller = await call(made.addresses[0][1] if port == "peer" else served.listener.port)
            await caller.write(start)
            assert await caller.hung_up() == b""
            caller.close()

    run(main())


def test_who_sends_before_it_is_welcome_is_cut_off(run) -> None:
    async def main() -> None:
        async with cluster(2, running=1) as made:
            caller = await call(made.addresses[0][1])
            await caller.write(framed(encode(hello()), b"eager"))
            await caller.hung_up()
            assert made.received == []
            assert made.peers[0].incoming == {}
            caller.close()

    run(main())


def test_a_first_frame_is_small(run) -> None:
    async def main() -> None:
        async with cluster(2, running=1) as made:
            caller = await call(made.addresses[0][1])
            await caller.write((1 << 19).to_bytes(4, "little") + b"x" * 10)
            await caller.hung_up()
            caller.close()

    run(main())


def test_a_called_side_that_never_answers_is_given_up(run, caplog) -> None:
    async def main() -> None:
        made = Cluster(2, PeerLimits(handshake_timeout_s=0.05, redial_s_min=0.005, redial_s_max=0.02))
        made.sockets[1].listen()  # the system accepts for it; nobody answers
        await made.start(0)
        await until(lambda: any("did not finish the handshake within 0.05 s" in line for line in caplog.messages))
        await until(lambda: made.peers[0].counters[1].dials >= 3)
        await until(lambda: made.peers[0].links[1].connection.is_open)  # called, not welcome yet
        assert not made.peers[0].send(1, b"too early")
        assert made.peers[0].counters[1].connects == 0
        await made.peers[0].stop()
        for sock in made.sockets:
            sock.close()

    run(main())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (encode(Welcome(1, "raft", "c", 9)), "is node 9, not 1"),
        (encode(Welcome(2, "raft", "c", 1)), "speaks version 2"),
        (encode(Refused("full", "come back\nlater")), r"refused us: 'come back\nlater'"),
        (b"HTTP/1.1 400 Bad Request", "check that the address is a Quorate node's"),
    ],
)
def test_a_called_side_that_answers_something_else_is_left(run, caplog, answer: bytes, text: str) -> None:
    async def main() -> None:
        def answer_all(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(framed(answer))
            writers.append(writer)

        writers: list[asyncio.StreamWriter] = []
        made = Cluster(2)
        server = await asyncio.start_server(answer_all, sock=made.sockets[1])
        await made.start(0)
        await until(lambda: any(text in line for line in caplog.messages))
        assert made.peers[0].counters[1].connects == 0
        await made.peers[0].stop()
        server.close()
        for writer in writers:
            writer.transport.abort()

    run(main())


def test_the_deadline_ends_with_the_handshake(run) -> None:
    async def main() -> None:
        limits = msgspec.structs.replace(FAST, handshake_timeout_s=0.1)
        async with cluster(2, limits=limits) as made:
            await asyncio.sleep(0.3)  # both deadlines were set before this one
            assert made.peers[0].counters[1].dials == made.peers[0].counters[1].accepts == 1
            assert made.peers[0].connected() == (1,)

    run(main())


def test_the_log_takes_each_text_once_and_no_control_characters(caplog) -> None:
    tell = Told(logging.getLogger("quorate.test"))
    for _ in range(3):
        tell("a caller\nsaid \x1b[2J")
    assert caplog.messages == ["a caller?said ?[2J"]
    for number in range(10_000):
        tell(f"{number}")
    assert len(tell._told) == TOLD_COUNT_MAX
