"""Kill -9, pauses and partitions under load: no validator ever signs two things, by what arrived at the others.

What a node wrote down of itself is not asked: ``tap.py`` has what came to the nodes, ``tap_judge.py`` judges it. Disks
are slow to begin a write, so that kills fall between what a node does and what it has written. A node that sends before
it writes shows that such a thing would be seen.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from quorate.runtime import key_files

from tests.runtime.servers import until
from tests.torture.chains import NODES, Chain, chain, until_level, write
from tests.torture.tap import tapped
from tests.torture.tap_judge import TapJudge

pytestmark = [pytest.mark.slow, pytest.mark.torture]

CLUSTER = "torture"
DISK_S = 0.03
WRITERS = 3
KINDS = ("kill one", "kill all", "kill and pause", "kill app", "pause", "isolate", "one way", "kill and cut")
ROUNDS = 8
KILLS_MAX = 50
TALK_S_MAX = 2.0
AGAIN_S = 1.5
"""For a node that was started again to give up waiting for a proposal, and vote."""
END_S = 240.0


def judged(folder: Path) -> TapJudge:
    """By all taps."""
    judge = TapJudge(CLUSTER, key_files.read_keyring(folder / "keys" / key_files.KEYRING_NAME))
    for path in sorted(folder.glob("*.tap")):
        judge.hear(tapped(path))
    return judge


class Strikes:
    """One fault at a time, drawn from a seed, and mended."""

    def __init__(self, under: Chain, seed: int) -> None:
        self.chain = under
        self.chance = random.Random(seed)
        self.kills = 0

    async def strike(self, kind: str) -> None:
        """Two nodes are chosen for it: what is killed, and what is hindered meanwhile."""
        one, other = self.chance.sample(self.chain.nodes.ids, 2)
        await self.until_they_talk()
        if kind in ("pause", "kill and pause"):
            self.chain.nodes.running[other].send_signal(signal.SIGSTOP)
        elif kind in ("isolate", "one way", "kill and cut"):
            self._cut(other, both=kind != "one way")
        if kind.startswith("kill"):
            await self.kill(kind, one)
        await asyncio.sleep(self.chance.uniform(0.2, 1.0))
        self.chain.nodes.running[other].send_signal(signal.SIGCONT)
        self.chain.links.heal()

    async def until_they_talk(self) -> None:
        """Until something arrives somewhere, if anything does: between heights nodes have nothing to lose."""
        await asyncio.sleep(self.chance.uniform(0.1, 0.5))
        before, end = self._tapped_bytes(), time.monotonic() + TALK_S_MAX
        while self._tapped_bytes() == before and time.monotonic() < end:  # noqa: ASYNC110  # other processes write
            await asyncio.sleep(0.002)

    def _tapped_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.chain.nodes.folder.glob("*.tap"))

    async def kill(self, kind: str, node: int) -> None:
        """Start again what was killed."""
        nodes, apps = self.chain.nodes, self.chain.apps
        killed = nodes.ids if kind == "kill all" else (node,)
        if kind == "kill app":
            apps.kill(node)
            assert await asyncio.to_thread(nodes.running[node].wait, 30.0) != 0, "a node whose app is gone ends"
        nodes.kill(*killed)
        self.kills += len(killed)
        for each in killed:
            await self.chain.restart(each)

    def _cut(self, node: int, both: bool) -> None:
        links, its = self.chain.links, node + 1
        for peer in links.nodes:
            if peer != its:
                links.cut(its, peer)
                if both:
                    links.cut(peer, its)


async def tortured(folder: Path, seed: int) -> None:
    stop, seen = asyncio.Event(), list[str]()
    async with (
        asyncio.timeout(END_S),
        chain(folder, "tests.torture.tapped_node", disk_s=DISK_S, planted=None) as under,
    ):
        writers = [asyncio.ensure_future(write(under.nodes, writer, seen, stop)) for writer in range(WRITERS)]
        strikes = Strikes(under, seed)
        kinds = [KINDS[number % len(KINDS)] for number in range(ROUNDS)]
        strikes.chance.shuffle(kinds)
        for kind in kinds:
            await strikes.strike(kind)
        seen_before = len(seen)
        await until(lambda: len(seen) >= seen_before + WRITERS)
        stop.set()
        await asyncio.gather(*writers)
        await until_level(under.nodes, seen)
    judge = judged(folder)
    rounds = Counter(place.round for place in judge.said)
    print(
        f"seed {seed}: {strikes.kills} kills, {kinds}; {len(seen)} transactions; {len(judge.said)} statements, "
        f"by round {sorted(rounds.items())}, {judge.locks_judged} prevotes against a lock judged"
    )
    assert judge.faults() == []
    assert {place.signer for place in judge.said} == set(range(1, NODES + 1)), "all were heard"
    assert len(rounds) > 1, "the faults were too few to take anybody to a second round"


async def planted(folder: Path) -> int:
    """After how many kills of a node that sends before it writes the taps show that it signed two values."""
    stop, seen = asyncio.Event(), list[str]()
    async with (
        asyncio.timeout(END_S),
        chain(folder, "tests.torture.tapped_node", disk_s=5 * DISK_S, planted=0) as under,
    ):
        writers = [asyncio.ensure_future(write(under.nodes, writer, seen, stop)) for writer in range(WRITERS)]
        strikes = Strikes(under, 1)
        try:
            while strikes.kills < KILLS_MAX:
                other = under.nodes.running[strikes.chance.choice(under.nodes.ids[1:])]
                await strikes.until_they_talk()
                other.send_signal(signal.SIGSTOP)  # no quorum without the killed one: its height waits for it
                under.apps.kill(0)  # or it would be ahead of the node, which would say so and vote no more
                await strikes.kill("kill one", 0)
                await asyncio.sleep(AGAIN_S)  # if the proposer is paused, it has to say something else
                other.send_signal(signal.SIGCONT)
                if any("values" in each for each in judged(folder).double_signs()):
                    return strikes.kills
        finally:
            stop.set()
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
    raise AssertionError(f"nothing was seen in {strikes.kills} kills")


@pytest.mark.timeout(END_S + 60)
def test_nobody_signs_twice(tmp_path: Path) -> None:
    asyncio.run(tortured(tmp_path, seed=1))


@pytest.mark.timeout(END_S + 60)
def test_a_node_that_sends_before_it_writes_is_seen(tmp_path: Path) -> None:
    kills = asyncio.run(planted(tmp_path))
    print(f"seen after {kills} kills")
    faults = judged(tmp_path).faults()
    assert all(fault.startswith("node 1,") for fault in faults), faults
