"""Nodes that join, among endpoints that lie, hang or speak garbage, with tokens that are used twice, void or wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.parts.log.configuration import Voters
from quorate.runtime.errors import JournalLocked, StorageError
from quorate.runtime.folder import Beginning
from quorate.runtime.handshake import LocalNode, encode
from quorate.runtime.key_files import read_keyring
from quorate.runtime.keys import Ed25519Signer, generate_secret
from quorate.service.client.errors import NoQuorum, QuorateError, Refused
from quorate.service.config import load
from quorate.service.joining import CONFIG_NAME, join
from quorate.service.requests import Description, Known
from quorate.service.server import Server
from quorate.service.tokens import new_token

from tests.ports import free_ports
from tests.runtime.servers import run, until_async
from tests.service.test_joining import OPTIONS, SIZE, Joining


@asynccontextmanager
async def grown(folder: Path, protocol: str, name: str = "test") -> AsyncIterator[Joining]:
    """A cluster of founders that runs."""
    cluster = Joining(folder, SIZE[protocol], options=OPTIONS[protocol], protocol=protocol, cluster=name)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


def some_fast(names: Iterable[str], fast: Sequence[str]) -> list[Any]:
    """Parameters; those that are not among ``fast`` are slow."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


# --- one token, several users ---


@pytest.mark.parametrize("protocol", OPTIONS)
def test_two_join_with_one_token_and_one_of_them_is_told(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with grown(tmp_path, protocol) as cluster, cluster.clients() as client:
            new = SIZE[protocol] + 1
            token = await client.invite(new)
            first = cluster.plan(new, token)
            del cluster.members[new]
            second = cluster.plan(new, token, data=tmp_path / "second")
            found = await asyncio.gather(join(first), join(second), return_exceptions=True)
            [refused] = [one for one in found if isinstance(one, Exception)]
            assert isinstance(refused, Refused), refused
            assert "the token was used already" in str(refused)
            assert "quorate members replace" in str(refused)
            [path] = [one for one in found if isinstance(one, Path)]
            loser = second if path.parent == first.data else first
            assert not (loser.data / CONFIG_NAME).exists()
            with pytest.raises(Refused, match="the token was used already"):
                await join(loser)
            there = (await client.look()).cluster.there
            assert [known.node for known in there] == list(range(1, new + 1))
            assert there[-1].peer == load(path).nodes[new].peer

    run(main())


@pytest.mark.parametrize("protocol", OPTIONS)
def test_a_join_that_is_cut_again_and_again_is_one_join(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with grown(tmp_path, protocol) as cluster, cluster.clients() as client:
            new = SIZE[protocol] + 1
            token = await client.invite(new)
            plan = cluster.plan(new, token)
            found: list[Path] = []

            async def attempt(patience_s: float) -> bool:
                try:
                    async with asyncio.timeout(patience_s):
                        found.append(await join(plan))
                except JournalLocked:  # in one process, a thread of the last attempt may be at it yet
                    return False
                except TimeoutError:
                    pass
                return True

            for patience_s in (0.001, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3):
                await until_async(partial(attempt, patience_s))
            assert len(found) < 10, "some were cut"
            await until_async(partial(attempt, 20.0))
            path = found[-1]
            text = path.read_text()
            assert await join(plan) == path, "again changes nothing"
            assert path.read_text() == text
            server = Server(load(path), cluster.machine, Beginning.EXISTING)
            await server.start()
            cluster.running[new] = server
            assert new in (await client.promote([new])).members

    run(main())


def test_a_folder_that_was_lost_after_it_joined_does_not_join_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with grown(tmp_path, "multipaxos") as cluster, cluster.clients() as client:
            plan = cluster.plan(4, await client.invite(4))
            path = await join(plan)
            shutil.rmtree(plan.data / "journal")
            (plan.data / "identity").unlink()
            with pytest.raises(StorageError):  # the folder itself says so while something is left
                await Server(load(path), cluster.machine, Beginning.EXISTING).start()
            shutil.rmtree(plan.data)
            with pytest.raises(Refused, match="the token was used already: n4 has joined"):
                await join(plan)

    run(main())


@pytest.mark.parametrize("protocol", OPTIONS)
def test_an_invitation_that_is_void(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with grown(tmp_path, protocol) as cluster, cluster.clients() as client:
            new = SIZE[protocol] + 1
            first = cluster.plan(new, await client.invite(new))
            second = cluster.plan(new, await client.invite(new))
            with pytest.raises(Refused, match=f"a newer token was printed for n{new}, and this one is void"):
                await join(first)
            await client.remove_nodes([new])
            with pytest.raises(Refused, match="or its invitation was withdrawn"):
                await join(second)
            never = new_token("test", 9, 1 if protocol == "pbft" else 0, cluster.key if protocol == "pbft" else None)
            with pytest.raises(Refused, match="n9 is not invited: have `quorate members add n9` print a token"):
                await join(cluster.plan(9, never))

    run(main())


def test_tokens_of_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with grown(tmp_path / "a", "multipaxos", "red") as red, grown(tmp_path / "b", "pbft", "blue") as blue:
            async with red.clients() as reds, blue.clients() as blues:
                of_red, of_blue = await reds.invite(6), await blues.invite(6)
            with pytest.raises(Refused, match="the token is for cluster 'red', and these are nodes of 'blue'"):
                await join(blue.plan(6, of_red))
            with pytest.raises(Refused, match=r"bear crashes alone|the token is for cluster 'blue'"):
                await join(red.plan(6, of_blue))
            unsigned = new_token("blue", 6, 0, None)
            with pytest.raises(Refused, match="must be signed by an administrator"):
                await join(blue.plan(6, unsigned, data=tmp_path / "c"))
            stranger = Ed25519Signer(None, generate_secret())
            with pytest.raises(Refused, match="who signed the token, is none of this cluster's"):
                await join(blue.plan(6, new_token("blue", 6, 1, stranger), data=tmp_path / "d"))
            with pytest.raises(StorageError, match="belongs to"):
                await join(red.plan(6, of_red, data=tmp_path / "d"))

    run(main())


# --- endpoints that are no help ---


def others(description: Description) -> Description:
    """As one would be that wants to be the only one the new node ever hears."""
    there = tuple(Known(known.node, "127.0.0.1:9", known.client) for known in description.there)
    return msgspec.structs.replace(description, there=there)


SOME_LIES = ("where nodes are", "founders", "too much")
LIES: dict[str, Callable[[Description], Description]] = {
    "where nodes are": others,
    "keys": lambda said: msgspec.structs.replace(said, keys=tuple((node, bytes(32)) for node, _ in said.keys)),
    "founders": lambda said: msgspec.structs.replace(said, founders=(1,)),
    "who votes": lambda said: msgspec.structs.replace(said, voters=Voters((4,), (), 2**61)),
    "options": lambda said: msgspec.structs.replace(said, options=b"{}"),
    "the cluster": lambda said: msgspec.structs.replace(said, cluster="mine"),
    "too much": lambda said: msgspec.structs.replace(said, protocol="x" * (2 << 20)),
}


def lie(server: Server, tell: Callable[[Description], Description]) -> None:
    """Have a node describe the cluster otherwise."""
    honest = server._describe
    server._describe = lambda request: tell(honest(request))  # type: ignore[method-assign]


@pytest.mark.parametrize("what", some_fast(LIES, SOME_LIES))
def test_a_node_that_lies_is_not_believed(what: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with grown(tmp_path, "pbft") as cluster, cluster.clients() as client:
            token = await client.invite(5)
            lie(cluster.running[4], LIES[what])
            liar, honest = cluster.endpoints(4), cluster.endpoints(1)
            with pytest.raises(ValueError, match="with 1 lying nodes 2 others must agree, and there are 1 endpoints"):
                await join(cluster.plan(5, token, endpoints=liar[0]))
            alone = cluster.plan(5, token, endpoints=",".join((*liar, *honest)), timeout_s=1.0)
            with pytest.raises(NoQuorum, match=r"no 2 of the 2 endpoints|1 of 2 endpoints say who is in the cluster"):
                await join(alone)
            path = await join(cluster.plan(5, token))
            config = load(path)
            assert {node: config.nodes[node] for node in cluster.ids} == {n: cluster.members[n] for n in cluster.ids}
            keyring, right = read_keyring(path.parent / "keys" / "keyring.toml"), cluster.folder / "keys/keyring.toml"
            assert all(keyring.public(node) == read_keyring(right).public(node) for node in cluster.ids)

    run(main())


@asynccontextmanager
async def endpoint(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """Somebody who answers at a port in his own way."""
    [port] = free_ports(1)

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take a call and say nothing."""
    while await reader.read(1 << 16):
        pass


async def greet_and(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Greet as a node does, and then say that."""
    size = int.from_bytes(await reader.readexactly(4), "little")
    await reader.readexactly(size)
    hello = encode(LocalNode("test", "multipaxos", 1, frozenset({1})).welcome())
    writer.write(len(hello).to_bytes(4, "little") + hello)
    while await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


SOME_SPEAKERS = ("nothing", "a frame of 4 GiB")
SPEAKERS: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]] = {
    "nothing": hang,
    "nothing after its greeting": lambda reader, writer: greet_and(reader, writer, b""),
    "garbage": lambda reader, writer: greet_and(reader, writer, b"\x04\0\0\0\xc1\xc1\xc1\xc1"),
    "a frame of 4 GiB": lambda reader, writer: greet_and(reader, writer, b"\xff\xff\xff\xff" + bytes(1 << 20)),
    "a frame without an end": lambda reader, writer: greet_and(reader, writer, b"\0\0\x0f\0"),
}


@pytest.mark.parametrize("says", some_fast(SPEAKERS, SOME_SPEAKERS))
def test_an_endpoint_that_says(says: str, tmp_path: Path) -> None:
    """Costs seconds, and is no way in."""

    async def main() -> None:
        async with (
            grown(tmp_path, "multipaxos") as cluster,
            cluster.clients() as client,
            endpoint(SPEAKERS[says]) as address,
        ):
            token = await client.invite(4)
            with pytest.raises(QuorateError):
                await join(cluster.plan(4, token, endpoints=address, timeout_s=1.0))
            found = await join(cluster.plan(4, token, endpoints=",".join((address, *cluster.endpoints(1, 2, 3)))))
            assert load(found).node == 4

    run(main())
