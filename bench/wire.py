"""How fast is the wire: the codec alone, and frames between two processes over loopback, plain and sealed.

Run `python -m bench.wire [--loop asyncio] [--seconds 2]` from the root of the checkout.
"""

import argparse
import asyncio
import hmac
import importlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from quorate.kernel import Core, Record
from quorate.parts.log.entries import Entry
from quorate.runtime.codec import Codec
from quorate.runtime.handshake import LocalNode
from quorate.runtime.keys import Ed25519
from quorate.runtime.peer_handshake import PeerCalled, PeerDialler
from quorate.runtime.peers import Peers
from quorate.runtime.sealing import Ephemeral, Seal

COMMAND_SIZE_BYTES = 1300
ENTRIES = 100
SCHEME = Ed25519(range(2), "bench")
LOCAL = [LocalNode("bench", "shape", node, frozenset({0, 1})) for node in range(2)]
CREDIT = 64  # messages on their way at once, as a pipelining leader would have


class Append(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Has the shape of an AppendEntries."""

    term: int
    index: int
    commit: int
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=1024)]


class Shape(Core):
    """A core with one message and one record."""

    messages = (Append,)
    records = (Append,)

    def on_append(self, sender: int, message: Append) -> None:
        """Nothing: only its codec is wanted."""


def append_of(entries: int) -> Append:
    return Append(3, 17, 16, tuple(Entry(3, os.urandom(COMMAND_SIZE_BYTES)) for _ in range(entries)))


def microseconds(call: Callable[[], Any], repeats: int) -> float:
    """The best of five rounds, a call."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, time.perf_counter() - began)
    return best / repeats * 1e6


def sealing() -> None:
    """What seals a frame, and what was weighed against it; and a handshake, both sides of it."""
    key = bytes(32)
    for size in (100, 1024, 16384, 1 << 20):
        repeats = max(20, 100_000 // (1 + size // 100))
        payload, seal, chacha = os.urandom(size), Seal(key), ChaCha20Poly1305(key)
        for name, call in (
            ("AES-256-GCM", lambda p=payload, s=seal: s(p)),
            ("ChaCha20", lambda p=payload, c=chacha: c.encrypt(bytes(12), p, None)),
            ("BLAKE2b MAC", lambda p=payload: blake2b(p, key=key, salt=bytes(16), digest_size=16).digest()),
            ("HMAC-SHA-256", lambda p=payload: hmac.digest(key, bytes(12) + p, "sha256")),
        ):
            print(f"seal   {name:15} {size:7} bytes  {microseconds(call, repeats):8.2f} us")
    print(f"proof  a handshake, both sides  {microseconds(handshake, 50):8.2f} us")


def handshake() -> None:
    dialler = PeerDialler(LOCAL[0], SCHEME.keys(0), 1, SCHEME.keyring().public(1), Ephemeral())
    called = PeerCalled(LOCAL[1], SCHEME.keys(1), Ephemeral())
    called.greeted(dialler.opening, SCHEME.keyring().public)
    called.proved(dialler.challenged(called.challenge()))
    called.channel()
    dialler.admitted(called.admission())


def codec() -> None:
    measured = Codec(Shape)
    for entries in (1, ENTRIES):
        message = append_of(entries)
        records = [Record((), message)]
        data, frame = measured.encode_message((), message), measured.encode_records(records)
        for name, call in (
            ("encode_message", lambda m=message: measured.encode_message((), m)),
            ("decode_message", lambda d=data: measured.decode_message(d)),
            ("encode_records", lambda r=records: measured.encode_records(r)),
            ("decode_records", lambda f=frame: measured.decode_records(f)),
        ):
            print(f"codec  {name:15} {entries:4} entries {len(data):7} bytes  {microseconds(call, 1000):8.2f} us")


async def receive(sockets: list[socket.socket], keys: Ed25519 | None, ready: Any) -> None:
    """Node 1: decodes every frame and says how many came, once a read."""
    measured = Codec(Shape)

    def on_frames(sender: int, frames: list[bytes]) -> None:
        for frame in frames:
            measured.decode_message(frame)
        peers.send(0, len(frames).to_bytes(4, "little"))

    peers = Peers(1, "bench", "shape", addresses_of(sockets), on_frames, keys=keys and keys.keys(1))
    await peers.start(sockets[1])
    ready.set()
    await asyncio.Event().wait()


async def send(sockets: list[socket.socket], keys: Ed25519 | None, entries: int, seconds: float) -> None:
    """Node 0: encodes and sends, with a window of messages on their way."""
    measured = Codec(Shape)
    message = append_of(entries)
    acknowledged = 0
    progress = asyncio.Event()

    def on_frames(sender: int, frames: list[bytes]) -> None:
        nonlocal acknowledged
        acknowledged += sum(int.from_bytes(frame, "little") for frame in frames)
        progress.set()

    peers = Peers(0, "bench", "shape", addresses_of(sockets), on_frames, keys=keys and keys.keys(0))
    await peers.start(sockets[0])
    while not peers.connected() or not peers.counters[1].accepts:  # noqa: ASYNC110 (has no event)
        await asyncio.sleep(0.01)
    credit = CREDIT if entries > 1 else 16 * CREDIT
    sent = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        while sent - acknowledged < credit:
            assert peers.send(1, measured.encode_message((), message))
            sent += 1
        progress.clear()
        await progress.wait()
    took = time.perf_counter() - began
    size = len(measured.encode_message((), message))
    rate = acknowledged / took
    kind = "link" if keys is None else "sealed"
    print(
        f"{kind:6} {type(asyncio.get_running_loop()).__module__.split('.')[0]:8} {entries:4} entries {size:7} bytes "
        f"{rate:9.0f} frames/s {rate * entries:9.0f} entries/s {rate * size / 1e6:7.0f} MB/s"
    )
    await peers.stop()


def addresses_of(sockets: list[socket.socket]) -> dict[int, tuple[str, int]]:
    return {node: sock.getsockname() for node, sock in enumerate(sockets)}


def run(loop: str, main: Any) -> None:
    with asyncio.Runner(loop_factory=importlib.import_module(loop).new_event_loop) as runner:
        runner.run(main)


def receiver(loop: str, sockets: list[socket.socket], keys: Ed25519 | None, ready: Any) -> None:
    run(loop, receive(sockets, keys, ready))


def link(loop: str, entries: int, seconds: float, *, is_sealed: bool) -> None:
    keys = SCHEME if is_sealed else None
    sockets = [socket.socket() for _ in range(2)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=receiver, args=(loop, sockets, keys, ready), daemon=True)
    process.start()
    try:
        ready.wait(10)
        run(loop, send(sockets, keys, entries, seconds))
    finally:
        process.terminate()
        process.join()
        for sock in sockets:
            sock.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    codec()
    sealing()
    for loop in ("uvloop", "asyncio") if chosen.loop == "both" else (chosen.loop,):
        for entries in (1, ENTRIES):
            for is_sealed in (False, True):
                link(loop, entries, chosen.seconds, is_sealed=is_sealed)


if __name__ == "__main__":
    main()
