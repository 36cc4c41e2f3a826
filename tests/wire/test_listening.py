"""Where a node listens: one address, all of them, a name; and what is said when it cannot."""

import asyncio
import errno
import socket

import pytest

from quorate.runtime.handshake import LocalNode, Welcome
from quorate.runtime.listener import ClientListener
from quorate.runtime.listening import bind_all, listen
from quorate.runtime.names import Names
from quorate.runtime.peers import Peers

from tests.wire.harness import FAST, call, listening_socket, needs_ipv6, until

UNUSED = "127.0.77.1"
"""No other test has a socket there, at whatever port."""
REFUSED = r"(?i)refused|Connect call failed"


def port_of(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def client_port(host: str, port: int) -> ClientListener:
    me = LocalNode("c", "raft", 0, frozenset(range(3)))
    return ClientListener(host, port, me, lambda _: None, lambda _, __: None, lambda _, __: None)


def welcomes(run, host: str, *callers: str) -> None:
    """A client port that listens at ``host`` serves those who come over these addresses, and no others."""

    async def main() -> None:
        served = client_port(host, 0)
        await served.start()
        for caller in callers:
            client = await call(served.port, caller)
            welcome = await client.greet(role="client", protocol="", cluster="", node=None, target=None)
            assert isinstance(welcome, Welcome)
            client.close()
        for other in {"127.0.0.1", "127.0.0.2"} - set(callers):
            with pytest.raises(OSError, match=REFUSED):
                await call(served.port, other)
        await served.stop()
        with pytest.raises(OSError, match=REFUSED):
            await call(served.port, callers[0])

    run(main())


def test_a_port_on_one_address_is_on_no_other(run) -> None:
    welcomes(run, "127.0.0.1", "127.0.0.1")


def test_a_port_on_all_ipv4_addresses(run) -> None:
    welcomes(run, "0.0.0.0", "127.0.0.1", "127.0.0.2")


@needs_ipv6
def test_a_port_on_one_ipv6_address(run) -> None:
    welcomes(run, "::1", "::1")


@needs_ipv6
def test_the_ipv6_wildcard_takes_ipv4_too(run) -> None:
    welcomes(run, "::", "::1", "127.0.0.1", "127.0.0.2")


def test_a_port_on_a_name_is_on_all_its_addresses_here(run) -> None:
    async def main() -> None:
        names = Names(lambda host, port: ["127.0.0.1", "192.0.2.7", "127.0.0.2"])
        listening = await listen(asyncio.Protocol, "node", 0, names=names)
        for host in ("127.0.0.1", "127.0.0.2"):
            (await call(listening.port, host)).close()
        listening.close()
        await listening.wait_closed()

    run(main())


def test_an_address_of_another_machine_is_refused_with_what_to_do(run) -> None:
    async def main() -> None:
        with pytest.raises(
            OSError, match=r"cannot listen on 192\.0\.2\.7:7401: .*no such address.*set another"
        ) as found:
            await listen(asyncio.Protocol, "192.0.2.7", 7401)
        assert found.value.errno == errno.EADDRNOTAVAIL
        names = Names(lambda host, port: ["192.0.2.7"])
        with pytest.raises(OSError, match=r"cannot listen on node:7401: .*no such address"):
            await listen(asyncio.Protocol, "node", 7401, names=names)

    run(main())


def test_a_taken_port_is_named_and_nothing_else_stays_bound(run) -> None:
    async def main() -> None:
        with listening_socket() as taken:
            taken.listen()
            port = taken.getsockname()[1]
            names = Names(lambda host, port: [UNUSED, "127.0.0.1"])
            with pytest.raises(OSError, match=f"cannot listen on node:{port}: address already in use"):
                await listen(asyncio.Protocol, "node", port, names=names)
            [free] = bind_all(UNUSED, [UNUSED], port)
            free.close()

    run(main())


def test_a_name_that_cannot_be_looked_up_is_an_error_with_a_cure(run) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"'no\.\.such' could not be looked up: .*write an address"):
            await listen(asyncio.Protocol, "no..such", 7401)

    run(main())


@pytest.mark.parametrize(
    ("listens", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "localhost"),
        pytest.param("::", "::1", marks=needs_ipv6),
        pytest.param("::", "127.0.0.1", marks=needs_ipv6),
        pytest.param("::1", "::1", marks=needs_ipv6),
        pytest.param("::1", "localhost", marks=needs_ipv6),
    ],
)
def test_nodes_listen_at_one_address_and_are_reached_at_another(run, listens: str, reached: str) -> None:
    async def main() -> None:
        frames: list[tuple[int, list[bytes]]] = []
        addresses = {node: (reached, port_of(listens)) for node in range(2)}
        # The system's resolver may leave ::1 out for localhost.
        names = Names(lambda host, port: ["127.0.0.1", *(["::1"] if ":" in listens else [])])
        nodes = [
            Peers(
                node,
                "c",
                "raft",
                addresses,
                lambda sender, some: frames.append((sender, some)),
                listen_at=(listens, addresses[node][1]),
                limits=FAST,
                names=names,
            )
            for node in range(2)
        ]
        for peers in nodes:
            await peers.start()
        await until(lambda: all(peers.connected() for peers in nodes))
        assert nodes[0].send(1, b"to 1")
        assert nodes[1].send(0, b"to 0")
        await until(lambda: len(frames) == 2)
        assert sorted(frames) == [(0, [b"to 1"]), (1, [b"to 0"])]
        for peers in nodes:
            await peers.stop()

    run(main())
