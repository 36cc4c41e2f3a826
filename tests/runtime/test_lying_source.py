"""Whole servers on real sockets and disks: the source of a snapshot lies, the laggard catches up and logs who it was.

Three of four nodes run and drop what they have snapshots of; then the fourth starts. Node 1 is honest but for what it
sends of its snapshot, and comes in time to be the first source.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Send
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.pbft.messages import FetchImage, ImagePiece, Offer
from quorate.protocols.pbft.transfer import PATIENCE_BEATS

from tests.runtime.servers import Disturbed, Servers, run_until_seen, servers, until

LIAR, LAGGARD = 1, 4
CONFIG = PbftConfig(
    beat_s=0.1,
    request_timeout_s=2.0,
    batch_count_max=4,
    checkpoint_batches=2,
    window=4,
    snapshot_batches=4,
    chunk_bytes=512,
)
PATIENCE_S = PATIENCE_BEATS * CONFIG.beat_s
PERIODS_MAX = 3
HONEST_S = 2.0
"""More than an honest transfer takes on a machine that does other things as well."""

Lie = Callable[[ImagePiece], tuple[ImagePiece | None, float]]
"""From a piece to what is sent in its place, and how many seconds later."""


def _with(m: ImagePiece, data: bytes) -> ImagePiece:
    return replace(m, chunk=replace(m.chunk, data=data))


MODES: dict[str, Lie] = {
    "empty": lambda m: (_with(m, b""), 0.0),
    "drip": lambda m: (_with(m, m.chunk.data[:1]), 0.8 * PATIENCE_S),
    "poison": lambda m: (None if m.chunk.offset else _with(m, bytes(len(m.chunk.data))), 0.0),
    "silent": lambda m: (None, 0.0),
    "slow": lambda m: (m, 0.8 * PATIENCE_S),
}
WRONG = "node 1 sends a piece that is not in the snapshot"
LATE = "node 1 sends little or nothing of a snapshot that it offers"


class Lying:
    """What the liar sends, and whom the laggard asks."""

    def __init__(self, cluster: Servers, lie: Lie) -> None:
        self.cluster = cluster
        self.lie = lie
        self.asked: list[int] = []

    def begin(self) -> None:
        """The liar's sends pass through here, and the laggard's by a witness."""
        self._send = self._through(LIAR, self.send)
        self._laggard_send = self._through(LAGGARD, self.witness)

    def _through(self, node: int, send: Callable[[Sequence[Send]], None]) -> Callable[[Sequence[Send]], None]:
        shell: Any = self.cluster.running[node].node.shell
        honest: Callable[[Sequence[Send]], None] = shell._send
        shell._send = send
        return honest

    def send(self, sends: Sequence[Send]) -> None:
        told: list[Send] = []
        for send in sends:
            m = send.message
            if isinstance(m, ImagePiece):
                lie, delay_s = self.lie(m)
                if lie is not None:
                    sent = (Send(send.to, send.path, lie),)
                    asyncio.get_running_loop().call_later(delay_s, self._send, sent)
            elif not isinstance(m, Offer):  # that comes when it counts
                told.append(send)
        self._send(told)

    def witness(self, sends: Sequence[Send]) -> None:
        for send in sends:
            if isinstance(send.message, FetchImage):
                self.asked += send.to
        self._laggard_send(sends)

    def volunteer(self) -> None:
        """Offer as soon as another has: then f + 1 have, and this is the node to be asked.

        The laggard asks all at once what they have, so this is done where it hears of the first.
        """
        transfer = self.cluster.core(LAGGARD).transfer
        heard: Callable[[int, Offer], None] = transfer.on_offer

        def on_offer(sender: int, m: Offer) -> None:
            heard(sender, m)
            if transfer.fetched is None and not self.asked:
                heard(LIAR, self.cluster.core(LIAR).transfer.offer(LAGGARD))

        transfer.on_offer = on_offer


@pytest.mark.parametrize("mode", MODES)
def test_a_laggard_catches_up_and_names_the_liar(mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def main(folder: Path) -> None:
        caplog.clear()
        async with servers(folder, 4, start=False, options=CONFIG, protocol="pbft") as cluster:
            await cluster.start(1, 2, 3)
            client = cluster.client(1, 2, 3, faults=1)
            async with client:
                for number in range(24):
                    await client.put(b"key %d" % number, bytes(200))
            await until(lambda: all(cluster.core(node).history.base >= 8 for node in (1, 2, 3)))
            await cluster.start(LAGGARD)
            lying = Lying(cluster, MODES[mode])
            lying.begin()
            began = asyncio.get_running_loop().time()
            lying.volunteer()
            await until(lambda: cluster.core(LAGGARD).history.images)
            took_s = asyncio.get_running_loop().time() - began
            if lying.asked[0] != LIAR:
                raise Disturbed
            assert set(lying.asked) > {LIAR}, "somebody else was asked in the end"
            assert took_s <= HONEST_S + PERIODS_MAX * PATIENCE_S
        assert (WRONG if mode in ("empty", "drip", "poison") else LATE) in caplog.messages

    run_until_seen(main, tmp_path)
