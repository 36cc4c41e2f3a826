"""Worlds of Nakamoto nodes: whatever happens they come to one chain, and no coin is made or lost. Planted bugs show."""

from collections.abc import Callable
from typing import Any

import pytest

from quorate.ledger.forkchoice.chains import LongestChain
from quorate.ledger.forkchoice.ghost import Ghost
from quorate.ledger.header_client import HeaderClient
from quorate.ledger.outputs import Extended
from quorate.ledger.tree import TreeBase
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.clock import EPOCH_S
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix
from quorate.sim.world import World

from tests.sim import chain_mutants as sick
from tests.sim.chains import CONFIG, GROWTH, PREFIX, run, trial, with_liars
from tests.sim.coins import GENESIS, CoinApp
from tests.sim.reorganisations import check, crash_at, heads, loser, make, meet, reorganised, settle

QUIET = Mix(delay_s_min=0.01, delay_s_mean=0.03)
LOSSY = Mix(delay_s_min=0.01, delay_s_mean=0.03, loss=0.1)
CRASHING = Mix(delay_s_min=0.01, delay_s_mean=0.03, crash_every_s=0.3, sync_s=0.05)
PRUNING = CONFIG.but(keep_blocks=12, flush_blocks=2)
FINAL_DEPTH = 4


def quiet(seed: int, nodes: int = 6, duration_s: float = 50.0, **which: Any) -> World:
    """One without faults, before it is healed."""
    made = trial(seed, nodes, mix=QUIET, faults=(), duration_s=duration_s, **which)
    world = World(made, made.checkers())
    world.start()
    world.run_until(duration_s)
    return world


# --- what must hold ---


@pytest.mark.parametrize("seed", range(3))
def test_all_faults(seed: int) -> None:
    outcome = run(seed)
    assert outcome.holds, outcome.text
    assert outcome.counts["height"] > 5


def test_a_seed_is_the_same_run_each_time() -> None:
    first, again, other = (run(seed, 4, duration_s=8.0) for seed in (5, 5, 6))
    assert first == again
    assert first.digest != other.digest


@pytest.mark.parametrize("choice", [LongestChain, Ghost])
def test_other_fork_choices(choice: Callable[[], Any]) -> None:
    outcome = run(1, choice=choice)
    assert outcome.holds, outcome.text


def growth_and_prefix(world: World, k: int) -> None:
    """Raises Violation unless the chain grew as it should and all agree on all but its last k blocks."""
    chains = [node.app.main for node in world.nodes]  # type: ignore[attr-defined]
    lengths = sorted(map(len, chains))
    expected = world.now  # a block a second
    if not expected - 4 * expected**0.5 - 0.25 * expected < lengths[0] and lengths[-1] < expected + 4 * expected**0.5:
        raise Violation(GROWTH, f"{lengths} blocks in {world.now:g} s")
    for chain in chains:
        if chain[:-k] != chains[0][: len(chain) - k]:
            raise Violation(PREFIX, f"two nodes differ more than {k} blocks below their heads")


def test_the_chain_grows_and_its_past_is_common() -> None:
    """And few blocks are stale."""
    world = quiet(1)
    growth_and_prefix(world, 6)
    check(world)
    core: Any = world.nodes[0].host.root
    height = core.tree[core.head].height
    assert len(core.tree) - 1 - height <= 0.3 * height


class Forgetful(Nakamoto):
    """Extends a chain of its own: it hears nobody."""

    def on_headers(self, sender: int, m: Any) -> None:
        pass


def test_a_node_that_hears_nobody_has_no_common_past() -> None:
    with pytest.raises(Violation):
        growth_and_prefix(quiet(1, 4, 30.0, core=Forgetful), 6)


def test_a_light_client_agrees_with_its_full_node() -> None:
    world = quiet(3, 4, 40.0)
    core: Any = world.nodes[0].host.root
    client = HeaderClient(TreeBase(GENESIS), core.sealer)
    headers = [entry.header for entry in core.tree.up(core.head)][::-1][1:]
    assert client.update(headers, EPOCH_S + 40).is_ok
    assert (client.head, client.height) == (core.head, core.tree[core.head].height)


def test_nodes_that_prune_stay_small_and_a_late_one_catches_up() -> None:
    made = trial(1, 6, mix=QUIET, faults=(), config=PRUNING)
    world = World(made, made.checkers())
    world.start()
    late = world.nodes[-1]
    late.crash()
    late.disk.lose()
    world.run_until(80.0)
    assert late.app.head == GENESIS.id  # type: ignore[attr-defined]
    late.restart()
    settle(world)
    check(world)
    sizes = [len(node.host.root.tree) for node in world.nodes]  # type: ignore[attr-defined]
    assert max(sizes) < 32


# --- partitions and finality ---


def test_halves_that_were_apart_agree_and_one_of_them_reorganises() -> None:
    world = reorganised(1)
    assert max(node.app.counts["deepest"] for node in world.nodes) >= 3  # type: ignore[attr-defined]


def test_trap_7_a_hard_depth_splits_the_chain_and_the_default_does_not() -> None:
    with pytest.raises(Violation, match="finalises another block"):
        make(1, config=CONFIG.but(final_depth=FINAL_DEPTH))
    world = make(1, config=CONFIG.but(final_depth=60))
    meet(world)
    settle(world)
    check(world)


# --- crashes in the middle of a reorganisation ---


@pytest.mark.parametrize("late_s", [0.0, 0.012])
def test_a_crash_at_a_step_of_a_reorganisation(late_s: float) -> None:
    depths = [crash_at(1, step, late_s) for step in (4, 11)]
    assert all(depth is not None and depth >= 1 for depth in depths)


