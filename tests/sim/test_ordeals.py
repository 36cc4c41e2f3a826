"""The further kinds of faults: each happens where it is switched on, and changes nothing where it is not."""

import msgspec
import pytest

from quorate.sim import operator, ordeals
from quorate.sim.options import COMMON, FAULTS, FURTHER
from quorate.sim.run import RunOutcome
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import equipment_of

OCCURS = {
    "gone": ("gone for good",),
    "members": ("decommissions", "epochs crossed"),
    "snapshots": (
        "pieces stored",
        "transfers cut",
        "pieces failed",
        "snapshots failed",
        "sources dry",
        "sources spent",
    ),
    "leases": ("clocks begun anew",),
    "delays": ("slow turns of links",),
    "clients": ("requests of false clients",),
}
"""By kind, what is counted then. ``quorums`` is a config, and cannot be counted."""
IN_ANY = ("pieces stored", "transfers cut", "epochs crossed")
"""What is counted without the kind too: snapshots go in pieces, and transfers are cut, in any run; members change in
some."""
SEEDS = {"snapshots": (12, 48)}
"""Where not the first six that have the kind."""
PROTOCOLS = {"gone": "paxos", "clients": "vote"}
"""Where not Multi-Paxos."""
ALL = ",".join(FAULTS)
"""The common kinds and the further ones. How disks fail has a stream and tests of its own (``test_disk_faults.py``)."""


def run(protocol: str, seed: int, faults: str, **more: object) -> RunOutcome:
    nodes = 4 if protocol in ("vote", "pbft") else 5
    outcome = campaign.run_task(Task(protocol=protocol, seed=seed, faults=faults, nodes=nodes, **more))  # type: ignore[arg-type]
    assert outcome.holds, outcome.text
    return outcome


def seeds_with(kind: str, count: int) -> list[int]:
    """The first seeds that have a kind."""
    return [seed for seed in range(100) if kind in ordeals.chosen(seed, (kind,))][:count]


@pytest.mark.parametrize("kind", sorted(OCCURS))
def test_each_kind_happens_and_no_other(kind: str) -> None:
    counts: dict[str, int] = {}
    for seed in SEEDS.get(kind) or seeds_with(kind, 6):
        outcome = run(PROTOCOLS.get(kind, "multipaxos"), seed, f"crash,partition,{kind}", duration_s=5.0)
        for name, count in outcome.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert all(counts.get(name, 0) > 0 for name in OCCURS[kind]), counts
    others = {name for names in OCCURS.values() for name in names if name not in (*IN_ANY, *OCCURS[kind])}
    assert all(counts.get(name, 0) == 0 for name in others), counts


@pytest.mark.parametrize("protocol", ["raft", "paxos", "multipaxos"])
def test_a_seed_without_further_kinds_runs_as_with_the_common_ones_alone(protocol: str) -> None:
    kinds = equipment_of(protocol).kinds
    seed = next(seed for seed in range(300) if not ordeals.chosen(seed, kinds))
    assert run(protocol, seed, ALL, duration_s=4.0).digest == run(protocol, seed, "common", duration_s=4.0).digest


def test_leaving_out_a_kind_changes_nothing_about_the_others() -> None:
    kinds = equipment_of("raft").kinds
    seed = next(seed for seed in range(300) if ordeals.chosen(seed, kinds) == ("delays",))
    with_all, common = (run("raft", seed, faults, duration_s=4.0) for faults in (ALL, "common"))
    assert with_all.digest == run("raft", seed, "common,delays", duration_s=4.0).digest != common.digest


def test_a_kind_that_a_protocol_does_not_name_is_not_tried_on_it() -> None:
    seed = seeds_with("gone", 1)[0]
    assert equipment_of("echo").kinds == ("delays",)
    assert campaign.trial_of(Task(protocol="echo", seed=seed)).kinds == ordeals.chosen(seed, ("delays",))
    assert "gone for good" not in run("echo", seed, "all", duration_s=2.0).counts


def test_other_quorums_and_new_members_exclude_each_other() -> None:
    seeds = [
        seed
        for seed in range(300)
        if {"quorums", "members"} <= set(ordeals.chosen(seed, ("quorums",)) + ordeals.chosen(seed, ("members",)))
    ]
    assert seeds
    for seed in seeds:
        assert ordeals.chosen(seed, FURTHER).count("members") == 0
        assert "quorums" not in ordeals.chosen(seed, FURTHER, joins=True)


def test_every_kind_is_tried_on_some_protocol_and_counts_no_common_one() -> None:
    tried = {
        kind for name in ("raft", "paxos", "multipaxos", "pbft", "vote", "echo") for kind in equipment_of(name).kinds
    }
    assert tried == set(FURTHER)
    assert set(FURTHER).isdisjoint(COMMON)
    assert set(ordeals.SHARES) == set(FURTHER)


# --- planted bugs that they find, and that hold without them ---

CAUGHT = [
    ("multipaxos", "tells-change-early", 30, ("gone", "members")),
    ("multipaxos", "stands-alone", 268, ("leases",)),
    ("multipaxos", "leases-too-long", 153, ("leases",)),
    ("multipaxos", "silent-where-compacted", 115, ("members",)),
    ("multipaxos", "reads-unasked", 91, ("members",)),
    ("multipaxos", "one-source", 80, ("snapshots",)),
    ("raft", "one-source", 80, ("snapshots",)),
]
"""Protocol, mutant, seed, and the kinds that catch it beside the common ones; it holds with all the others."""


@pytest.mark.parametrize(("protocol", "mutant", "seed", "kinds"), CAUGHT)
def test_a_planted_bug_is_caught_by_the_kind_that_shows_it(
    protocol: str, mutant: str, seed: int, kinds: tuple[str, ...]
) -> None:
    faults = ",".join([*COMMON, *kinds])
    assert not campaign.run_task(Task(protocol=protocol, seed=seed, mutant=mutant, faults=faults)).holds
    run(protocol, seed, faults)
    others = ",".join([*COMMON, *(other for other in FURTHER if other not in kinds)])
    run(protocol, seed, others, mutant=mutant)


def test_a_planted_bug_is_caught_where_a_disk_ends_the_only_node_that_knows_a_value() -> None:
    sick = Task(protocol="paxos", nodes=3, seed=965, mutant="passes-by-one", faults="common,disks")
    assert not campaign.run_task(sick).holds
    assert campaign.run_task(msgspec.structs.replace(sick, mutant=None)).holds
    assert campaign.run_task(msgspec.structs.replace(sick, faults="common")).holds


UNHEARD = [("silent-where-compacted", 26), ("reads-unasked", 26)]
"""Seeds with joins in which a quorum of the old members has not heard that new ones are in force."""


@pytest.mark.parametrize(("mutant", "seed"), UNHEARD)
def test_a_planted_bug_is_caught_where_members_have_not_heard(
    mutant: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one plan alone, to save time: by all plans it takes hundreds of seeds."""
    monkeypatch.setattr(operator, "PLANS", (("away", 1.0),))
    sick = Task(protocol="multipaxos", seed=seed, mutant=mutant, joins=True, faults="common,members")
    assert not campaign.run_task(sick).holds
    run("multipaxos", seed, "common,members", joins=True)
    run("multipaxos", seed, "common", joins=True, mutant=mutant)
