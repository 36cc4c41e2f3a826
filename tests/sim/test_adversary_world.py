"""Byzantine nodes in a World: who lies, what checkers make of it, and that a protocol for crashes is seen to break."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from quorate.kernel import App, Blame, Env, Rng, Send
from quorate.protocols import REGISTRY
from quorate.protocols.raft.invariants import RaftInvariants
from quorate.sim.adversary.liar import Liar
from quorate.sim.adversary.lying_node import LyingNode
from quorate.sim.adversary.twins import Twin
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.mutant import Mutant
from quorate.sim.node import SimNode
from quorate.sim.options import Options, OptionsError
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import RegisterSubject

from tests.sim.worlds import NoSubject, Note, Witness, seen

SRC = Path(__file__).resolve().parents[2] / "src"
RAFT = REGISTRY["raft"]
SIMULATION = equipment_of("raft").simulation


class Ten(Liar):
    """Adds ten to whatever it says."""

    name = "ten"

    def tell(self, send: Send) -> Iterable[Send]:
        self.means.count(self.name)
        return (Send(send.to, send.path, Note(send.message.number + 10)),)


def lying(liars: tuple[type[Liar], ...] = (Ten,), **options: object) -> tuple[World, LyingNode]:
    """A world of four Witnesses, one of which lies; and that one."""
    names = tuple(liar.name for liar in liars)
    chosen = Options(nodes=4, byzantine=1, adversary=names, **options)  # type: ignore[arg-type]
    world = World(Trial(Witness, NoSubject(), chosen, mix=Mix(), liars=liars), [Alert()])
    for node in world.nodes:
        node.start()
    liar = next(node for node in world.nodes if isinstance(node, LyingNode))
    return world, liar


class Alert(Checker):
    """Which nodes were looked at."""

    def __init__(self) -> None:
        self.saw: set[int] = set()

    def started(self, node: int, core: object) -> None:
        self.saw.add(node)

    def stepped(self, node: int, core: object) -> None:
        self.saw.add(node)

    def mark(self, node: int) -> int:
        self.saw.add(node)
        return node

    def output(self, node: int, value: object) -> None:
        self.saw.add(node)


def test_a_lie_reaches_the_others_and_not_oneself() -> None:
    world, liar = lying()
    liar.request(0, 7)
    world.run_until(1.0)
    assert seen(world, liar.id) == [7]
    assert [seen(world, node.id) for node in world.honest] == [[17]] * 3
    assert liar.means.told == {"ten": 1}


def test_no_checker_looks_at_a_liar() -> None:
    world, liar = lying()
    alert = world.checkers[0]
    assert isinstance(alert, Alert)
    for node in world.nodes:
        node.request(0, node.id)
    world.run_until(1.0)
    assert alert.saw == {node.id for node in world.honest} == {0, 1, 2, 3} - {liar.id}


def test_who_lies_is_for_the_seed_to_say() -> None:
    liars = {lying(seed=seed)[1].id for seed in range(40)}
    assert liars == {0, 1, 2, 3}
    assert all(lying(seed=seed)[1].id == lying(seed=seed)[1].id for seed in range(5))
    nobody = World(Trial(Witness, NoSubject(), Options(nodes=4), mix=Mix()))
    assert nobody.liars == 0
    assert nobody.honest == nobody.nodes


def test_at_least_one_node_is_honest() -> None:
    with pytest.raises(OptionsError, match="4 Byzantine nodes of 4; at least one"):
        Options(nodes=4, byzantine=4)
    with pytest.raises(OptionsError):
        Options(byzantine=-1)


def test_blame_is_for_the_guilty() -> None:
    world, liar = lying()
    honest, other = world.honest[:2]
    world.blamed(honest.id, Blame(liar.id, "voted 2 times in view 7"))
    world.blamed(honest.id, Blame(liar.id, "voted 3 times in view 9"))
    assert world.blamed_liars == {"voted N times in view N": 2}
    world.blamed(liar.id, Blame(honest.id, "is bad"))
    assert world.blames == 2
    with pytest.raises(Violation, match=f"node {honest.id} says that node {other.id} is bad"):
        world.blamed(honest.id, Blame(other.id, "is bad"))


class Fragile(Witness):
    """Cannot bear the number 3."""

    def on_note(self, sender: int, message: Note) -> None:
        assert message.number != 3
        super().on_note(sender, message)


def test_a_liar_that_falls_over_its_own_lies_is_down_and_no_violation() -> None:
    world, liar = lying()
    world.make = Fragile
    for node in world.nodes:
        node.crash()
        node.start()
    liar.request(0, 3)
    world.run_until(1.0)
    assert liar.fell.startswith("AssertionError")
    assert not liar.up
    liar.restart()
    assert not liar.up
    assert [seen(world, node.id) for node in world.honest] == [[13]] * 3
    world.honest[0].request(0, 3)
    with pytest.raises(AssertionError):
        world.run_until(2.0)


class Later(Liar):
    """Says everything half a second later."""

    name = "later"

    def tell(self, send: Send) -> Iterable[Send]:
        self.means.delayed.append((0.5, send))
        return ()


def test_what_a_liar_delays_comes_later() -> None:
    world, liar = lying((Later,))
    liar.request(0, 7)
    world.run_until(0.49)
    assert [seen(world, node.id) for node in world.honest] == [[]] * 3
    world.run_until(0.6)
    assert [seen(world, node.id) for node in world.honest] == [[7]] * 3


# --- twins ---


def doubled() -> tuple[World, Twin]:
    """A world of four Witnesses, one of which is two."""
    world = World(Trial(Witness, NoSubject(), Options(nodes=4, byzantine=1, adversary=("twins",)), mix=Mix()))
    for node in world.nodes:
        node.start()
    twin = next(node for node in world.nodes if isinstance(node, Twin))
    return world, twin


def numbers(node: SimNode) -> list[int]:
    """What a process has seen."""
    core = node.host.root
    assert isinstance(core, Witness)
    return [number for _, _, number in core.seen]


def test_each_twin_speaks_to_its_side_and_to_itself() -> None:
    world, twin = doubled()
    first, second, _ = world.honest
    twin.sides._until = 100.0
    twin.sides._masks = [1 << first.id, 1 << second.id]
    twin.submit([b"1"])
    twin.other.submit([b"2"])
    twin._wake()
    twin.other._wake()
    world.run_until(1.0)
    assert numbers(twin) == [1]
    assert numbers(twin.other) == [2]
    assert [numbers(node) for node in world.honest] == [[1], [2], []]
    first.request(0, 3)
    second.request(0, 4)
    world.run_until(2.0)
    assert (numbers(twin), numbers(twin.other)) == ([1, 3], [2, 4])
    assert twin.means.told == {"twins": 2}


def test_clients_speak_to_both_twins_and_crashes_strike_both() -> None:
    world, twin = doubled()
    twin.request(0, 7)
    world.run_until(1.0)
    assert numbers(twin) == numbers(twin.other) == [7]
    twin.pause()
    assert twin.other.paused
    twin.resume()
    twin.stall("full")
    assert twin.other.disk.stalled == "full"
    twin.stall(None)
    twin.set_clock(1.05, 0.0)
    assert twin.other.clock.rate == 1.05
    twin.crash()
    assert not twin.other.up
    twin.restart()
    assert twin.other.up
    for each in (twin, twin.other):
        core = each.host.root
        assert isinstance(core, Witness)
        assert core.restored == [7]


def test_sides_change() -> None:
    world, twin = doubled()
    others = [node.id for node in world.honest]
    found = set()
    for moment in range(200):
        heard = [tuple(twin.sides.has(side, node, float(moment)) for node in others) for side in (0, 1)]
        assert all(one or two for one, two in zip(*heard, strict=True)), "somebody hears neither"
        found.add(tuple(heard))
    assert len(found) > 10


# --- a protocol for crashes ---


def raft(seed: int, adversary: str, nodes: int = 5, faults: str = "none", byzantine: int = 1) -> RunOutcome:
    task = Task(
        protocol="raft",
        seed=seed,
        nodes=nodes,
        faults=faults,
        duration_s=5.0,
        byzantine=byzantine,
        adversary=adversary,
    )
    return campaign.run_task(task)


@pytest.mark.parametrize("adversary", ["silent", "slow", "silent,slow"])
def test_raft_bears_a_node_that_is_silent_or_slow(adversary: str) -> None:
    outcomes = [raft(seed, adversary, faults="all") for seed in range(12)]
    assert [outcome.text for outcome in outcomes if not outcome.holds] == []
    assert sum(sum(outcome.lies.values()) for outcome in outcomes) > 1000


@pytest.mark.parametrize(
    ("adversary", "properties"),
    [
        ("equivocating", {"log matching", "no blame", "state machine safety"}),
        ("byzzfuzz", {"log matching", "no blame"}),
        ("deceiving", {"linearizability"}),
        ("twins", {"leader completeness", "state machine safety", "election safety"}),
    ],
)
def test_raft_is_seen_to_break_under_lies(adversary: str, properties: set[str]) -> None:
    found = (raft(seed, adversary).violated for seed in range(20))
    assert any(violated in properties for violated in found)


def test_the_outcome_counts_lies_and_blames() -> None:
    outcomes = [raft(seed, "forged,replaying") for seed in range(6)]
    assert sum(outcome.lies.get("forged", 0) for outcome in outcomes) > 0
    assert sum(outcome.lies.get("replaying", 0) for outcome in outcomes) > 0
    assert any(outcome.blames for outcome in outcomes)
    assert campaign.run_task(Task(protocol="raft", seed=1, duration_s=1.0)).lies == {}


def test_liveness_is_asked_of_the_honest_alone() -> None:
    options = Options(seed=1, nodes=3, duration_s=2.0, faults=(), byzantine=1, adversary=("mute",))

    class Mute(Liar):
        name = "mute"

        def tell(self, send: Send) -> Iterable[Send]:
            return ()

        def answer(self, response: object) -> None:
            return None

    outcome = simulate(Trial(RAFT.make(SIMULATION), RegisterSubject(), options, (RaftInvariants,), liars=(Mute,)))
    assert outcome.holds, outcome.text
    assert outcome.answered > 10


class Own(RegisterSubject):
    """A Byzantine node's state is its own affair."""

    def __init__(self, liar: int) -> None:
        super().__init__()
        self.liar = liar

    def app(self, node: int, rng: Rng) -> App:
        app = super().app(node, rng)
        app.machine.values["liar"] = node == self.liar  # type: ignore[attr-defined]
        return app


