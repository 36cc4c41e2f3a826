"""Names: look-ups that hang, fail, come late or have several answers. Real sockets; the resolver is a function."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from quorate.runtime.framing import FrameLimits
from quorate.runtime.names import NameLimits, Names, system_look_up

from tests.wire.harness import Collector, listening_socket, until

QUICK = NameLimits(wait_s_max=0.05, prompt_s=0.02)


class Resolver:
    """Answers as it is told to; hangs for as long as ``open`` is not set."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, host: str, port: int) -> Iterable[str]:
        self.asked.append(host)
        assert self.open.wait(30)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.answers[host]


@contextmanager
def hanging(resolver: Resolver) -> Iterator[None]:
    resolver.open.clear()
    try:
        yield
    finally:
        resolver.open.set()


@contextmanager
def server(*hosts: str) -> Iterator[int]:
    """Sockets that listen on one port of several addresses of the loopback interface."""
    first = listening_socket()
    port = first.getsockname()[1]
    sockets = [first]
    for host in hosts:
        sock = socket.socket()
        sock.bind((host, port))
        sockets.append(sock)
    for sock in sockets:
        sock.listen()
    try:
        yield port
    finally:
        for sock in sockets:
            sock.close()


async def reached(names: Names, host: str, port: int) -> str:
    """The address that a connection went to."""
    connection, address = await names.connect(asyncio.Protocol, host, port, 5.0)
    assert isinstance(connection, asyncio.Protocol)
    return address


def test_an_address_is_not_looked_up(run) -> None:
    resolver = Resolver()

    async def main() -> None:
        names = Names(resolver)
        with server() as port:
            assert await reached(names, "127.0.0.1", port) == "127.0.0.1"
        assert await names.addresses("::1", 1, 1.0) == ["::1"]
        assert names.addresses_now("fe80::1%2", 1, 1.0) == ["fe80::1%2"]
        assert resolver.asked == []

    run(main())


def test_the_addresses_of_a_name_are_tried_in_turn_and_the_one_that_worked_comes_first(run) -> None:
    async def main() -> None:
        names = Names(Resolver(node=["127.0.0.3", "127.0.0.2", "127.0.0.1"]))
        with server() as port:
            assert await reached(names, "node", port) == "127.0.0.1"  # nobody listens on the others
            names.learn("node", port, "127.0.0.1", True)
            assert await names.addresses("node", port, 1.0) == ["127.0.0.1", "127.0.0.3", "127.0.0.2"]
        with pytest.raises(OSError, match=r"127\.0\.0\.1: .*; 127\.0\.0\.3: .*; 127\.0\.0\.2: "):
            await reached(names, "node", port)

    run(main())


def test_an_address_that_does_not_answer_leaves_time_for_the_others(run) -> None:
    async def main() -> None:
        names = Names(Resolver(node=["127.0.0.2", "127.0.0.1"]))
        with server() as port, socket.socket() as deaf:
            deaf.bind(("127.0.0.2", port))
            deaf.listen(0)
            held = [socket.socket() for _ in range(3)]  # more than it queues: the next is not answered
            for sock in held:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.2", port))
            connection, address = await names.connect(asyncio.Protocol, "node", port, 0.4)
            assert isinstance(connection, asyncio.Protocol)
            assert address == "127.0.0.1"
            for sock in held:
                sock.close()

    run(main())


def test_an_address_that_took_a_connection_in_vain_comes_last_the_next_time(run) -> None:
    async def main() -> None:
        names = Names(Resolver(node=["127.0.0.1", "127.0.0.2"]))
        with server("127.0.0.2") as port:
            assert await reached(names, "node", port) == "127.0.0.1"
            names.learn("node", port, "127.0.0.1", False)
            assert await reached(names, "node", port) == "127.0.0.2"
            names.learn("node", port, "127.0.0.2", False)
            assert await reached(names, "node", port) == "127.0.0.1"

    run(main())


def test_a_resolver_that_hangs_is_asked_once_and_the_last_address_is_tried(run) -> None:
    resolver = Resolver(node=["127.0.0.1"])

    async def main() -> None:
        names = Names(resolver, QUICK)
        with server() as port:
            assert await reached(names, "node", port) == "127.0.0.1"
            names.learn("node", port, "127.0.0.1", True)
            with hanging(resolver):
                for _ in range(3):
                    assert await reached(names, "node", port) == "127.0.0.1"
                assert resolver.asked == ["node", "node"]

    run(main())


def test_nobody_waits_for_a_hanging_resolver_and_its_late_answer_is_used(run) -> None:
    resolver = Resolver(node=["127.0.0.1"])

    async def main() -> None:
        names = Names(resolver, QUICK)
        with server() as port:
            with hanging(resolver):
                tries = await asyncio.gather(
                    *(names.connect(asyncio.Protocol, "node", port, 5.0) for _ in range(8)), return_exceptions=True
                )
                assert {type(error) for error in tries} == {OSError}
                text = "the name 'node' could not be looked up: the resolver did not answer within 0.05 s"
                assert all(str(error).startswith(text) for error in tries)
                assert resolver.asked == ["node"]
            await until(lambda: not names._running)
            with hanging(resolver):  # asked again, but there is an answer
                assert await reached(names, "node", port) == "127.0.0.1"

    run(main())


