"""`python -m tests.sim.compiled_runs`: what the package that Python finds first makes of some runs, a line for each.

Beside the golden runs there are seeds with every kind of fault, in this process and in two others, and a Host that is
copied in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.kernel import Stalled, host
from quorate.sim.world import World
from quorate.trials.campaign import Task, run_all, trial_of

from tests.sim.golden_runs import line, tasks

COPIED = ("raft", "multipaxos", "pbft")
"""Those whose cores are compiled: an interpreted one on a compiled base cannot be copied."""
PROTOCOLS = (*COPIED, "tendermint")
SEEDS = range(20, 23)
JOBS = 2


def seeds() -> list[Task]:
    """All faults; where nodes may lie, one does in every second seed."""
    return [
        Task(protocol=name, seed=seed, nodes=4, duration_s=3.0, byzantine=int(name in PROTOCOLS[2:] and seed % 2))
        for name in PROTOCOLS
        for seed in SEEDS
    ]


def copied(protocol: str) -> str:
    """The next Turn of a Host and of its copy."""
    trial = trial_of(Task(protocol=protocol, seed=1, nodes=4, faults="none"))
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(1.0)
    first = world.nodes[0].host
    copy = first.fork()
    turns = [repr(each.step([Stalled("a full disk"), Stalled(None)], world.now + 1.0)) for each in (first, copy)]
    assert turns[0] == turns[1], turns
    assert copy.root is not first.root
    return turns[0]


def seed_lines(jobs: int) -> Iterator[str]:
    """What came of the seeds, in this process or in so many others."""
    for task, outcome in zip(seeds(), run_all(seeds(), jobs), strict=True):
        yield f"{task.protocol} seed {task.seed}: digest {outcome.digest:08x}, {outcome.text or 'all holds'}"


if __name__ == "__main__":
    print(host.__file__)
    print(*(line(task) for task in tasks() if task.protocol in PROTOCOLS), sep="\n")
    print(*seed_lines(1), *seed_lines(JOBS), sep="\n")
    print(*(f"{protocol} copied: {copied(protocol)}" for protocol in COPIED), sep="\n")
