"""How fast is the wire: the codec alone, and frames between two processes over loopback.

Run `python -m bench.wire [--loop asyncio] [--seconds 2]` from the root of the checkout.
"""

import argparse
import asyncio
import importlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from quorate.kernel import Core, Record
from quorate.parts.log.entries import Entry
from quorate.runtime.codec import Codec
from quorate.runtime.peers import Peers

COMMAND_SIZE_BYTES = 1300
ENTRIES = 100
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


async def receive(sockets: list[socket.socket], ready: Any) -> None:
    """Node 1: decodes every frame and says how many came, once a read."""
    measured = Codec(Shape)

    def on_frames(sender: int, frames: list[bytes]) -> None:
        for frame in frames:
            measured.decode_message(frame)
        peers.send(0, len(frames).to_bytes(4, "little"))

    peers = Peers(1, "bench", "shape", addresses_of(sockets), on_frames)
    await peers.start(sockets[1])
    ready.set()
    await asyncio.Event().wait()


async def send(sockets: list[socket.socket], entries: int, seconds: float) -> None:
    """Node 0: encodes and sends, with a window of messages on their way."""
    measured = Codec(Shape)
    message = append_of(entries)
    acknowledged = 0
    progress = asyncio.Event()

    def on_frames(sender: int, frames: list[bytes]) -> None:
        nonlocal acknowledged
        acknowledged += sum(int.from_bytes(frame, "little") for frame in frames)
        progress.set()

    peers = Peers(0, "bench", "shape", addresses_of(sockets), on_frames)
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
    print(
        f"link   {type(asyncio.get_running_loop()).__module__.split('.')[0]:8} {entries:4} entries {size:7} bytes "
        f"{rate:9.0f} frames/s {rate * entries:9.0f} entries/s {rate * size / 1e6:7.0f} MB/s"
    )
    await peers.stop()


def addresses_of(sockets: list[socket.socket]) -> dict[int, tuple[str, int]]:
    return {node: sock.getsockname() for node, sock in enumerate(sockets)}


def run(loop: str, main: Any) -> None:
    with asyncio.Runner(loop_factory=importlib.import_module(loop).new_event_loop) as runner:
        runner.run(main)


def receiver(loop: str, sockets: list[socket.socket], ready: Any) -> None:
    run(loop, receive(sockets, ready))


def link(loop: str, entries: int, seconds: float) -> None:
    sockets = [socket.socket() for _ in range(2)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=receiver, args=(loop, sockets, ready), daemon=True)
    process.start()
    try:
        ready.wait(10)
        run(loop, send(sockets, entries, seconds))
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
    for loop in ("uvloop", "asyncio") if chosen.loop == "both" else (chosen.loop,):
        for entries in (1, ENTRIES):
            link(loop, entries, chosen.seconds)


if __name__ == "__main__":
    main()
