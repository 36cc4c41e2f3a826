"""Asking in the simulator, under every fault, with Apps that answer late, wrong or not at all."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from quorate.kernel import Shell
from quorate.sim.shells import EmptyCheckpoint, JobsFirst, NoBarrier, OutOfOrder
from quorate.sim.world import LIVENESS

from tests.campaigns import many
from tests.toy import sick
from tests.toy.app import AskedApp, Submit
from tests.toy.asking import Asking, Build, Judge, Run
from tests.toy.simulated import AGREEMENT, ERROR, VALIDITY, Outcome, toy

Apps = Mapping[int, Callable[[], AskedApp]]
SEEDS = 15
"""Of a campaign: as many among the fast tests as among the slow ones."""
NODES = (0, 1, 2)


def all_of(app: Callable[[], AskedApp]) -> Apps:
    return dict.fromkeys(NODES, app)


@pytest.fixture(params=[range(SEEDS), pytest.param(range(SEEDS, 2 * SEEDS), marks=pytest.mark.slow)], ids=str)
def seeds(request: pytest.FixtureRequest) -> range:
    """Those of a campaign."""
    found: range = request.param
    return found


def hold(apps: Apps, seeds: range, **options: Any) -> list[Outcome]:
    """Runs under every fault, in each of which all that is promised must hold."""
    outcomes = [toy(seed, apps, **options) for seed in seeds]
    for seed, outcome in zip(seeds, outcomes, strict=True):
        assert outcome.violated is None, f"seed {seed}: {outcome.violated}: {outcome.text}"
    return outcomes


def begun(outcomes: list[Outcome], kind: type) -> int:
    return sum(isinstance(job, kind) for outcome in outcomes for app in outcome.subject.all_apps() for job in app.begun)


def cancelled(outcomes: list[Outcome], kind: type) -> int:
    lists = [app.cancelled for outcome in outcomes for app in outcome.subject.all_apps()]
    return sum(isinstance(job, kind) for jobs in lists for job in jobs)


@pytest.mark.parametrize("nodes", [1, 3, 4, 5])
def test_it_decides_and_agrees_under_every_fault(nodes: int, seeds: range) -> None:
    outcomes = hold({}, seeds, nodes=nodes)
    assert sum(len(outcome.decisions.agreed) for outcome in outcomes) > 10 * SEEDS
    assert begun(outcomes, Judge) > 10 * SEEDS


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [3, 5])
def test_many_seeds(nodes: int) -> None:
    hold({}, range(many(500)), nodes=nodes, duration_s=10.0)


def test_recovery_by_inputs_holds_as_well(seeds: range) -> None:
    hold({}, seeds, by_inputs=True)


def test_the_same_seed_is_the_same_run() -> None:
    first, again, other = toy(7), toy(7), toy(8)
    assert first.world.digest.value == again.world.digest.value != other.world.digest.value


# --- late ---


@pytest.mark.parametrize("apps", [{0: sick.LateBuilder}, all_of(sick.LateBuilder)], ids=["one", "all"])
def test_builders_that_are_late_are_cancelled_under_way(apps: Apps, seeds: range) -> None:
    assert cancelled(hold(apps, seeds), Build) > SEEDS


@pytest.mark.parametrize("apps", [{0: sick.LateJudge}, all_of(sick.LateJudge)], ids=["one", "all"])
def test_judges_that_are_late_are_cancelled_under_way(apps: Apps, seeds: range) -> None:
    assert cancelled(hold(apps, seeds), Judge) > SEEDS


@pytest.mark.parametrize("apps", [{0: sick.LateRunner}, all_of(sick.LateRunner)], ids=["one", "all"])
def test_questions_that_wait_in_line_are_cancelled_there(apps: Apps, seeds: range) -> None:
    outcomes = hold(apps, seeds)
    never_begun = 0
    for outcome in outcomes:
        core, app = outcome.world.nodes[0].host.root, outcome.subject.apps[0][-1]
        assert isinstance(core, Asking)
        questions = sum(not isinstance(job, Run) for job in app.begun)
        never_begun += core.asked - questions
        assert core.asked >= questions
    assert never_begun > 2 * SEEDS  # of which at most one a run may still be in line


def test_an_app_may_wait_for_a_timer_of_its_own(seeds: range) -> None:
    outcomes = hold(all_of(sick.WaitsForTimer), seeds)
    apps = [app for outcome in outcomes for app in outcome.subject.all_apps() if isinstance(app, sick.WaitsForTimer)]
    assert sum(app.waits for app in apps) > SEEDS
    assert sum(len(outcome.decisions.agreed) for outcome in outcomes) > 2 * SEEDS


# --- wrong ---


@pytest.mark.parametrize("app", [sick.WrongBuilder, sick.Crooked])
def test_bad_values_are_voted_down(app: type[sick.WrongBuilder], seeds: range) -> None:
    outcomes = hold({0: app}, seeds)
    lies = 0
    for outcome in outcomes:
        told = [lie for made in outcome.subject.apps[0] if isinstance(made, app) for lie in made.lies]
        assert not set(told) & set(outcome.decisions.agreed)
        lies += len(told)
    assert lies > SEEDS


def test_where_most_are_crooked_the_checker_sees_it() -> None:
    assert toy(0, {0: sick.Crooked, 1: sick.Crooked}).violated == VALIDITY


# --- missing ---


def test_a_judge_that_cannot_say_does_not_say_yes(seeds: range) -> None:
    hold({0: sick.WrongBuilder, 1: sick.Speechless, 2: sick.Speechless}, seeds)


@pytest.mark.parametrize("app", [sick.NeverBuilds, sick.NoBuilder, sick.NoJudge])
def test_where_one_app_gives_no_answer_the_others_go_on(app: type[AskedApp], seeds: range) -> None:
    outcomes = hold({0: app}, seeds)
    assert sum(len(outcome.decisions.agreed) for outcome in outcomes) > 10 * SEEDS


@pytest.mark.parametrize("app", [sick.NeverBuilds, sick.NoBuilder, sick.NoJudge])
def test_where_no_app_gives_an_answer_nothing_is_decided(app: type[AskedApp]) -> None:
    outcome = toy(0, all_of(app), faults=(), duration_s=2.0)
    assert outcome.violated == LIVENESS
    assert outcome.decisions.agreed == []


# --- clients that leave ---


class Listening:
    """A client that remembers what it is told."""

    principal = ""

    def __init__(self) -> None:
        self.told: list[str] = []

    def reply(self, response: Any) -> None:
        self.told.append(response.id)


def test_a_client_that_has_left_gets_no_answer_and_what_it_submitted_stays() -> None:
    outcome = toy(0, faults=(), duration_s=0.001)
    node, app = outcome.world.nodes[0], outcome.subject.apps[0][0]
    stays, leaves = Listening(), Listening()
    node.request(stays, Submit("of one who stays", b""))
    node.request(leaves, Submit("of one who leaves", b""))
    node.closed(leaves)
    outcome.world.run_until(outcome.world.now + 10.0)
    assert (stays.told, leaves.told) == (["of one who stays"], [])
    assert {"of one who stays", "of one who leaves"} <= app.chain.ids


# --- planted bugs ---

LATE_JUDGES = {0: sick.WrongBuilder, 1: sick.LateJudge, 2: sick.LateJudge}
SPEECHLESS = {0: sick.WrongBuilder, 1: sick.Speechless, 2: sick.Speechless}


@pytest.mark.parametrize(
    ("core", "apps", "properties"),
    [
        (sick.VotesUnjudged, {0: sick.WrongBuilder}, {VALIDITY}),
        (sick.DecidesAlone, {}, {AGREEMENT}),
        (sick.IgnoresFailed, SPEECHLESS, {VALIDITY}),
        (sick.TakesStale, LATE_JUDGES, {VALIDITY}),
        (sick.ForgetsVote, {}, {AGREEMENT}),
        (sick.ProposesFreely, {}, {AGREEMENT}),
    ],
)
def test_planted_bugs_are_seen(core: type[Asking], apps: Apps, properties: set[str]) -> None:
    outcomes = (toy(seed, apps, core=core) for seed in range(200))
    assert any(outcome.violated in properties for outcome in outcomes)


@pytest.mark.parametrize(
    ("shell", "by_inputs", "property"),
    [
        (NoBarrier, False, AGREEMENT),
        (OutOfOrder, False, ERROR),
        (JobsFirst, False, ERROR),
        (EmptyCheckpoint, True, AGREEMENT),
    ],
)
def test_bugs_of_the_shell_are_seen(shell: type[Shell], by_inputs: bool, property: str) -> None:
    outcomes = (toy(seed, shell=shell, by_inputs=by_inputs) for seed in range(200))
    assert any(outcome.violated == property for outcome in outcomes)


class Disordered(AskedApp):
    """Begins jobs before those that they rest on have ended."""

    def in_order(self, job: Any) -> bool:
        return False


def test_an_app_whose_jobs_need_order_and_do_not_ask_for_it_is_seen() -> None:
    assert any(toy(seed, all_of(Disordered)).violated == ERROR for seed in range(20))
