"""Campaigns over seeds, the seeds that once broke something, and planted bugs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.protocols import REGISTRY
from quorate.sim.run import RunOutcome
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import mutants_of

from tests.campaigns import many

REGRESSIONS = Path(__file__).resolve().parents[1] / "seeds" / "regressions.txt"
PROTOCOLS = sorted(REGISTRY)


def check(task: Task) -> RunOutcome:
    """Run a task, which must hold."""
    outcome = campaign.run_task(task)
    assert outcome.holds, f"{task}: {outcome.violated}: {outcome.text}"
    return outcome


def regressions() -> list[Any]:
    """The tasks of the file: `protocol nodes seed faults workload [liars] [20s] [joins] # why`. `slow:` before a why
    says that it takes long."""
    tasks = []
    for line in REGRESSIONS.read_text(encoding="utf-8").splitlines():
        what, _, why = line.partition("#")
        words = what.split()
        if words:
            protocol, nodes, seed, faults, workload, *rest = words
            task = Task(protocol=protocol, nodes=int(nodes), seed=int(seed), faults=faults, workload=workload)
            for word in rest:
                task = msgspec.structs.replace(task, **option(word))
            marks = [pytest.mark.slow] if why.strip().startswith("slow:") else []
            tasks.append(pytest.param(task, marks=marks, id=f"{protocol}-{nodes}-{seed}"))
    return tasks


def option(word: str) -> dict[str, Any]:
    """What one more word of a line says."""
    if word == "joins":
        return {"joins": True}
    return {"duration_s": float(word[:-1])} if word.endswith("s") else {"byzantine": int(word)}


@pytest.mark.parametrize("task", regressions())
def test_regression(task: Task) -> None:
    check(task)


@pytest.mark.parametrize("seeds", [range(1000, 1003), pytest.param(range(1003, 1030), marks=pytest.mark.slow)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_short_campaign(protocol: str, seeds: range) -> None:
    outcomes = [check(Task(protocol=protocol, seed=seed)) for seed in seeds]
    assert sum(outcome.undecided for outcome in outcomes) == 0
    assert sum(outcome.answered for outcome in outcomes) > 30 * len(seeds)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("nodes", [1, 2, 4, *[pytest.param(n, marks=pytest.mark.slow) for n in (3, 7)]])
def test_other_sizes(protocol: str, nodes: int) -> None:
    for seed in range(3):
        check(Task(protocol=protocol, seed=seed, nodes=nodes, duration_s=5.0))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("first", range(0, many(400), 50))
def test_a_long_campaign(protocol: str, first: int) -> None:
    for seed in range(first, first + 50):
        check(Task(protocol=protocol, seed=seed, nodes=3 if seed % 2 else 5, workload="mix"))


CLIENT = ("serial-twice", "unknown-as-failed")
CAUGHT_SOON = {
    "echo": CLIENT,
    "raft": (
        "forgets-term",
        "truncates-on-match",
        "skips-noop",
        "acks-early",
        "drops-sessions",
        "union-of-majorities",
        "new-majority-alone",
        "effective-at-commit",
        "no-rollback-on-truncation",
        "changes-early",
        "counts-itself",
        "witness-stands",
        "witness-votes-blind",
        "witness-forgets",
        "witness-serves",
        "witness-keeps-all",
        *CLIENT,
    ),
    "paxos": ("reuses-ballot", "loses-promise", "mixes-ballots", *CLIENT),
    "multipaxos": (
        "reuses-ballot",
        "loses-promise",
        "chooses-freely",
        "takes-any-vote",
        "mixes-ballots",
        "parted-quorums",
        "answers-early",
        "asks-no-newcomers",
        "counts-across",
        "drops-sessions",
        *CLIENT,
    ),
    "pbft": ("adds-up-views",),
    "tendermint": (
        "no-lock",
        "forgets-valid",
        "no-skip",
        "hasty",
        "small-quorum",
        "believes-votes",
        "forgets-signatures",
        "forgets-lock",
        "records-no-votes",
        "tells-nothing",
    ),
    "vote": (
        "small-quorum",
        "forgets-prevotes",
        "forgets-locks",
        "ignores-locks",
        "believes-proofs",
        "believes-decisions",
        "believes-leaders",
    ),
}
SEEDS_SOON = 60
SEEDS_FROM = {
    ("echo", "barrier-out-of-order"): 93,
    ("echo", "no-barrier"): 7,
    ("multipaxos", "answers-early"): 120,
    ("multipaxos", "counts-across"): 17,
    ("multipaxos", "drops-sessions"): 2,
    ("multipaxos", "jobs-first"): 2,
    ("multipaxos", "loses-promise"): 3,
    ("multipaxos", "mixes-ballots"): 1,
    ("multipaxos", "overtakes-snapshot"): 5,
    ("multipaxos", "takes-any-vote"): 18,
    ("paxos", "barrier-out-of-order"): 7,
    ("paxos", "mixes-ballots"): 5,
    ("pbft", "adds-up-views"): 3,
    ("pbft", "no-barrier"): 6,
    ("raft", "acks-early"): 10,
    ("raft", "changes-early"): 5,
    ("raft", "counts-itself"): 6,
    ("raft", "drops-sessions"): 2,
    ("raft", "effective-at-commit"): 2,
    ("raft", "jobs-first"): 2,
    ("raft", "new-majority-alone"): 23,
    ("raft", "no-rollback-on-truncation"): 12,
    ("raft", "overtakes-snapshot"): 10,
    ("raft", "skips-noop"): 7,
    ("raft", "union-of-majorities"): 2,
    ("raft", "unknown-as-failed"): 2,
    ("raft", "witness-forgets"): 1,
    ("raft", "witness-keeps-all"): 1,
    ("raft", "witness-serves"): 1,
    ("raft", "witness-stands"): 1,
    ("raft", "witness-votes-blind"): 2,
    ("tendermint", "barrier-out-of-order"): 35,
    ("tendermint", "believes-votes"): 1,
    ("tendermint", "forgets-lock"): 3,
    ("tendermint", "forgets-valid"): 11,
    ("tendermint", "no-lock"): 11,
    ("tendermint", "records-no-votes"): 3,
    ("vote", "barrier-out-of-order"): 11,
    ("vote", "believes-decisions"): 9,
    ("vote", "believes-leaders"): 2,
    ("vote", "believes-proofs"): 5,
    ("vote", "forgets-prevotes"): 3,
    ("vote", "ignores-locks"): 1,
    ("vote", "no-barrier"): 6,
}
"""Where the first seeds find nothing: the first that did, when this was written."""
NODES = {"pbft": 4, "tendermint": 4, "vote": 4}
"""Where five nodes bear no more than fewer."""


def check_caught(protocol: str, mutant: str) -> None:
    """One of the seeds catches the mutant, and holds without it: or it would say nothing about the fault.

    They are seeds of the common faults; others, which end nodes for good, change what is under way when.
    """
    nodes, first = NODES.get(protocol, 5), SEEDS_FROM.get((protocol, mutant), 0)
    for seed in range(first, first + SEEDS_SOON):
        task = Task(protocol=protocol, seed=seed, nodes=nodes, faults="common")
        if not campaign.run_task(msgspec.structs.replace(task, mutant=mutant)).holds:
            check(task)
            return
    pytest.fail(f"none of {SEEDS_SOON} seeds from {first} on")


@pytest.mark.parametrize(
    ("protocol", "mutant"), [(protocol, name) for protocol, names in CAUGHT_SOON.items() for name in names]
)
def test_planted_bugs_are_caught(protocol: str, mutant: str) -> None:
    check_caught(protocol, mutant)


HANGS = ("no-clock-on-writes", "keeps-leading")
"""They show where disks hang: ``test_hung_disks.py``."""
BY_HAND = ("forgets-advice", "takes-any-members", "no-timeout")
"""No seed of 1,500 shows them, nor one of 70 the last, since others than the rule that they break help as well:
``test_pbft_joins.py``, two tests of ``test_epochs.py``, and ``test_tendermint_rules.py`` for lines 57-60."""
SHELLS = [
    (protocol, mutant.name)
    for protocol in PROTOCOLS
    for mutant in mutants_of(protocol)
    if mutant.shell is not None and mutant.name not in HANGS
]


@pytest.mark.parametrize(("protocol", "mutant"), SHELLS)
def test_faults_of_the_shell_are_caught_above_every_protocol(protocol: str, mutant: str) -> None:
    check_caught(protocol, mutant)


def test_faults_with_snapshots_are_planted_where_snapshots_are_taken() -> None:
    with_snapshots = {protocol for protocol, mutant in SHELLS if mutant in ("jobs-first", "overtakes-snapshot")}
    assert with_snapshots == {"raft", "multipaxos", "pbft", "tendermint"}
    for protocol in PROTOCOLS:
        assert {"no-barrier", "barrier-out-of-order", "empty-checkpoint"} <= {m for p, m in SHELLS if p == protocol}


SEEDS_RARE = 2000
RARE = {
    ("multipaxos", "leases-too-long"): Task(protocol="multipaxos", seed=519),
    ("multipaxos", "one-source"): Task(protocol="multipaxos", seed=66),
    ("multipaxos", "reads-unasked"): Task(protocol="multipaxos", seed=284),
    ("multipaxos", "silent-where-compacted"): Task(protocol="multipaxos", seed=115, faults="common,members"),
    ("multipaxos", "skips-gaps"): Task(protocol="multipaxos", seed=195),
    ("multipaxos", "stale-reads"): Task(protocol="multipaxos", seed=43),
    ("multipaxos", "stands-alone"): Task(protocol="multipaxos", seed=265),
    ("multipaxos", "tells-change-early"): Task(protocol="multipaxos", seed=14),
    ("paxos", "passes-by-one"): Task(protocol="paxos", seed=960, nodes=3, faults="common,disks"),
    ("pbft", "believes-f"): Task(protocol="pbft", seed=48),
    ("pbft", "believes-new-view"): Task(protocol="pbft", seed=40),
    ("pbft", "counts-equals"): Task(protocol="pbft", seed=180),
    ("pbft", "expires-anybody"): Task(protocol="pbft", seed=44),
    ("pbft", "hides-footing"): Task(protocol="pbft", seed=269, nodes=4, joins=True),
    ("pbft", "keeps-poison"): Task(protocol="pbft", seed=8),
    ("pbft", "never-suspects"): Task(protocol="pbft", seed=13),
    ("pbft", "orders-again"): Task(protocol="pbft", seed=23),
    ("pbft", "reads-at-once"): Task(protocol="pbft", seed=14),
    ("pbft", "renews-patience"): Task(protocol="pbft", seed=309),
    ("pbft", "runs-on"): Task(protocol="pbft", seed=415),
    ("pbft", "stays-behind"): Task(protocol="pbft", seed=19),
    ("pbft", "stays-between-marks"): Task(protocol="pbft", seed=269, nodes=4, joins=True),
    ("pbft", "suspects-idle"): Task(protocol="pbft", seed=30),
    ("pbft", "watches-requests"): Task(protocol="pbft", seed=23),
    ("raft", "commits-old-term"): Task(protocol="raft", seed=165),
    ("raft", "elects-by-leave"): Task(protocol="raft", seed=66),
    ("raft", "leases-too-long"): Task(protocol="raft", seed=462),
    ("raft", "one-source"): Task(protocol="raft", seed=260),
    ("raft", "stale-reads"): Task(protocol="raft", nodes=3, seed=607, workload="register"),
    ("raft", "votes-twice"): Task(protocol="raft", seed=5),
    ("tendermint", "any-time"): Task(protocol="tendermint", seed=6, nodes=4, faults="common"),
    ("tendermint", "believes-blocks"): Task(protocol="tendermint", seed=14, nodes=4, faults="common"),
    ("tendermint", "believes-certificates"): Task(protocol="tendermint", seed=20, nodes=4, faults="common"),
    ("tendermint", "believes-decisions"): Task(protocol="tendermint", seed=2, nodes=4, faults="common"),
    ("tendermint", "believes-f"): Task(protocol="tendermint", seed=11),
    ("tendermint", "believes-offers"): Task(protocol="tendermint", seed=34, nodes=4, faults="common,snapshots"),
    ("tendermint", "believes-pieces"): Task(protocol="tendermint", seed=20, nodes=4, faults="common,snapshots"),
    ("tendermint", "believes-proposers"): Task(protocol="tendermint", seed=2, nodes=4, faults="common"),
    ("tendermint", "expires-anybody"): Task(protocol="tendermint", seed=58, nodes=4, faults="common,clients"),
    ("tendermint", "helps-nobody"): Task(protocol="tendermint", seed=0, nodes=4, faults="common"),
    ("tendermint", "nil-unlocks"): Task(protocol="tendermint", seed=245, nodes=4, faults="common"),
    ("tendermint", "no-old-prevotes"): Task(protocol="tendermint", seed=4, nodes=4, faults="common"),
    ("tendermint", "one-value"): Task(protocol="tendermint", seed=20, nodes=4, faults="common"),
    ("tendermint", "sends-at-once"): Task(protocol="tendermint", seed=6, nodes=4, faults="common"),
    ("tendermint", "this-round"): Task(protocol="tendermint", seed=2, nodes=4, faults="common"),
    ("vote", "believes-f"): Task(protocol="vote", seed=18),
    ("vote", "expires-anybody"): Task(protocol="vote", seed=82),
    ("vote", "runs-ahead"): Task(protocol="vote", seed=68),
}
"""Where the first seeds find nothing, or other mixes find it sooner: a few before the first that does."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "mutant"),
    [
        (name, mutant.name)
        for name in PROTOCOLS
        for mutant in mutants_of(name)
        if mutant.shell is None
        and mutant.storage is None
        and not mutant.repairs  # test_repairs.py
        and mutant.name not in (*CAUGHT_SOON.get(name, ()), *HANGS, *BY_HAND)
    ],
)
def test_rare_planted_bugs_are_caught(protocol: str, mutant: str) -> None:
    usual = RARE.get((protocol, mutant), Task(protocol=protocol, seed=0))
    for seed in range(usual.seed, usual.seed + SEEDS_RARE):
        task = msgspec.structs.replace(usual, seed=seed)
        if not campaign.run_task(msgspec.structs.replace(task, mutant=mutant)).holds:
            check(task)
            return
    pytest.fail(f"none of {SEEDS_RARE} seeds from {usual.seed} on")
