"""Builders for tests of one Paxos node: a state from records or honest steps, then one step and its exact effects."""

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Turn
from quorate.protocols.paxos import Paxos, PaxosConfig

from tests.protocols.stepped import THREE, SteppedNode

CONFIG = PaxosConfig(ask_s=None)


class Node(SteppedNode):
    """Number 1 unless told."""

    def __init__(
        self,
        node: int = 1,
        peers: tuple[int, ...] = THREE,
        *,
        records: Sequence[Any] = (),
        config: PaxosConfig = CONFIG,
        make: type[Paxos] = Paxos,
    ) -> None:
        super().__init__(lambda env: make(env, config), node, peers, records=records, seed=node, now=0.0)
        self.now = 10.0

    def retry(self) -> Turn:
        """The proposer's timer runs out."""
        return self.fire("retry")


def without_timers(turn: Turn) -> Turn:
    """The Turn, but for its timers, whose times are random."""
    turn.timers = ()
    return turn
