"""Twins: scenarios are counted, one of each class is run, and what is planted is found."""

from itertools import product

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from quorate.cli.sim import sim
from quorate.kernel import Env
from quorate.parts.crypto.keys import Keys, Symbolic
from quorate.parts.quorum import Byzantine, Threshold
from quorate.protocols import REGISTRY
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.invariants import PbftInvariants
from quorate.protocols.pbft.led import TWINS_CONFIG, led
from quorate.protocols.pbft.messages import Commit, NewView
from quorate.protocols.pbft.view_changes import ViewChanges
from quorate.sim.checkers.base import Violation
from quorate.sim.options import Options, OptionsError
from quorate.sim.trial import Trial
from quorate.sim.twins.scenarios import Round, Scenario, choices, count, count_all, renamed, renamings, scenarios
from quorate.sim.twins.stage import Executions, Stage
from quorate.trials import twins

PBFT = REGISTRY["pbft"]


# --- scenarios ---


def test_a_round_is_a_leader_and_a_partition() -> None:
    assert len(choices(4)) == 16 * 4
    assert all(choice.side & 1 for choice in choices(4))
    round = Round(0, 0b00111)
    assert not round.parts(0, 2)
    assert round.parts(0, 4)
    assert not round.parts(3, 4)


def test_renaming() -> None:
    assert len(renamings(4)) == 2 * 6
    assert renamed(Round(1, 0b00011), (0, 2, 1, 3, 4), 4) == Round(2, 0b00101)
    assert renamed(Round(0, 0b00011), (4, 1, 2, 3, 0), 4) == Round(0, 0b01101)  # the twins are swapped


def least(scenario: Scenario, nodes: int) -> Scenario:
    """By trying all."""
    return min(tuple(renamed(round, names, nodes) for round in scenario) for names in renamings(nodes))


@pytest.mark.parametrize(("nodes", "rounds"), [(2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2)])
def test_one_of_each_class_is_found(nodes: int, rounds: int) -> None:
    found = list(scenarios(nodes, rounds))
    classes = {least(scenario, nodes) for scenario in product(choices(nodes), repeat=rounds)}
    assert len(found) == len(set(found)) == len(classes)
    assert {least(scenario, nodes) for scenario in found} == classes


@pytest.mark.parametrize(
    ("nodes", "rounds", "every", "classes"),
    [(2, 1, 8, 6), (3, 1, 24, 11), (4, 1, 64, 15), (4, 2, 4096, 510), (4, 3, 262_144, 25_740), (5, 2, 25_600, 1092)],
)
def test_counts(nodes: int, rounds: int, every: int, classes: int) -> None:
    assert count_all(nodes, rounds) == every
    assert count(nodes, rounds) == classes
    if classes < 2000:
        assert sum(1 for _ in scenarios(nodes, rounds)) == classes


# --- the stage ---


def stage(*rounds: Round, core: type[Pbft] = Pbft) -> Stage:
    scheme = Symbolic(range(4), b"twins")
    make = PBFT.make(TWINS_CONFIG, led(core, [round.leader for round in rounds]), scheme.keys)
    return Stage(Trial(make, Executions(), Options(nodes=4), (PbftInvariants,), scheme=scheme), rounds)


ALL = 0b11111


def test_leaders_are_appointed() -> None:
    played = stage(Round(3, ALL), Round(2, ALL))
    core = played.processes[1].host.root
    assert isinstance(core, Pbft)
    assert [core.view.group.primary(view) for view in range(4)] == [3, 2, 2, 3]


def test_a_round_that_is_whole_executes_and_its_leader_is_cut_off_after_it() -> None:
    played = stage(Round(1, ALL), Round(2, ALL))
    played.run()
    assert played.rounds == 3
    assert len(played.log.agreed) == 6
    assert [len(process.app.values) for process in played.processes] == [0, 6, 6, 6, 0]


def test_twins_that_lead_and_are_both_heard_are_blamed() -> None:
    played = stage(Round(0, ALL))
    played.run()
    assert played.blames > 0


def test_a_scenario_is_the_same_every_time() -> None:
    one, two = (stage(Round(0, 0b00011), Round(0, 0b01101)) for _ in range(2))
    one.run()
    two.run()
    assert (one.now, one.messages, one.cut, one.blames, one.log.agreed) == (
        two.now,
        two.messages,
        two.cut,
        two.blames,
        two.log.agreed,
    )


def test_all_of_one_round() -> None:
    played = list(twins.play_all("pbft", 4, 1, "", 1))
    assert [each.text for each in played if each.violated] == []
    assert len(played) == 15
    assert all(each.rounds == 1 for each in played)


