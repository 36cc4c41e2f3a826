"""Golden runs: the digests of simulated runs of every protocol, which a change of the house alone must not change.

`python -m tests.sim.golden_runs` records them anew. Do that only in a commit that says what is meant to differ.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from quorate.protocols import REGISTRY
from quorate.sim.options import parse_faults
from quorate.sim.ordeals import chosen
from quorate.trials.campaign import Task, run_task
from quorate.trials.protocols import equipment_of

FILE = Path(__file__).with_name("golden_runs.txt")
SEEDS = range(6)


def tasks() -> Iterator[Task]:
    """Six seeds of each protocol with the common faults, one of the key-value store; where nodes may lie, some do.

    Then one with each further kind of faults that the protocol is tested with.
    """
    for name, entry in sorted(REGISTRY.items()):
        for seed in SEEDS:
            yield Task(
                protocol=name,
                seed=seed,
                faults="common",
                nodes=4 if entry.traits.is_byzantine else 5,
                workload="kv" if seed == 0 else "register",
                byzantine=1 if entry.traits.is_byzantine and seed % 2 else 0,
                duration_s=5.0,
            )
        for kind in equipment_of(name).kinds:
            faults = f"common,{kind}"
            seed = next(seed for seed in count() if chosen(seed, parse_faults(faults)))
            nodes = 4 if entry.traits.is_byzantine else 5
            yield Task(protocol=name, seed=seed, faults=faults, nodes=nodes, duration_s=5.0)


def line(task: Task) -> str:
    """One run in words: what it was, its digest, and how much it did."""
    found = run_task(task)
    assert found.holds, (task, found.text)
    what = f"{task.protocol} seed {task.seed} nodes {task.nodes} byzantine {task.byzantine} {task.workload}"
    if task.faults != "common":
        what += f" {task.faults}"
    return f"{what}: digest {found.digest:08x}, {found.messages} messages, {found.answered} answered"


if __name__ == "__main__":
    FILE.write_text("".join(f"{line(task)}\n" for task in tasks()))
