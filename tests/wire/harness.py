"""What the wire's tests share: loops, sockets, raw callers, a small cluster of Peers, a core with messages."""

import asyncio
import importlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import pytest

from quorate.kernel import Core, Env
from quorate.runtime.framing import FrameConnection, FrameLimits
from quorate.runtime.handshake import MAGIC, VERSION, Hello, LocalNode, Refused, Welcome, encode
from quorate.runtime.listener import ClientConnection, ClientLimits, ClientListener
from quorate.runtime.peer_links import PeerLimits
from quorate.runtime.peers import Peers

PATIENCE_S = 20.0  # before a test that hangs is a failure; no test waits that long when all is well
FAST = PeerLimits(redial_s_min=0.005, redial_s_max=0.02, frame_size_bytes_max=1 << 20)


def run_on(loop_name: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
    module = importlib.import_module(loop_name)
    escaped: list[dict[str, Any]] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        async with asyncio.timeout(PATIENCE_S):
            return await coroutine

    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        result = runner.run(main())
    assert not escaped, escaped
    return result


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition; `run_on` ends the wait of a test that fails."""
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.002)


def listening_socket(port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback: IPv6 goes untested")


def framed(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)


# --- a core with a message of every shape, and a child ---


class Note(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    number: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    text: Annotated[str, msgspec.Meta(max_length=16)] = ""
    parts: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=8)] = ()


class Kept(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    term: int
    vote: int | None = None


class Whisper(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    loud: bool
    scale: float


class Child(Core):
    messages = (Whisper, Note)
    records = (Whisper,)

    def on_whisper(self, sender: int, message: Whisper) -> None: ...

    def on_note(self, sender: int, message: Note) -> None: ...


class Root(Core):
    messages = (Note,)
    records = (Kept, Note)
    children = (Child,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.got: list[tuple[int, Note]] = []

    def on_note(self, sender: int, message: Note) -> None:
        self.got.append((sender, message))


# --- connections ---


class Collector(FrameConnection):
    """A FrameConnection that keeps what happens to it."""

    def __init__(self, limits: FrameLimits) -> None:
        super().__init__(limits)
        self.calls: list[list[bytes]] = []
        self.writable: list[bool] = []

    @property
    def frames(self) -> list[bytes]:
        return [frame for call in self.calls for frame in call]

    def on_frames(self, frames: list[bytes]) -> None:
        self.calls.append(frames)

    def on_writable(self) -> None:
        self.writable.append(self.is_writable)


async def connection_and_socket(
    limits: FrameLimits, kind: type[Collector] = Collector
) -> tuple[Collector, socket.socket]:
    """A Collector, and the bare other end of it."""
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    _, connection = await asyncio.get_running_loop().create_connection(lambda: kind(limits), sock=near)
    return connection, far


class RawCaller:
    """Somebody at the other end of a port who writes and reads bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def greet(self, **changes: Any) -> Welcome | Refused:
        await self.write(framed(encode(hello(**changes))))
        return msgspec.msgpack.decode(await self.frame(), type=Welcome | Refused)

    async def frame(self) -> bytes:
        size = int.from_bytes(await self.reader.readexactly(4), "little")
        return await self.reader.readexactly(size)

    async def hung_up(self) -> bytes:
        """What still came before the other side hung up."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.transport.abort()


async def call(port: int, host: str = "127.0.0.1") -> RawCaller:
    return RawCaller(*await asyncio.open_connection(host, port))


def hello(**changes: Any) -> Hello:
    """A right Hello of node 1 to node 0, but for the changes."""
    right = {"magic": MAGIC, "version": VERSION, "role": "peer", "protocol": "raft", "cluster": "c"}
    return Hello(**{**right, "node": 1, "target": 0, **changes})


# --- a node's ports ---


class Cluster:
    """Peers of one cluster on ephemeral ports; keeps what each receives as (receiver, sender, frames)."""

    def __init__(self, size: int, limits: PeerLimits = FAST) -> None:
        self.limits = limits
        self.sockets = [listening_socket() for _ in range(size)]
        self.addresses = {node: sock.getsockname() for node, sock in enumerate(self.sockets)}
        self.peers: dict[int, Peers] = {}
        self.received: list[tuple[int, int, list[bytes]]] = []

    def make(self, node: int, **changes: Any) -> Peers:
        def on_frames(sender: int, frames: list[bytes]) -> None:
            self.received.append((node, sender, frames))

        given = {"cluster": "c", "protocol": "raft", "addresses": self.addresses, "on_frames": on_frames}
        self.peers[node] = Peers(node, **{**given, "limits": self.limits, **changes})
        return self.peers[node]

    def frames(self, receiver: int, sender: int) -> list[bytes]:
        return [frame for to, of, frames in self.received if (to, of) == (receiver, sender) for frame in frames]

    async def start(self, *nodes: int) -> None:
        for node in nodes:
            await (self.peers.get(node) or self.make(node)).start(self.sockets[node])

    async def connected(self) -> None:
        """Wait until every node that runs can send to every other one that does."""
        pairs = [(a, b) for a in self.peers for b in self.peers if a != b]
        await until(lambda: all(b in self.peers[a].connected() and a in self.peers[b].incoming for a, b in pairs))


@asynccontextmanager
async def cluster(size: int, running: int | None = None, limits: PeerLimits = FAST) -> AsyncIterator[Cluster]:
    """A cluster whose first `running` nodes (all, if not said) run and see each other."""
    made = Cluster(size, limits)
    await made.start(*range(size if running is None else running))
    await made.connected()
    try:
        yield made
    finally:
        for peers in made.peers.values():
            await peers.stop()
        for sock in made.sockets:
            sock.close()


class Clients:
    """A ClientListener of node 0 that keeps what it is told."""

    def __init__(self, limits: ClientLimits | None = None) -> None:
        me = LocalNode("c", "raft", 0, frozenset(range(3)))
        self.connections: list[ClientConnection] = []
        self.requests: list[bytes] = []
        self.lost: list[str] = []
        self.listener = ClientListener(
            "127.0.0.1",
            0,
            me,
            self.connections.append,
            lambda _, frames: self.requests.extend(frames),
            lambda _, why: self.lost.append(why),
            limits,
        )


@asynccontextmanager
async def clients(limits: ClientLimits | None = None) -> AsyncIterator[Clients]:
    made = Clients(limits)
    await made.listener.start()
    try:
        yield made
    finally:
        await made.listener.stop()
