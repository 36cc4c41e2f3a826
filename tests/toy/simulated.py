"""The toy in the simulator: its clients, its checker, and one run of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from quorate.kernel import App, Core, Env, Rng, Shell
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.logs import LogSubject
from quorate.sim.options import FAULTS, Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Driver
from quorate.sim.world import World

from tests.sim.casting import Casting
from tests.toy.app import Applied, AskedApp, Chain, Submit
from tests.toy.asking import Asking, Decided

AGREEMENT = "agreement"
VALIDITY = "validity"
PROGRESS = "progress"
ERROR = "no error"


class Submitter(Casting):
    """Whatever the operation, it is a submission to all nodes, done when one of them has run it."""

    def __init__(self, client: int, nodes: Sequence[int], patience_s: float) -> None:
        super().__init__(nodes, patience_s)
        self._client = client

    def words(self) -> list[tuple[int, Any]]:
        submit = Submit(str(self.identity()), b"%d" % self.count)
        return [(node, submit) for node in self.nodes]

    def understands(self, response: Applied) -> bool:
        return response.id == self.identity()

    def identity(self) -> Hashable:
        return f"{self._client}/{self.count}"


class ToySubject(LogSubject):
    """AskedApps, on some nodes others. ``apps`` has all that were made, by node, one a life."""

    def __init__(self, others: Mapping[int, Callable[[], AskedApp]] | None = None) -> None:
        self._others = others or {}
        self.apps: dict[int, list[AskedApp]] = {}

    def app(self, node: int, rng: Rng) -> App:
        made = self._others.get(node, AskedApp)()
        self.apps.setdefault(node, []).append(made)
        return made

    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        return Submitter(client, nodes, patience_s)

    def all_apps(self) -> list[AskedApp]:
        return [app for lives in self.apps.values() for app in lives]


class Decisions(Checker):
    """All nodes decide the same, by the rule and without gaps, and what a client was told is among it."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.agreed: list[bytes] = []
        self._reached: dict[int, int] = {}

    def started(self, node: int, core: Core) -> None:
        self._reached[node] = 0

    def output(self, node: int, value: Any) -> None:
        assert isinstance(value, Decided)
        if value.first_index != self._reached[node] + 1:
            raise Violation(AGREEMENT, f"node {node} decides height {value.first_index} after {self._reached[node]}")
        for height, entry in enumerate(value.entries, value.first_index):
            if height <= len(self.agreed):
                if self.agreed[height - 1] != entry.data:
                    raise Violation(AGREEMENT, f"at height {height} node {node} decides another value")
                continue
            try:
                self.chain.add(entry.data)
            except ValueError as error:
                raise Violation(VALIDITY, f"node {node} decides a bad value at height {height}: {error}") from error
            self.agreed.append(entry.data)
        self._reached[node] += len(value.entries)

    def finish(self, world: World) -> None:
        lost = [id for id in world.workload.acknowledged if id not in self.chain.ids]
        if lost:
            raise Violation(AGREEMENT, f"{lost[0]} was acknowledged and is in no value")
        if not self.agreed:
            raise Violation(PROGRESS, "nothing was decided")


class Outcome:
    """One run, which has ended: ``violated`` is the property that does not hold, None if all do."""

    def __init__(self, world: World, subject: ToySubject, decisions: Decisions) -> None:
        self.world = world
        self.subject = subject
        self.decisions = decisions
        self.violated: str | None = None
        self.text = ""


def toy(
    seed: int,
    others: Mapping[int, Callable[[], AskedApp]] | None = None,
    *,
    core: Callable[[Env], Core] = Asking,
    nodes: int = 3,
    faults: tuple[str, ...] = FAULTS,
    duration_s: float = 5.0,
    mix: Mix | None = None,
    shell: type[Shell] = Shell,
    by_inputs: bool = False,
) -> Outcome:
    """Run one seed to its end or to the first violation."""
    subject, decisions = ToySubject(others), Decisions()
    options = Options(seed=seed, nodes=nodes, faults=faults, duration_s=duration_s, by_inputs=by_inputs)
    outcome = Outcome(World(Trial(core, subject, options, mix=mix, shell=shell), (decisions,)), subject, decisions)
    try:
        outcome.world.run()
    except Violation as violation:
        outcome.violated, outcome.text = violation.property, violation.text
    except Exception as error:  # of the core or of an App
        outcome.violated, outcome.text = ERROR, f"{type(error).__name__}: {error}"
    return outcome
