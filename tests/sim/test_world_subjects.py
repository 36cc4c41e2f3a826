"""What a Subject decides: which checkers watch, what comes from outside, and when all has come right."""

from collections.abc import Sequence
from typing import Any

import pytest

from quorate.kernel import App, Core, Requester, Rng
from quorate.parts.crypto.keys import Scheme, Symbolic
from quorate.protocols import REGISTRY
from quorate.protocols.raft.invariants import RaftInvariants
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.clients import Clients
from quorate.sim.options import Options
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Results, Subject, Workload
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import RegisterSubject

from tests.sim.worlds import NoApp, NoSubject, Witness

RAFT = REGISTRY["raft"]
SIMULATION = equipment_of("raft").simulation


def kinds(checkers: Sequence[Checker]) -> list[str]:
    return [type(checker).__name__ for checker in checkers]


def test_a_log_is_checked_for_all_that_logs_promise_in_this_order() -> None:
    logs = ["Durability", "Once", "LinearizableHistory"]
    assert kinds(NoSubject().checkers([], None)) == ["LogAgreement", *logs]
    signed = NoSubject().checkers([RaftInvariants()], Symbolic(range(4), b""))
    assert kinds(signed) == ["LogAgreement", "Validity", "RaftInvariants", *logs]


# --- the least that a subject is ---


class Bare(Subject):
    """An App and nothing else."""

    def app(self, node: int, rng: Rng) -> App:
        return NoApp()


def test_a_bare_subject_has_no_clients_and_no_checkers_but_the_protocols_own() -> None:
    raft = RaftInvariants()
    assert Bare().checkers([raft], None) == [raft]
    outcome = simulate(
        Trial(RAFT.make(SIMULATION), Bare(), Options(seed=1, duration_s=5.0), (RaftInvariants,), mix=Mix())
    )
    assert outcome.holds, outcome.text
    assert outcome.messages > 100
    assert (outcome.operations, outcome.answered, outcome.committed, outcome.undecided) == (0, 0, 0, False)
    assert "unknown" not in outcome.counts
    assert outcome.virtual_s == pytest.approx(5.05), "nothing to wait for after healing"


# --- a subject of another kind ---


class Asking(Workload):
    """Asks each node once, at a time of its own, and is idle when all have replied."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.replies: list[tuple[int, Requester, Any]] = []
        self.finished_at = 0.0

    @property
    def are_idle(self) -> bool:
        return self.answered == self.operations

    def start(self) -> None:
        for node in self.world.nodes:
            self.operations += 1
            asker = Asker(self, node.id)
            self.world.after(0.1 + node.id, lambda node=node, asker=asker: node.request(asker, 7))  # type: ignore[misc]

    def finish(self) -> None:
        self.finished_at = self.world.now

    def missing(self) -> str:
        return "" if self.are_idle else f"{self.operations - self.answered} nodes are silent"

    def reply(self, node: int, client: Requester, response: Any) -> None:
        self.answered += 1
        self.replies.append((node, client, response))


class Asker:
    """Who asks one node."""

    def __init__(self, asking: Asking, node: int) -> None:
        self.principal = f"asker {node}"
        self._asking = asking
        self._node = node

    def reply(self, response: Any) -> None:
        self._asking.reply(self._node, self, response)


class Answering(NoApp):
    """Answers, unless it is to be silent."""

    def __init__(self, is_silent: bool) -> None:
        super().__init__()
        self.is_silent = is_silent

    def request(self, client: Requester, request: Any) -> None:
        if not self.is_silent:
            self.port.reply(client, request + 1)


class Seen(Checker):
    """Counts the starts that it saw, and that the run ended."""

    def __init__(self) -> None:
        self.started_nodes: list[int] = []
        self.finished = False

    def started(self, node: int, core: Core) -> None:
        self.started_nodes.append(node)

    def finish(self, world: World) -> None:
        self.finished = True


class Own(Subject):
    """All decisions differ from a log's. It has converged at ``right_at``; from ``wrong_at`` on it never can."""

    def __init__(self, silent: int | None = None, right_at: float = 0.0, wrong_at: float = 1e9) -> None:
        self.silent = silent
        self.right_at = right_at
        self.wrong_at = wrong_at
        self.seen = Seen()
        self.work: Asking | None = None

    def app(self, node: int, rng: Rng) -> App:
        return Answering(node == self.silent)

    def workload(self, world: World) -> Workload:
        assert len(world.nodes) == 3
        self.work = Asking(world)
        return self.work

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        return [self.seen, *protocol]

    def converged(self, world: World) -> bool:
        if world.now >= self.wrong_at:
            raise Violation("convergence", "two truths")
        return world.now >= self.right_at

    def missing(self, world: World) -> str:
        return f"it is not yet {self.right_at:g}"

    def results(self, world: World) -> Results:
        assert self.work is not None
        return Results(committed=5, undecided=True, counts={"replies": len(self.work.replies)}, data=[b"x"])


