"""Whole nodes under host names, over IPv6, and with a listening address apart from the one that others dial."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from quorate.runtime.names import NAMES, system_look_up
from quorate.service.config import Member

from tests.runtime.servers import Servers, run
from tests.wire.harness import needs_ipv6

STOP_S_MAX = 10.0
"""A stop that waits for a resolver takes 30 s here."""


def cluster_at(folder: Path, member: Callable[[int, str, str], Member], nodes: int = 3) -> Servers:
    """Servers whose members are what ``member(node, peer port, client port)`` says."""
    made = Servers(folder, nodes)
    ports = {node: [text.rpartition(":")[2] for text in (m.peer, m.client)] for node, m in made.members.items()}
    made.members = {node: member(node, *ports[node]) for node in made.ids}
    made.config = msgspec.structs.replace(made.config, nodes=made.members)
    return made


async def serves(made: Servers) -> None:
    """A cluster starts, loses a node, gets it back, and stops."""
    try:
        await made.start()
        async with made.client() as client:
            await client.put(b"k", b"1")
            await made.crash(await made.leader())
            await client.put(b"k", b"2")
            await made.start()
            await made.converged()
            kv = await client.get(b"k")
            assert kv is not None
            assert kv.value == b"2"
    finally:
        await made.stop()


def test_nodes_and_clients_may_use_host_names(tmp_path: Path) -> None:
    run(serves(cluster_at(tmp_path, lambda _, peer, client: Member(f"localhost:{peer}", f"localhost:{client}"))))


@needs_ipv6
def test_nodes_and_clients_may_use_ipv6(tmp_path: Path) -> None:
    run(serves(cluster_at(tmp_path, lambda _, peer, client: Member(f"[::1]:{peer}", f"[::1]:{client}"))))


def test_nodes_listen_on_all_addresses_and_are_dialled_at_one(tmp_path: Path) -> None:
    def member(node: int, peer: str, client: str) -> Member:
        return Member(f"127.0.0.{node}:{peer}", f"127.0.0.{node}:{client}", f"0.0.0.0:{peer}", f"0.0.0.0:{client}")

    run(serves(cluster_at(tmp_path, member)))


@needs_ipv6
def test_the_ipv6_wildcard_serves_nodes_of_both_kinds(tmp_path: Path) -> None:
    def member(node: int, peer: str, client: str) -> Member:
        host = "[::1]" if node == 1 else "127.0.0.1"
        return Member(f"{host}:{peer}", f"{host}:{client}", f"[::]:{peer}", f"[::]:{client}")

    run(serves(cluster_at(tmp_path, member)))


def test_names_of_dead_nodes_that_hang_in_the_resolver_hold_up_nobody(tmp_path: Path, monkeypatch) -> None:
    """The living find each other by name, elect a leader, take one back that restarts, and stop at once."""
    hangs = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        if host.startswith("slow"):
            assert hangs.wait(30)
        return system_look_up("localhost", port)

    def member(node: int, peer: str, client: str) -> Member:
        host = "localhost" if node <= 5 else f"slow{node}"
        return Member(f"{host}:{peer}", f"{host}:{client}", f"127.0.0.1:{peer}")

    async def main() -> None:
        made = cluster_at(tmp_path, member, nodes=7)
        made.ids = (1, 2, 3, 4, 5)
        loop = asyncio.get_running_loop()
        try:
            await made.start()
            async with made.client(7, 1, 2, 3, 4, 5) as client:
                await client.put(b"k", b"1")
                await made.crash(await made.leader())
                await client.put(b"k", b"2")
                await made.start()
                await made.converged()
            assert (asked.count("slow6"), asked.count("slow7")) == (1, 2), "one at a time; the client asks too"
            assert await asyncio.wait_for(loop.run_in_executor(None, lambda: 7), 20.0) == 7
        finally:
            before = loop.time()
            await made.stop()
            assert loop.time() - before < STOP_S_MAX

    monkeypatch.setattr(NAMES, "_look_up", look_up)
    try:
        run(main())
    finally:
        hangs.set()


@pytest.mark.parametrize("field", ["listen_peer", "listen_client"])
def test_an_address_of_another_machine_stops_the_start(tmp_path: Path, field: str) -> None:
    async def main() -> None:
        made = Servers(tmp_path, 1)
        elsewhere = msgspec.structs.replace(made.members[1], **{field: "192.0.2.7:7501"})
        with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.7:7501: .*set another to listen on"):
            await made.make(1, nodes={1: elsewhere}).start()

    run(main())