def test_an_asker_that_goes_away_takes_nothing_from_the_others(run) -> None:
    resolver = Resolver(node=["127.0.0.1"])

    async def main() -> None:
        names = Names(resolver)
        with server() as port:
            resolver.open.clear()
            leaves = asyncio.ensure_future(reached(names, "node", port))
            stays = asyncio.ensure_future(reached(names, "node", port))
            await until(lambda: resolver.asked)
            leaves.cancel()
            await asyncio.wait((leaves,))
            resolver.open.set()
            assert await stays == "127.0.0.1"
            assert resolver.asked == ["node"]

    run(main())


def test_a_dial_that_is_given_up_when_the_connection_has_come_leaves_none(run) -> None:
    """Either loop tells the protocol a moment before it tells who dialled."""

    class Given(Collector):
        def on_open(self) -> None:
            self.send(b"hello")
            dialling.cancel()

    async def main() -> None:
        nonlocal dialling
        made: list[Given] = []

        def make() -> Given:
            made.append(Given(FrameLimits(1000, 10_000, 100)))
            return made[-1]

        with server() as port:
            dialling = asyncio.ensure_future(Names().connect(make, "127.0.0.1", port, 5.0))
            await asyncio.wait((dialling,))
            assert dialling.cancelled()
            (connection,) = made
            assert not connection.is_open
            assert await connection.lost
            await asyncio.sleep(0)

    dialling: asyncio.Future[tuple[Given, str]]
    run(main())


def test_a_look_up_that_ends_after_the_loop_harms_nobody(run, caplog) -> None:
    resolver = Resolver(node=["127.0.0.1"])
    names = Names(resolver, QUICK)

    async def main() -> None:
        with pytest.raises(OSError, match="did not answer"):
            await names.addresses("node", 1, 5.0)

    with hanging(resolver):
        run(main())
    assert names.addresses_now("node", 1, 5.0) == ["127.0.0.1"]
    assert caplog.messages == []


def test_a_name_that_moved_is_not_sought_where_it_was(run) -> None:
    resolver = Resolver(node=["127.0.0.2"])

    async def main() -> None:
        names = Names(resolver)
        with server("127.0.0.2") as port:
            assert await reached(names, "node", port) == "127.0.0.2"
            names.learn("node", port, "127.0.0.2", True)
            resolver.answers["node"] = ["127.0.0.1"]
            assert await reached(names, "node", port) == "127.0.0.1"
            del resolver.answers["node"]  # unknown for a while: what was known is still tried
            assert await reached(names, "node", port) == "127.0.0.1"

    run(main())


def test_a_name_that_is_not_known_says_so(run) -> None:
    async def main() -> None:
        names = Names(Resolver(empty=[]))
        with pytest.raises(OSError, match=r"the name 'none' could not be looked up: .*not known; check the name"):
            await names.addresses("none", 1, 5.0)
        with pytest.raises(OSError, match="'empty' could not be looked up: it has no address"):
            names.addresses_now("empty", 1, 5.0)

    run(main())


def test_look_ups_under_way_are_limited_and_so_is_what_is_remembered(run) -> None:
    resolver = Resolver(a=["127.0.0.1"], b=["127.0.0.1"], c=["127.0.0.1"])

    async def main() -> None:
        names = Names(resolver, NameLimits(wait_s_max=0.02, lookups_max=2, names_max=3))
        with hanging(resolver):
            for host in "ab":
                with pytest.raises(OSError, match="did not answer"):
                    await names.addresses(host, 1, 5.0)
            with pytest.raises(OSError, match="2 look-ups are under way already"):
                await names.addresses("c", 1, 5.0)
            assert len(resolver.asked) == 2
        await until(lambda: not names._running)
        for number in range(10):
            with pytest.raises(OSError, match="not known"):
                names.addresses_now(f"n{number}", 1, 5.0)
        assert len(names._names) == 3

    run(main())


def test_what_cannot_be_a_name_is_an_error_of_the_system(run) -> None:
    async def main() -> None:
        names = Names()
        for host in ("no..such", "x" * 300, "a\0b"):
            with pytest.raises(OSError, match="could not be looked up"):
                await names.addresses(host, 1, 5.0)

    run(main())


def test_the_system_knows_this_machine() -> None:
    assert "127.0.0.1" in system_look_up("localhost", 1)
    assert system_look_up("fe80::1%1", 1) == ["fe80::1%1"]


ENDS_WHILE_THE_RESOLVER_HANGS = """
import asyncio, threading
from quorate.runtime.names import NameLimits, Names
hangs = lambda host, port: threading.Event().wait()
async def main():
    names = Names(hangs, NameLimits(wait_s_max=0.01))
    for number in range(40):
        try:
            await names.connect(asyncio.Protocol, f"node{number}", 1, 1.0)
        except OSError:
            pass
    assert await asyncio.to_thread(lambda: 7) == 7  # the threads that others share are free
    print(threading.active_count() > 40)
asyncio.run(main())
"""


def test_the_end_of_a_process_does_not_wait_for_the_resolver() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS_WHILE_THE_RESOLVER_HANGS], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
