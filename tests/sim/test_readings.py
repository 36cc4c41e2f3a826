"""Reads that take many steps, under faults: they are linearizable, and no node goes on for nobody.

One read in twenty takes far longer than its client waits. The planted bugs are the two rules that a node could forget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from quorate.kernel import App, Rng
from quorate.kernel.app import Steps
from quorate.machines.state_machine import StateMachine
from quorate.parts.crypto.keys import Scheme, Symbolic
from quorate.protocols import REGISTRY
from quorate.protocols.traits import Traits
from quorate.service.deadlines import NEVER, Deadlines
from quorate.service.readings import RETURN_TICKS, Call, Reading, Readings, Waiting
from quorate.service.replica import Replica
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.options import FAULTS, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.trial import Trial
from quorate.trials.campaign import CLUSTER
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import RegisterMachine, RegisterSubject

SEEDS = range(6)
LONG = (1, 2, 4, 5)
"""The second and the last found that a read in PBFT's log had no deadline."""
STEPS = 60
STEPS_MANY = 25_000
TIMEOUT_S = 0.4
DURATION_S = 20.0
WORKED_S_MAX = 5 * TIMEOUT_S + 2 * (RETURN_TICKS + 2)
"""Hardly a client waits longer than five timeouts; ticks are seconds of clocks that drift."""
WORKED_FOR_NOBODY = "no node works for nobody"


class SteppedRegisters(RegisterMachine):
    """A read takes milliseconds, and one in twenty, by itself, half a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._reads = 0

    def query_steps(self, query: bytes) -> Steps:
        answer = self.query(query)
        self._reads += 1
        for _ in range(STEPS_MANY if self._reads % 20 == 0 else STEPS):
            yield
        return answer


class SteppedSubject(RegisterSubject):
    """``plant`` makes a sick App of a healthy one."""

    def __init__(self, plant: Callable[[Replica], None], traits: Traits, scheme: Scheme | None) -> None:
        super().__init__(traits, scheme)
        self._plant = plant

    def machine(self, node: int) -> StateMachine:
        return SteppedRegisters()

    def app(self, node: int, rng: Rng) -> App:
        app = super().app(node, rng)
        assert isinstance(app, Replica)
        self._plant(app)
        return app


class WorksForSomebody(Checker):
    """A reading ends soon after the longest that a client waits, answered or not. In the end they wait for ever."""

    def __init__(self) -> None:
        self._world: Any = None
        self._since: dict[Reading, float] = {}

    def watch(self, world: Any) -> None:
        self._world = world

    def stepped(self, node: int, core: Any) -> None:
        app, now = self._world.nodes[node].app, self._world.now
        for reading in app.reads._readings if now < DURATION_S else ():
            since = self._since.setdefault(reading, now)
            if now - since > WORKED_S_MAX:
                raise Violation(
                    WORKED_FOR_NOBODY, f"node {node} has worked on {reading.query!r} for {now - since:.1f} s"
                )


class NoDeadlines(Deadlines):
    """Breaks the rule that what nobody waits for is dropped."""

    def until(self, remaining_ms: int) -> int:
        return NEVER


class AnswersAnybody(Readings):
    """Gives a call what another call of the same words has begun: a state that may be older than the call."""

    def returns(self, call: Call | None, waiting: Sequence[Waiting], until: int) -> bool:
        for reading in self._readings:
            if call is not None and reading.query == call.query and reading.answer is None:
                reading.waiting += waiting
                return True
        return False


def healthy(_: Replica) -> None:
    """As it is."""


def without_deadlines(app: Replica) -> None:
    app.deadlines = app.reads._deadlines = NoDeadlines()
    app.reads.closed = lambda client: None  # type: ignore[method-assign]


def answers_anybody(app: Replica) -> None:
    app.reads = AnswersAnybody(app._begin_query, app._reply, app._refuse, app.deadlines)


def swarm(seed: int) -> Mix:
    mix = draw(Random(f"{seed}/swarm"), FAULTS)
    mix.clients, mix.keys, mix.think_s, mix.timeout_s = 8, 2, 0.05, TIMEOUT_S
    mix.give_up = 0.9
    return mix


def run(seed: int, plant: Callable[[Replica], None] = healthy, protocol: str = "raft") -> RunOutcome:
    entry, equipment = REGISTRY[protocol], equipment_of(protocol)
    scheme = Symbolic(range(4), b"%d" % seed, CLUSTER) if entry.traits.has_keys else None
    return simulate(
        Trial(
            entry.make(equipment.simulation, None, scheme.keys if scheme else None),
            SteppedSubject(plant, entry.traits, scheme),
            Options(nodes=4 if scheme else 5, seed=seed, duration_s=DURATION_S),
            [*equipment.invariants, WorksForSomebody],
            mix=swarm(seed),
            scheme=scheme,
        )
    )


@pytest.mark.parametrize(
    ("seed", "protocol"),
    [
        *[pytest.param(seed, "raft", marks=pytest.mark.slow if seed in LONG else ()) for seed in SEEDS],
        *[pytest.param(seed, "pbft", marks=pytest.mark.slow if seed in LONG else ()) for seed in SEEDS],
    ],
)
def test_they_are_linearizable_and_end(seed: int, protocol: str) -> None:
    outcome = run(seed, protocol=protocol)
    assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


@pytest.mark.parametrize(
    ("plant", "violated"), [(without_deadlines, WORKED_FOR_NOBODY), (answers_anybody, "linearizability")]
)
def test_planted_bugs_are_seen(plant: Callable[[Replica], None], violated: str) -> None:
    assert any(run(seed, plant).violated == violated for seed in SEEDS)
