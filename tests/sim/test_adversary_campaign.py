"""PBFT among nodes that lie: it bears f of them, whatever they do, and f + 1 are seen to break it."""

import subprocess
import sys
from pathlib import Path

import pytest

from quorate.protocols.pbft.transfer_liars import TRANSFER_LIARS, LyingSource
from quorate.sim.adversary import parse_adversary
from quorate.sim.run import RunOutcome
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import equipment_of

from tests.campaigns import many

SRC = Path(__file__).resolve().parents[2] / "src"
ALL = parse_adversary("all", equipment_of("pbft").liars)
NEED_TO_LEAD = ("two-faced-primary", "false-digest", "censoring", "lying-view-change")
NEED_A_LAGGARD = tuple(liar.name for liar in TRANSFER_LIARS)
"""Where nobody is behind they have nothing to lie about."""
ALSO_FAST = (LyingSource.name, "false-offers")
"""Of those, what the fast tests have; all are among the lies of the other campaigns."""
LIES_TO_LAGGARDS = {LyingSource.name: ("pieces poisoned", "pieces late", "transfers cut")}
"""Of liars whose lies are counted under other names than their own."""


def lied(seed: int, adversary: str = "all", nodes: int = 4, byzantine: int = 1, **more: object) -> RunOutcome:
    """One run of PBFT."""
    task = Task(protocol="pbft", seed=seed, nodes=nodes, byzantine=byzantine, adversary=adversary, **more)  # type: ignore[arg-type]
    return campaign.run_task(task)


def check(outcome: RunOutcome) -> RunOutcome:
    """It must hold."""
    assert outcome.holds, f"seed {outcome.seed}: {outcome.violated}: {outcome.text}"
    return outcome


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 16), marks=pytest.mark.slow)])
def test_lies_and_crashes_together(seeds: range) -> None:
    outcomes = [check(lied(seed)) for seed in seeds]
    lies = sum(sum(outcome.lies.values()) for outcome in outcomes)
    assert lies > 32 * len(seeds)
    assert sum(outcome.answered for outcome in outcomes) > 32 * len(seeds)


@pytest.mark.parametrize("adversary", ALL)
@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(5), marks=pytest.mark.slow)])
def test_each_lie_alone(adversary: str, seeds: range) -> None:
    outcomes = [check(lied(seed, adversary, faults="none", duration_s=3.0)) for seed in seeds]
    if adversary not in (*NEED_TO_LEAD, *NEED_A_LAGGARD):
        assert sum(outcome.lies.get(adversary, 0) for outcome in outcomes) > 0


@pytest.mark.parametrize(
    "adversary",
    [pytest.param(name, marks=() if name in ALSO_FAST else pytest.mark.slow) for name in NEED_A_LAGGARD],
)
def test_each_lie_to_nodes_that_catch_up(adversary: str) -> None:
    """Those that join do, and those that were down or cut off. In these seeds they ask the liar, among others."""
    seeds = (65, 75) if adversary == LyingSource.name else (3, 15, 16, 17)
    outcomes = [check(lied(seed, adversary, faults="crash,partition", duration_s=3.0, joins=True)) for seed in seeds]
    for lie in LIES_TO_LAGGARDS.get(adversary, (adversary,)):
        assert sum(outcome.lies.get(lie, 0) for outcome in outcomes) > 0, lie


def test_two_of_seven() -> None:
    for seed in range(4):
        check(lied(seed, nodes=7, byzantine=2, duration_s=4.0))


@pytest.mark.parametrize("adversary", ["all", "twins"])
def test_the_store_on_disk(adversary: str) -> None:
    for seed in range(2):
        check(lied(seed, adversary, workload="kv", duration_s=4.0))


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "byzantine"), [(4, 1), (7, 2), (10, 3)])
def test_a_long_campaign_of_lies(nodes: int, byzantine: int) -> None:
    for seed in range(1000, 1000 + many(800) // nodes):
        check(lied(seed, nodes=nodes, byzantine=byzantine))


def test_more_liars_than_it_bears_break_it() -> None:
    """Else the checkers would see nothing. One equivocates, the other votes for both."""
    properties = {
        "one prepared batch a view and number",
        "one executed batch a number",
        "state machine safety",
        "what was executed stays",
    }
    for seed in range(200):
        outcome = lied(seed, "two-faced-primary,agreeable", byzantine=2, faults="partition,network", duration_s=5.0)
        if outcome.violated in properties:
            return
    raise AssertionError("no seed of 200 broke it")


DIGESTS = """
from tests.sim.test_adversary_campaign import lied
print([(outcome.digest, sorted(outcome.lies.items()), outcome.text) for outcome in map(lied, (0, 2, 3))])
"""


def test_lies_do_not_depend_on_the_hash_seed() -> None:
    def digests(hash_seed: str) -> str:
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{SRC}:{SRC.parent}"}
        return subprocess.run(
            [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert digests("1") == digests("2") != ""
