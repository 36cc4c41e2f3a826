"""One node of a protocol, stepped by a test: a Host and a clock. Each method takes one step and returns its Turn.

What a protocol adds, such as its records and the honest steps to a state, is in its own `<protocol>_nodes.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from quorate.kernel import Asked, Core, Done, Env, Fired, Host, Input, Received, Record, Stalled, Submitted, Turn
from quorate.sim.chance import streams

THREE, FIVE = (1, 2, 3), (1, 2, 3, 4, 5)


class SteppedNode:
    """What ``make`` makes of an Env, recovered from ``records`` and started at ``now``."""

    def __init__(
        self,
        make: Callable[[Env], Core],
        node: int,
        peers: tuple[int, ...],
        *,
        records: Sequence[Any] = (),
        seed: int = 0,
        now: float = 100.0,
        incarnation: bytes = b"",
    ) -> None:
        self.now = now
        self.node = node
        self.host = Host(make, node, peers, streams(seed), incarnation=incarnation)
        for record in records:
            self.host.restore(Record((), record))
        self.started = self.host.start(now)

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
        return self.host.step(inputs, self.now)

    def on(self, sender: int, *messages: Any) -> Turn:
        """Messages of one sender, in one step."""
        return self.step(*[Received(sender, message) for message in messages])

    def submit(self, *values: str | bytes) -> Turn:
        """Values from above."""
        return self.step(Submitted(tuple(value.encode() if isinstance(value, str) else value for value in values)))

    def read(self, *tokens: int) -> Turn:
        """Reads from above."""
        return self.step(Asked(tokens))

    def done(self, key: Any, result: Any) -> Turn:
        """A job's result."""
        return self.step(Done(key, result))

    def stall(self, why: str | None) -> Turn:
        """Storage says this."""
        return self.step(Stalled(why))

    def fire(self, key: str, after_s: float = 0.0) -> Turn:
        """Time passes, and a timer runs out."""
        self.now += after_s
        return self.step(Fired(key))