OPTIONS = Options(nodes=3, faults=(), duration_s=2.0, healing_s=10.0)


def test_a_subject_brings_its_own_workload_checkers_and_end() -> None:
    subject = Own(right_at=5.0)
    outcome = simulate(Trial(Witness, subject, OPTIONS, mix=Mix()))
    assert outcome.holds, outcome.text
    assert subject.work is not None
    replies = [(node, client.principal, response) for node, client, response in subject.work.replies]
    assert replies == [(node, f"asker {node}", 8) for node in range(3)]
    assert subject.work.finished_at == 2.0
    assert subject.seen.started_nodes == [0, 1, 2]
    assert subject.seen.finished
    assert outcome.virtual_s == pytest.approx(5.0, abs=0.06)
    assert (outcome.operations, outcome.answered, outcome.committed, outcome.undecided) == (3, 3, 5, True)
    assert outcome.counts["replies"] == 3


def test_what_a_subject_adds_to_the_digest_counts() -> None:
    class Other(Own):
        def results(self, world: World) -> Results:
            return Results(data=[b"y"])

    own, other = (simulate(Trial(Witness, subject, OPTIONS, mix=Mix())) for subject in (Own(), Other()))
    assert own.digest != other.digest


@pytest.mark.parametrize(
    ("subject", "violated", "words"),
    [
        (Own(silent=1), "liveness", "10 s after all was healed: 1 nodes are silent"),
        (Own(right_at=1e6), "liveness", "10 s after all was healed: it is not yet 1e+06"),
        (Own(right_at=1e6, wrong_at=4.0), "convergence", "two truths"),
    ],
)
def test_what_never_comes_right_is_a_violation(subject: Own, violated: str, words: str) -> None:
    outcome = simulate(Trial(Witness, subject, OPTIONS, mix=Mix()))
    assert (outcome.violated, outcome.text) == (violated, words)


# --- how many clients, and how many nodes ---


@pytest.mark.parametrize(("asked", "count"), [(None, 3), (0, 0), (5, 5)])
def test_there_are_as_many_clients_as_the_options_say(asked: int | None, count: int) -> None:
    world = World(Trial(Witness, NoSubject(), Options(nodes=3, clients=asked), mix=Mix(clients=3)))
    assert isinstance(world.workload, Clients)
    assert len(world.workload.members) == count


def test_a_log_without_clients_has_nothing_to_wait_for_but_equal_nodes() -> None:
    outcome = simulate(Trial(RAFT.make(SIMULATION), RegisterSubject(), Options(seed=1, clients=0), (RaftInvariants,)))
    assert outcome.holds, outcome.text
    assert (outcome.operations, outcome.undecided) == (0, False)
    assert outcome.messages > 100


def test_of_many_nodes_that_have_not_converged_only_the_ends_are_named() -> None:
    few, many = (World(Trial(Witness, NoSubject(), Options(nodes=nodes), mix=Mix())) for nodes in (3, 17))
    for world in (few, many):
        world.start()
        world.nodes[1].jobs.applied[()] = 7
        assert not world.subject.converged(world)
    assert few.subject.missing(few) == "the nodes have applied up to [0, 7, 0]"
    assert many.subject.missing(many) == "of 17 nodes the last has applied up to 0, the first up to 7"