@pytest.mark.slow
def test_all_of_two_rounds() -> None:
    assert [each for each in twins.play_all("pbft", 4, 2, "", 2) if each.violated] == []


# --- planted bugs ---


class Small(Byzantine):
    """2f are a quorum."""

    def __init__(self, members: tuple[int, ...]) -> None:
        super().__init__(members)
        self.weak = Threshold(members, self.faults + 1)
        self.size = 2 * self.faults


class SmallQuorum(Pbft):
    """Two quorums share no honest node."""

    def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
        super().__init__(env, config, keys)
        self.view.group.quorum = Small(self.view.group.members)


def first_found(core: type[Pbft], rounds: int) -> tuple[int, Violation]:
    """How many scenarios it took."""
    for number, scenario in enumerate(scenarios(4, rounds), 1):
        try:
            stage(*scenario, core=core).run()
        except Violation as violation:
            return number, violation
    raise AssertionError("not found")


def test_small_quorums_are_found() -> None:
    number, violation = first_found(SmallQuorum, 1)
    assert number <= 15
    assert violation.property in ("certificates verify", "state machine safety", "one executed batch a number")


def test_small_quorums_break_agreement_itself() -> None:
    scheme = Symbolic(range(4), b"twins")
    make = PBFT.make(TWINS_CONFIG, led(SmallQuorum, [0]), scheme.keys)
    with pytest.raises(Violation, match="state machine safety: at index 1 node 3 commits"):
        Stage(Trial(make, Executions(), Options(nodes=4), scheme=scheme), (Round(0, 0b00111),)).run()


class NeverLeaves(ViewChanges):
    """Waits for ever."""

    def leave(self, number: int) -> None:
        pass


class NeverSuspects(Pbft):
    """Whatever the primary does."""

    view_changes_class = NeverLeaves


def test_rounds_that_do_not_come_to_be_are_not_counted() -> None:
    played = stage(Round(1, ALL), Round(2, ALL), core=NeverSuspects)
    played.run()
    assert played.rounds == 1


class EntersNoView(Pbft):
    """Leaves views and enters none."""

    def on_new_view(self, sender: int, m: NewView) -> None:
        pass

    def on_commit(self, sender: int, m: Commit) -> None:
        if not self.view.is_changing:
            super().on_commit(sender, m)


def test_who_enters_no_view_is_not_live() -> None:
    number, violation = first_found(EntersNoView, 1)
    assert number == 1
    assert violation.property == "liveness"
    assert "requests the honest nodes executed" in violation.text


# --- the command ---

app = typer.Typer()
app.command()(sim)


def test_the_command() -> None:
    result = CliRunner().invoke(app, ["pbft", "--twins", "--nodes", "4", "--rounds", "1", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "16 partitions x 4 leaders, 1 round: 64 scenarios, 15 up to symmetry" in result.stdout
    assert "15 run in" in result.stdout
    assert "every promise was kept" in result.stdout
    result = CliRunner().invoke(app, ["pbft", "--twins", "--nodes", "4", "--rounds", "1", "--jobs", "1", "--json"])
    found = msgspec.json.decode(result.stdout)
    assert (found["scenarios"], found["classes"], found["run"], found["violation"]) == (64, 15, 15, None)


def test_a_violation_is_shown_with_its_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "pbft", msgspec.structs.replace(PBFT, core=SmallQuorum))
    result = CliRunner().invoke(app, ["pbft", "--twins", "--nodes", "4", "--rounds", "1", "--jobs", "1"])
    assert result.exit_code == 1
    assert "VIOLATED: " in result.stdout
    assert "round 0: node 0 leads, 0 | 1 2 3 0'" in result.stdout


def test_the_twins_have_names() -> None:
    assert twins.describe(4, (Round(2, 0b10011), Round(0, ALL))) == [
        "round 0: node 2 leads, 0 1 0' | 2 3",
        "round 1: node 0 leads, 0 1 2 3 0'",
    ]


@pytest.mark.parametrize(
    ("protocol", "nodes", "rounds", "mutant", "words"),
    [
        ("raft", 5, 2, "", "sets `twins`; raft has none"),
        ("pbft", 3, 2, "", "write --nodes 4"),
        ("pbft", 8, 2, "", "up to 7 nodes"),
        ("pbft", 4, 0, "", "1 to 6 rounds"),
        ("pbft", 4, 2, "x", "has no mutant 'x'"),
        ("nothing", 4, 2, "", "no protocol is called"),
    ],
)
def test_wrong_use(protocol: str, nodes: int, rounds: int, mutant: str, words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        twins.check_twins(protocol, nodes, rounds, mutant)
