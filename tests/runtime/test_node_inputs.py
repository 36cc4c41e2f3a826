"""What a Node makes of what comes in: steps of a bounded size, and none before it has begun."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from quorate.kernel import Core, Env, Stepped
from quorate.runtime import node as module
from quorate.runtime.codec import Codec
from quorate.runtime.files import Identity
from quorate.runtime.journal import Journal
from quorate.runtime.peers import Peers

from tests.ports import free_ports
from tests.runtime.nodes import Listing, nodes
from tests.runtime.servers import run, until


class Load(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    data: Annotated[bytes, msgspec.Meta(max_length=10_000)]


class Weighbridge(Core):
    """Delivers how much came in each step; recovered by inputs."""

    messages = (Load,)
    by_inputs = True

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.is_started = False
        self.loads: list[int] = []

    def start(self) -> None:
        self.is_started = True

    def on_load(self, sender: int, m: Load) -> None:
        assert self.is_started, "nothing is handled before the start"
        self.loads.append(len(m.data))

    def settle(self) -> None:
        if self.loads:
            self.env.deliver(tuple(self.loads))
            self.loads.clear()


def load(size: int) -> bytes:
    return Codec(Weighbridge).encode_message((), Load(bytes(size)))


def test_what_peers_send_at_once_is_taken_in_steps_of_a_bounded_size(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "STEP_BYTES_MAX", 1000)

    async def main() -> None:
        app = Listing()
        async with nodes(tmp_path, Weighbridge, [app, Listing()]) as (node, _):
            for read in ((400, 400), (100,), (400,), (300,), (5000, 5000), (1,)):
                node._on_frames(1, [load(size) for size in read])
            await until(lambda: sum(map(len, app.seen)) == 8)
            assert app.seen == [(400, 400, 100), (400, 300), (5000, 5000), (1,)]
        journal, frames = Journal.open(tmp_path / "n0" / "journal", identity=Identity("test", 0))
        journal.close()
        records = [record for frame in frames for record in Codec(Weighbridge).decode_records(frame)]
        steps = [record.value for record in records if isinstance(record.value, Stepped) and record.value.inputs]
        assert [tuple(len(item.message.data) for item in step.inputs) for step in steps] == app.seen

    run(main())


def test_what_comes_before_the_start_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node listens before it starts its core, and opening several sockets takes some turns of the loop."""
    start = Peers.start

    async def and_frames_come(peers: Peers) -> None:
        await start(peers)
        peers.on_frames(1 - peers.me.node, [load(7)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    monkeypatch.setattr(Peers, "start", and_frames_come)

    async def main() -> None:
        app = Listing()
        async with nodes(tmp_path, Weighbridge, [app, Listing()], ports=free_ports(2)):
            await until(lambda: app.seen)
            assert app.seen == [(7,)]

    run(main())
