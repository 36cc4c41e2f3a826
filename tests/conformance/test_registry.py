"""Every protocol of the REGISTRY, under every checker that its fault model allows, simulated and on real processes.

A new protocol gets these for its one line in the REGISTRY.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.protocols import REGISTRY
from quorate.sim.checkers.base import Checker
from quorate.trials.campaign import Task, run_task
from quorate.trials.protocols import equipment_of, mutants_of

from tests.cluster import READY_TIMEOUT_S, LocalCluster, until
from tests.torture.protocols import nodes_of

PROTOCOLS = sorted(REGISTRY)
LEFT_TO_SLOW = ("echo", "multipaxos", "paxos", "pbft", "vote")
"""Those whose processes the slow tests start; the others have one of each kind of faults and of agreement."""
BYZANTINE = [name for name in PROTOCOLS if REGISTRY[name].traits.is_byzantine]
NO_INVARIANTS = {
    "echo": "the log of its first node is the truth, and no other node ever decides: log agreement says all there is"
}
"""Why a protocol has no checker of its inner state."""
NO_MUTANTS = {"echo": "it is the template; whoever copies it plants the bugs of what it has become"}
"""Why a protocol has no planted bugs of its own."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("workload", ["register", "kv"])
@pytest.mark.parametrize("faults", ["none", "all"])
@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 8), marks=pytest.mark.slow)])
def test_every_promise_is_kept_in_the_simulator(protocol: str, workload: str, faults: str, seeds: range) -> None:
    for seed in seeds:
        outcome = run_task(
            Task(protocol=protocol, seed=seed, nodes=nodes_of(protocol), faults=faults, workload=workload)
        )
        assert outcome.holds, f"seed {seed}: {outcome}"


@pytest.mark.parametrize("protocol", BYZANTINE)
@pytest.mark.parametrize(
    ("nodes", "seeds"),
    [
        (4, range(100, 102)),
        (7, range(100, 101)),
        pytest.param(4, range(102, 106), marks=pytest.mark.slow),
        pytest.param(7, range(101, 102), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("workload", ["register", "kv"])
def test_every_promise_is_kept_among_as_many_liars_as_it_bears(
    protocol: str, nodes: int, seeds: range, workload: str
) -> None:
    liars = REGISTRY[protocol].faults(nodes)
    for seed in seeds:
        outcome = run_task(
            Task(
                protocol=protocol,
                seed=seed,
                nodes=nodes,
                workload=workload,
                byzantine=liars,
                adversary="all",
                duration_s=4.0,
            )
        )
        assert outcome.holds, f"seed {seed}: {outcome}"
        assert outcome.answered > 0, f"seed {seed}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_its_equipment_fits_it(protocol: str) -> None:
    entry, equipment = REGISTRY[protocol], equipment_of(protocol)
    assert isinstance(equipment.simulation, entry.config)
    assert entry.tolerates
    assert all(isinstance(make(), Checker) for make in equipment.invariants)
    assert not equipment.liars or entry.traits.is_byzantine


def test_who_has_no_checker_says_why_not() -> None:
    """Asked of the registry as a whole: a protocol that is being written passes its own tests without."""
    assert {protocol for protocol in PROTOCOLS if not equipment_of(protocol).invariants} == set(NO_INVARIANTS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_has_planted_bugs_or_it_is_said_why_not(protocol: str) -> None:
    """That each is caught: tests/sim/test_world_campaign.py."""
    entry = REGISTRY[protocol]
    assert bool(equipment_of(protocol).mutants) != (protocol in NO_MUTANTS)
    names = [mutant.name for mutant in mutants_of(protocol)]
    assert len(set(names)) == len(names)
    for mutant in mutants_of(protocol):
        changed = (mutant.core, mutant.app, mutant.shell, mutant.client, mutant.storage)
        assert any(changed), f"{mutant.name} changes nothing"
        assert mutant.core is None or issubclass(mutant.core, entry.core), mutant.name
        assert mutant.summary, mutant.name
        assert entry.traits.is_byzantine or not mutant.lies, f"{mutant.name} needs liars"


@pytest.mark.parametrize(
    "protocol", [pytest.param(name, marks=pytest.mark.slow if name in LEFT_TO_SLOW else ()) for name in PROTOCOLS]
)
def test_a_cluster_of_processes_keeps_what_it_acknowledged(protocol: str, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", nodes_of(protocol), protocol) as cluster:
        with cluster.client() as client:
            for number in range(20):
                client.put(b"key-%d" % number, b"before")
        for node in cluster.ids:
            cluster.kill(node)
        cluster.start()
        # Some nodes may lock a batch before all have found each other, and in Vote only they propose it. That can take
        # a round of each node, 1 + 2 + 3 + 4 s; by default a client gives up after 5.
        with cluster.client(timeout_s=READY_TIMEOUT_S) as client:
            assert client.range(b"key-", b"key.").count == 20
            client.put(b"key-0", b"after")
        digests = until(lambda: _equal_values(cluster), "every node has the last value")
        assert digests == {b"after"}


def _equal_values(cluster: LocalCluster) -> set[bytes] | None:
    """What each node says for itself, once that is the same everywhere."""
    found = set()
    for node in cluster.ids:
        assert cluster.processes[node].poll() is None, cluster.log(node)
        with cluster.client(node, faults=0) as client:
            value = client.get(b"key-0", serializable=True)
            found.add(value.value if value is not None else b"")
    return found if found == {b"after"} else None
