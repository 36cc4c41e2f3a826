"""Builders for tests of one Paxos node: a state from records or honest steps, then one step and its exact effects."""

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Fired, Host, Input, Received, Record, Submitted, Turn
from quorate.protocols.paxos import Paxos, PaxosConfig
from quorate.sim.chance import streams

THREE, FIVE = (1, 2, 3), (1, 2, 3, 4, 5)
CONFIG = PaxosConfig(ask_s=None)


class Node:
    """One Host, number 1 unless told. Each method takes one step and returns its Turn."""

    def __init__(
        self,
        node: int = 1,
        peers: tuple[int, ...] = THREE,
        *,
        records: Sequence[Any] = (),
        config: PaxosConfig = CONFIG,
        make: type[Paxos] = Paxos,
    ) -> None:
        self.host = Host(lambda env: make(env, config), node, peers, streams(node))
        for record in records:
            self.host.restore(Record((), record))
        self.started = self.host.start(0.0)

    @property
    def core(self) -> Any:
        """The core, to look at."""
        return self.host.root

    @property
    def records(self) -> list[Any]:
        """What a compacted journal would hold."""
        return [record.value for record in self.host.checkpoint()]

    def step(self, *inputs: Input) -> Turn:
        """Inputs of one step."""
        return self.host.step(inputs, 10.0)

    def on(self, sender: int, *messages: Any) -> Turn:
        """Messages of one sender, in one step."""
        return self.step(*[Received(sender, message) for message in messages])

    def submit(self, *values: bytes) -> Turn:
        """Values from above."""
        return self.step(Submitted(values))

    def retry(self) -> Turn:
        """The proposer's timer runs out."""
        return self.step(Fired("retry"))


def without_timers(turn: Turn) -> Turn:
    """The Turn, but for its timers, whose times are random."""
    turn.timers = ()
    return turn
