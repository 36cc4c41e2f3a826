"""A log that keeps everything ends at so many bytes, and says so; whoever has more room goes on."""

import heapq
import itertools
import random
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Asked, Env, Fired, Host, Received, Submitted, Turn
from quorate.parts.log.replicated import Busy, Decided, ReadFailed, ReadReady
from quorate.parts.slots import FULL, Reached, Slots, SlotsConfig, Told
from quorate.protocols.paxos import Paxos, PaxosConfig
from quorate.sim.chance import streams

from tests.parts.test_slots import PEERS, Log, tagged

LOG_BYTES = 240_000
CONFIG = SlotsConfig(window=8, log_bytes_max=LOG_BYTES, message_bytes_max=20_000)
VALUE_BYTES = 4_000


class Counting(Slots):
    """Planted: a budget that counts things."""

    size = staticmethod(lambda value: 1)


def held_bytes(log: Slots) -> int:
    """Counted here, and not as the node does."""
    return sum(map(len, [*log.values, *log.ahead.values(), *log._queue, *log._mine.values()]))


class Trio:
    """Three nodes over Paxos, whose messages take a millisecond, and clients that give each more than it can take."""

    def __init__(self, kind: type[Slots] = Slots, configs: dict[int, SlotsConfig] | None = None) -> None:
        made: Any = type("Made", (kind,), {"children": (Paxos,)})
        self.now = 0.0
        self.coming: list[tuple[float, int, int, Any]] = []
        self.most = 0
        self.outputs: dict[int, list[Any]] = {node: [] for node in PEERS}
        self._rng = random.Random(1)
        self._numbers = itertools.count()
        self._timers: dict[tuple[int, Any, Any], int] = {}
        self.hosts: dict[int, Host] = {}
        for node in PEERS:
            config = (configs or {}).get(node, CONFIG)
            make = partial(self._make, made, config)
            self.hosts[node] = Host(make, node, PEERS, streams(node))
            self._take(node, self.hosts[node].start(0.0))

    @staticmethod
    def _make(made: Any, config: SlotsConfig, env: Env) -> Slots:
        return made(env, config, Paxos, PaxosConfig(ask_s=None))  # type: ignore[no-any-return]

    def core(self, node: int) -> Any:
        return self.hosts[node].root

    def step(self, node: int, *inputs: Any) -> None:
        self._take(node, self.hosts[node].step(inputs, self.now))
        self.most = max(self.most, held_bytes(self.core(node)))

    def _take(self, node: int, turn: Turn) -> None:
        self.outputs[node] += turn.outputs
        for send in (*turn.early, *turn.sends):
            for to in send.to:
                self._put(self.now + 0.001, to, Received(node, send.message, send.path))
        for timer in turn.timers:
            name = (node, timer.path, timer.key)
            self._timers.pop(name, None)
            if timer.at is not None:
                self._timers[name] = self._put(timer.at, node, Fired(timer.key, timer.path))

    def _put(self, at: float, node: int, what: Any) -> int:
        number = next(self._numbers)
        heapq.heappush(self.coming, (at, number, node, what))
        return number

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.coming and self.coming[0][0] <= end:
            self.now, number, node, what = heapq.heappop(self.coming)
            if isinstance(what, Fired):
                if self._timers.get((node, what.path, what.key)) != number:
                    continue  # it was set anew
                del self._timers[node, what.path, what.key]
            self.step(node, what)
        self.now = end

    def flood(self, seconds: float) -> set[str]:
        """Why values were refused."""
        for _ in range(round(seconds / 0.02)):
            for node in PEERS:
                self.step(node, Submitted(tuple(self._rng.randbytes(VALUE_BYTES) for _ in range(8))))
            self.run(0.02)
        self.run(2.0)
        return {output.why for outputs in self.outputs.values() for output in outputs if isinstance(output, Busy)}


def test_three_nodes_that_are_flooded_stay_within_the_log() -> None:
    trio = Trio()
    assert trio.flood(5.0) == {FULL, "too many values wait for a slot"}
    assert LOG_BYTES * 2 // 3 < trio.most <= LOG_BYTES
    assert len({len(trio.core(node).values) for node in PEERS}) == 1
    assert [trio.core(node)._own_bytes for node in PEERS] == [0] * 3, "nothing is left over"
    trio.step(2, Asked((7,)))
    trio.run(1.0)
    assert ReadReady((7,)) in trio.outputs[2], "reads have room left"


def test_a_budget_that_counts_things_is_seen() -> None:
    trio = Trio(Counting)
    trio.flood(1.0)
    assert trio.most > 2 * LOG_BYTES


def test_a_node_with_less_room_leaves_the_rest_to_the_others() -> None:
    """It is silent then, as with a full disk; what it has it keeps."""
    small = replace(CONFIG, log_bytes_max=LOG_BYTES // 4)
    trio = Trio(configs={3: small})
    trio.flood(5.0)
    assert held_bytes(trio.core(1)) > LOG_BYTES * 2 // 3
    assert held_bytes(trio.core(3)) <= small.log_bytes_max * 5 // 4 + (CONFIG.window + 1) * (VALUE_BYTES + 100)
    assert {trio.core(node).leader for node in (1, 2)} == {1}


def test_reads_end_with_the_log() -> None:
    log = Log(config=replace(CONFIG, log_bytes_max=1000))
    log.decide(1, tagged(1, bytes(800), node=2))
    assert log.step(Asked((1,))).outputs == ()
    log.decide(2, tagged(2, bytes(100), node=2))
    assert log.step(Asked((2,))).outputs == [ReadFailed((2,), FULL)]
    assert log.step(Submitted((b"",))).outputs == [Busy((b"",), FULL)]


def test_beyond_the_log_a_node_takes_in_nothing_and_says_nothing() -> None:
    log = Log(config=replace(CONFIG, log_bytes_max=1000))
    log.decide(1, tagged(1, bytes(1300), node=2))
    assert not log.on(2, Reached(5)).sends, "it asks for nothing"
    assert not log.on(2, Told(2, (tagged(2, b"x", node=2),), 2)).outputs
    assert not [send for send in log.beat().sends if isinstance(send.message, Reached)]
    assert log.step(Submitted((b"a",))).outputs == [Busy((b"a",), FULL)]


def test_a_restart_counts_what_it_has() -> None:
    before = Log(config=replace(CONFIG, log_bytes_max=1000))
    before.decide(1, tagged(1, bytes(900), node=2))
    again = Log(records=list(before.host.checkpoint()), config=replace(CONFIG, log_bytes_max=1000))
    assert Decided in map(type, again.started.outputs)
    assert again.step(Submitted((b"a",))).outputs == [Busy((b"a",), FULL)]


@pytest.mark.parametrize("won", [True, False])
def test_what_is_decided_leaves_the_room_of_what_waits(won: bool) -> None:
    log = Log()
    log.step(Submitted((b"a" * 100,)))
    core: Any = log.host.root
    assert core._own_bytes == Slots.size(tagged(1, b"a" * 100))
    log.decide(1, tagged(1, b"a" * 100) if won else tagged(9, b"other", node=2))
    assert core._own_bytes == (0 if won else Slots.size(tagged(1, b"a" * 100)))
    assert core._bytes == sum(map(Slots.size, core.values))