def test_convergence_is_asked_of_the_honest_alone() -> None:
    options = Options(seed=1, nodes=4, duration_s=2.0, faults=(), byzantine=1, adversary=())
    liar = World(Trial(RAFT.make(SIMULATION), RegisterSubject(), options)).liars.bit_length() - 1
    outcome = simulate(Trial(RAFT.make(SIMULATION), Own(liar), options, (RaftInvariants,)))
    assert outcome.holds, outcome.text
    outcome = simulate(Trial(RAFT.make(SIMULATION), Own((liar + 1) % 4), options, (RaftInvariants,)))
    assert outcome.violated == "convergence"


# --- determinism ---


def test_the_same_seed_tells_the_same_lies() -> None:
    for adversary in ("silent,slow", "replaying,forged,equivocating", "all"):
        task = Task(protocol="raft", seed=3, nodes=4, duration_s=3.0, byzantine=1, adversary=adversary)
        assert campaign.run_task(task) == campaign.run_task(task)


DIGESTS = """
from tests.sim.test_adversary_world import raft
found = [raft(seed, "all", faults="all") for seed in range(6)]
print([(outcome.digest, outcome.messages, sorted(outcome.lies.items()), outcome.text) for outcome in found])
"""


def test_lies_do_not_depend_on_the_hash_seed() -> None:
    def digests(hash_seed: str) -> str:
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{SRC}:{SRC.parent}"}
        return subprocess.run(
            [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert digests("1") == digests("2") != ""


# --- what campaigns make of it ---


def test_a_mutant_that_needs_liars_gets_them() -> None:
    task = Task(protocol="raft", seed=0, nodes=5)
    assert campaign.byzantine_of(task, Mutant("m", "")) == 0
    assert campaign.byzantine_of(task, Mutant("m", "", lies=True)) == 0, "there are none to whom lies are a fault"
    task = Task(protocol="pbft", seed=0, nodes=7)
    assert campaign.byzantine_of(task, Mutant("m", "", lies=True)) == 2


def test_a_core_may_be_made_anew_for_a_liar() -> None:
    def make(env: Env) -> Witness:
        return Witness(env)

    world = World(Trial(make, NoSubject(), Options(nodes=4, byzantine=2, adversary=("silent",)), mix=Mix()))
    assert len(world.honest) == 2
