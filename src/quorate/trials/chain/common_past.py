"""What proof of work promises while messages arrive soon: a common past, growth, and a share of honest blocks.

How it works. These promises rest on a bound for delays, so they are checked in the windows of a run in which nothing
fails, and not before ``SETTLE_S`` have passed in them. Then, with all honest nodes:

- *common prefix*: whatever lies ``k`` blocks below the head of one is on the chain of every other, now and later. The
  depth follows from the share of those that lie: an attacker catches up from z behind with probability (q / p)^z.
- *growth*: an honest block that no other one precedes by less than ``DELTA_S`` makes every chain longer by one.
- *quality*: each such block is on the chain, unless one of a liar has its place.

The last two need no luck of the draw: they compare the chain with what was mined, not with what should have been.

Sources: Nakamoto 2008, section 11; Garay, Kiayias and Leonardos 2015, definitions 3 to 5; Pass, Seeman and shelat 2017,
for blocks that are alone.
"""

from __future__ import annotations

from math import ceil, log
from typing import Any, Final

from quorate.protocols.nakamoto.chain_equipment import proposer_of
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.swarm import Mix
from quorate.trials.chain.mining import Miners

PREFIX: Final = "a common past"
GROWTH: Final = "the chain grows"
QUALITY: Final = "honest blocks are on the chain"
LOOK_EVERY_S: Final = 1.0
SETTLE_S: Final = 5.0
"""What was late is in its place after so long."""
WINDOW_S: Final = 20.0
DELTA_S: Final = 0.5
"""What a block takes to all honest nodes, executed, if nothing fails."""
DELAY_S_MAX: Final = 0.03
"""The mean delay with which that holds."""
DEPTH_MIN: Final = 8
ODDS: Final = 1e-6


def depth_of(liars: int, nodes: int) -> int:
    """Below how many blocks the past is common, but with odds that are small (Nakamoto 2008, section 11)."""
    share = liars / nodes
    if share == 0.0:
        return DEPTH_MIN
    return max(DEPTH_MIN, ceil(log(ODDS) / log(share / (1.0 - share)))) if share < 0.5 else 10**9


class CommonPast(Checker):
    """``windows`` is how many windows were judged."""

    def __init__(self, miners: Miners) -> None:
        self._miners = miners
        self._world: Any = None
        self._since_s: float | None = None
        self._from: tuple[float, int] | None = None
        """When the window began, and how high the lowest chain was."""
        self._past: list[bytes] = []
        """What was common at the last look."""
        self.depth = DEPTH_MIN
        self.windows = 0

    def watch(self, world: Any) -> None:
        """It looks from time to time."""
        self._world = world
        self.depth = depth_of(world.liars.bit_count(), len(world.nodes))
        if is_fast(world.mix):
            world.after(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        world = self._world
        world.after(LOOK_EVERY_S, self._look)
        if not is_calm(world):
            self._since_s = self._from = None
            self._past = []
            return
        if self._since_s is None:
            self._since_s = world.now
        if world.now - self._since_s < SETTLE_S:
            return
        chains = {node.id: node.app.main for node in world.honest}
        self._past = common_past(chains, self.depth, self._past)
        lowest = min(map(len, chains.values())) - 1
        if self._from is None:
            self._from = world.now, lowest
        elif world.now - self._from[0] >= WINDOW_S:
            self._judge(self._from[0], self._from[1], lowest)
            self._from = world.now, lowest

    def _judge(self, began_s: float, height: int, lowest: int) -> None:
        """A window, in which the lowest chain grew from one height to another."""
        world = self._world
        self.windows += 1
        honest = {node.id for node in world.honest}
        end_s = world.now - DELTA_S
        alone = alone_between(self._miners.found_at, honest, began_s, end_s)
        if lowest - height < alone:
            took_s = world.now - began_s
            raise Violation(GROWTH, f"by {lowest - height} blocks in {took_s:g} s, and {alone} were mined well apart")
        of_liars = sum(node not in honest for _, node in self._miners.found_at)
        app = world.honest[0].app
        proposers = {proposer_of(node) for node in honest}
        good = sum(app.engine.done[id].block.payload.proposer in proposers for id in app.main[height + 1 :])
        if good < alone - of_liars:
            text = f"{good} in {world.now - began_s:g} s: {alone} were mined well apart, and liars have {of_liars}"
            raise Violation(QUALITY, text)


def is_fast(mix: Mix) -> bool:
    """Whether messages arrive soon, where nothing fails."""
    is_even = not mix.uneven_links and not mix.delay_tail and mix.drift is None and mix.regions is None
    may_hang = "hung-disk" in mix.disk_faults
    return is_even and not may_hang and mix.uplink_bytes_per_s is None and mix.delay_s_mean <= DELAY_S_MAX


def is_calm(world: Any) -> bool:
    """Whether nothing fails at the moment."""
    network = world.network
    if network.loss or network.clogs or network.parted is not None or any(network.cuts):
        return False
    return all(
        node.up and not node.paused and node.disk.stalled is None and node.disk.slowness == 1.0 for node in world.honest
    )


def common_past(chains: dict[int, list[bytes]], depth: int, before: list[bytes]) -> list[bytes]:
    """What lies so deep below the head of any chain. It must be on all, and so must what lay there before.

    Raises Violation.
    """
    name, longest = max(chains.items(), key=lambda each: len(each[1]))
    past = longest[: max(0, len(longest) - depth)]
    for node, chain in chains.items():
        if chain[: len(past)] != past:
            raise Violation(PREFIX, f"nodes {node} and {name} differ more than {depth} blocks below a head")
    if past[: len(before)] != before and len(past) >= len(before):
        raise Violation(PREFIX, f"what lay {depth} blocks below the heads is on no chain any more")
    return past


def alone_between(found_at: list[tuple[float, int]], honest: set[int], began_s: float, end_s: float) -> int:
    """Honest blocks that were mined in this time, each ``DELTA_S`` after the one that was counted before it."""
    count, last_s = 0, began_s
    for found_s, node in found_at:
        if node in honest and last_s + DELTA_S <= found_s <= end_s:
            count, last_s = count + 1, found_s
    return count