@pytest.mark.slow
@pytest.mark.parametrize("late_s", [0.0, 0.012])
@pytest.mark.parametrize("config", [CONFIG, PRUNING], ids=["kept", "pruned"])
def test_a_crash_at_every_step_of_a_reorganisation(late_s: float, config: Any) -> None:
    """The reorganisation is over when the node has taken sixty to eighty steps."""
    depths = [crash_at(1, step, late_s, config=config) for step in range(1, 86)]
    assert None not in depths
    assert sum(depth is not None and depth >= 5 for depth in depths) >= 60


# --- liars ---


def test_a_miner_of_invalid_payloads_convinces_nobody_and_is_blamed() -> None:
    made = trial(1, 6, mix=QUIET, faults=(), kinds=[(0, sick.OverspendingMiner)])
    world = with_liars(made, [0])
    assert world.blames >= 5
    assert all(kind.startswith("announced an invalid block") for kind in world.blamed_liars)
    apps: list[CoinApp] = [node.app for node in world.honest]  # type: ignore[misc]
    assert all(app.counts["refused"] > 0 for app in apps)
    assert len(apps[0].main) > 20


# --- planted bugs ---


def caught(seeds: int, of: Callable[[int], Any]) -> bool:
    """Whether a run of one of these seeds ends badly."""
    for seed in range(seeds):
        try:
            outcome = of(seed)
        except (Violation, AssertionError, KeyError):
            return True
        if isinstance(outcome, RunOutcome) and not outcome.holds:
            return True
    return False


def in_any_weather(core: type[Nakamoto]) -> Callable[[int], Any]:
    return lambda seed: run(seed, core=core)


def lossy(core: type[Nakamoto]) -> Callable[[int], Any]:
    return lambda seed: run(seed, core=core, mix=LOSSY, faults=(), duration_s=20.0)


def crashing(core: type[Nakamoto]) -> Callable[[int], Any]:
    return lambda seed: run(seed, core=core, mix=CRASHING, faults=())


def pruning(core: type[Nakamoto]) -> Callable[[int], Any]:
    return lambda seed: run(seed, core=core, config=PRUNING)


def apart(core: type[Nakamoto]) -> Callable[[int], Any]:
    return lambda seed: reorganised(seed, core=core)


def with_a_liar(core: type[Nakamoto]) -> Callable[[int], Any]:
    kinds = [(0, sick.OverspendingMiner)]
    return lambda seed: with_liars(trial(seed, 5, mix=QUIET, faults=(), core=core, kinds=kinds), [0])


def restarted(core: type[Nakamoto]) -> Callable[[int], Any]:
    """The loser of a partition has called its chain final, and restarts when it sees a heavier one."""

    def of(seed: int) -> None:
        world = make(seed, core=core, config=CONFIG.but(final_depth=60))
        victim = loser(world)
        root: Any = victim.host.root
        root.config = CONFIG.but(final_depth=3)
        world.run_until(world.now + 6.0)
        assert victim.app.final > 0, "not what this is about"
        victim.crash()
        victim.restart()
        meet(world)
        world.run_until(world.now + 10.0)

    return of


def test_what_is_final_stays_so_after_a_restart() -> None:
    restarted(Nakamoto)(0)


MUTANTS = [
    (sick.HeadByWeight, in_any_weather),
    (sick.TrustsItsOldHead, in_any_weather),
    (sick.RecordsAsTheyCome, in_any_weather),
    (sick.AnswersNoLocator, crashing),
    (sick.PrunesBelowTheHead, pruning),
    (sick.TakesAnyRuling, with_a_liar),
    (sick.RewindsOldestFirst, apart),
    (sick.AsksOnce, lossy),
    (sick.FlushesBeforeTheJournal, crashing),
    (sick.ForgetsWhatIsFinal, restarted),
]


@pytest.mark.parametrize(("core", "how"), MUTANTS, ids=lambda each: each.__name__)
def test_a_planted_bug_in_the_core_shows(core: type[Nakamoto], how: Callable[..., Any]) -> None:
    assert caught(6, how(core))


@pytest.mark.parametrize("app", [sick.TornStore, sick.KeepsCreatedAccounts])
def test_a_planted_bug_in_the_app_shows(app: Any) -> None:
    assert caught(6, lambda seed: run(seed, app=app)) or caught(4, lambda seed: reorganised(seed, app=app))


# --- many ---


@pytest.mark.slow
def test_sixteen_nodes_under_all_faults() -> None:
    for seed in range(100, 104):
        outcome = run(seed, 16, duration_s=60.0)
        assert outcome.holds, f"seed {seed}: {outcome.text}"


@pytest.mark.slow
def test_pruned_nodes_under_all_faults() -> None:
    for seed in range(8):
        outcome = simulate(trial(seed, 8, config=PRUNING))
        assert outcome.holds, f"seed {seed}: {outcome.text}"
        assert outcome.counts["tree"] < 120


def test_extended_blocks_are_what_the_checkers_see() -> None:
    seen: list[int] = []

    class Sees(Checker):
        def output(self, node: int, value: Any) -> None:
            if isinstance(value, Extended):
                seen.append(value.height)

    made = trial(1, 4, mix=QUIET, faults=(), duration_s=10.0)
    world = World(made, [*made.checkers(), Sees()])
    world.run()
    assert len(seen) >= 4 * max(seen) > 0
    assert len(heads(world)) == 1
