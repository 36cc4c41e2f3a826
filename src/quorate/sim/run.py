"""Run one seed and say how it went."""

import traceback
from collections.abc import Mapping

import msgspec

from quorate.sim.adversary.lying_node import LyingNode
from quorate.sim.checkers.base import Violation
from quorate.sim.options import OptionsError
from quorate.sim.trace import Trace
from quorate.sim.trial import Trial
from quorate.sim.workload import Results
from quorate.sim.world import World

ERROR = "no error"


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did. ``violated`` is the property that does not hold, None if all does.

    ``digest`` is equal for equal runs. ``messages`` counts those delivered. ``undecided``: the history was too hard to
    check within the budget. ``lies`` by kind; ``blames`` of nodes that lie, by what was said of them.
    """

    seed: int
    violated: str | None = None
    text: str = ""
    digest: int = 0
    virtual_s: float = 0.0
    steps: int = 0
    messages: int = 0
    operations: int = 0
    answered: int = 0
    committed: int = 0
    undecided: bool = False
    counts: Mapping[str, int] = {}
    lies: Mapping[str, int] = {}
    blames: Mapping[str, int] = {}

    @property
    def holds(self) -> bool:
        """Whether every property held."""
        return self.violated is None


def simulate(trial: Trial, trace: Trace | None = None) -> RunOutcome:
    """Run it to its end or to the first violation. An exception of the core or of the App is a violation too.

    Raises OptionsError where a liar from a file does not work.
    """
    world = World(trial, trial.checkers(), trace=trace)
    violated, text = None, ""
    try:
        world.run()
    except Violation as violation:
        violated, text = violation.property, violation.text
    except OptionsError:
        raise
    except Exception as error:  # whatever the code under test raises is what we look for
        violated, text = ERROR, _where(error)
    if trace is not None:
        world.trace(None, "end", "", f"{violated}: {text}" if violated else "all holds")
    outcome = _outcome(trial, world, violated, text)
    trial.subject.close()
    return outcome


def _outcome(trial: Trial, world: World, violated: str | None, text: str) -> RunOutcome:
    results = trial.subject.results(world)
    return RunOutcome(
        seed=trial.options.seed,
        violated=violated,
        text=text,
        digest=_digest(world, results),
        virtual_s=world.now,
        steps=world.steps,
        messages=world.network.delivered,
        operations=world.workload.operations,
        answered=world.workload.answered,
        committed=results.committed,
        undecided=results.undecided,
        counts={**_counts(world), **results.counts},
        lies=_lies(world),
        blames=dict(sorted(world.blamed_liars.items())),
    )


def _digest(world: World, results: Results) -> int:
    digest = world.digest
    for data in results.data:
        digest.add(data)
    return digest.value


def _counts(world: World) -> dict[str, int]:
    """How often each fault happened, and what it did."""
    network, nodes = world.network, world.nodes
    return {
        **dict(sorted(world.nemesis.counts.items())),
        **dict(sorted(world.refusals.items())),
        "lost": network.lost,
        "cut": network.cut,
        "duplicated": network.duplicated,
        "clogged": network.clogged,
        "overflowed": network.overflowed,
        "syncs": sum(node.disk.syncs for node in nodes),
        "frames lost": sum(node.disk.frames_lost for node in nodes),
        "checkpoints": sum(node.disk.checkpoints for node in nodes),
        "snapshots taken": sum(store.taken for node in nodes for store in node.stores.values()),
        "snapshots received": sum(node.snapshots.received for node in nodes),
        "syncs failed": sum(node.disk.sync_errors for node in nodes),
        "syncs hung": sum(node.disk.syncs_hung for node in nodes),
        "hangs found": sum(node.hangs_found for node in nodes),
        "snapshots that did not fit": sum(store.unfit for node in nodes for store in node.stores.values()),
        "pieces stored": sum(node.snapshots.pieces for node in nodes),
        "transfers cut": sum(node.snapshots.cut for node in nodes) + world.nemesis.counts.get("sources killed", 0),
        "slow turns of links": network.drifted,
        "clocks begun anew": sum(node.reboots for node in nodes),
    }


def _lies(world: World) -> dict[str, int]:
    """What the liars told, by kind; and how many of them fell over their own lies."""
    lies: dict[str, int] = {}
    for node in world.nodes:
        if isinstance(node, LyingNode):
            for kind, count in sorted(node.means.told.items()):
                lies[kind] = lies.get(kind, 0) + count
            if node.fell:
                lies["fell"] = lies.get("fell", 0) + 1
    return lies


def _where(error: Exception) -> str:
    """An exception in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
