"""Quotas of a campaign: which faults it must bring, how often, and what is said if it does not."""

from quorate.sim.options import EVERY
from quorate.trials.campaign import Task
from quorate.trials.quotas import LEAST, QUOTAS, SEEDS, quotas_of, shortfall

ALL = {fault: 10_000 for faults in QUOTAS.values() for fault in faults}


def test_every_fault_of_a_kind_that_is_on_must_come() -> None:
    found = quotas_of(Task(protocol="multipaxos", seed=0), SEEDS, ALL)
    assert set(found) == {fault for kind, faults in QUOTAS.items() if kind != "clients" for fault in faults}
    assert {quota.least for quota in found.values()} == {LEAST}
    assert shortfall(found) == ""


def test_one_that_came_too_seldom_is_named() -> None:
    counts = {**ALL, "transfers cut": LEAST - 1, "pieces failed": 0}
    said = shortfall(quotas_of(Task(protocol="raft", seed=0), SEEDS, counts))
    assert f"{LEAST - 1} transfers cut (snapshots), 0 pieces failed (snapshots); it takes {LEAST} of each" in said
    assert shortfall(quotas_of(Task(protocol="raft", seed=0), SEEDS, {**ALL, "transfers cut": LEAST})) == ""


def test_a_longer_campaign_must_bring_more_and_a_shorter_one_nothing() -> None:
    task = Task(protocol="raft", seed=0)
    assert {quota.least for quota in quotas_of(task, 2 * SEEDS, {}).values()} == {2 * LEAST}
    assert {quota.least for quota in quotas_of(task, SEEDS - 1, {}).values()} == {0}
    assert shortfall(quotas_of(task, 20, {})) == ""


def test_kinds_that_are_off_and_those_that_a_protocol_is_not_tested_with_are_not_asked_for() -> None:
    assert set(quotas_of(Task(protocol="raft", seed=0, faults="common"), SEEDS, {})) == {"crashed nodes", "partition"}
    assert "transfers cut" not in quotas_of(Task(protocol="paxos", seed=0), SEEDS, {})
    assert "decommissions" not in quotas_of(Task(protocol="paxos", seed=0), SEEDS, {})
    assert quotas_of(Task(protocol="raft", seed=0, faults="none"), SEEDS, {}) == {}
    assert quotas_of(Task(protocol="raft", seed=0, mutant="no-barrier"), SEEDS, {}) == {}


def test_disks_are_asked_for_damage_where_a_node_can_be_spared() -> None:
    def asked(protocol: str, **more: int) -> set[str]:
        return set(quotas_of(Task(protocol=protocol, seed=0, faults="disks", **more), SEEDS, {}))

    of_journals = {"bit-rot", "misdirected-write", "lost-write", "read-error", "lying-sync"}
    of_all = {"syncs failed", "syncs hung", "hangs found"}
    assert asked("raft") == {*of_journals, *of_all, "snapshot-rot", "snapshot-full"}
    assert asked("paxos") == {*of_journals, *of_all}
    assert asked("echo") == set(), "nodes of which none may be gone for good have disks that hold"
    assert asked("pbft", nodes=4, byzantine=1) == {*of_all, "snapshot-full"}
    assert asked("pbft", nodes=7, byzantine=1) == asked("raft")


def test_members_must_go_for_good_where_one_can_be_spared_besides_the_liars() -> None:
    def asked(protocol: str, **more: int) -> set[str]:
        return set(quotas_of(Task(protocol=protocol, seed=0, faults="gone", **more), SEEDS, {}))

    assert asked("raft") == asked("pbft", nodes=4) == {"gone for good", "absence"}
    assert asked("pbft", nodes=7, byzantine=1) == {"gone for good", "absence"}
    assert asked("pbft", nodes=4, byzantine=1) == asked("pbft", nodes=7, byzantine=2) == {"absence"}


def test_a_liar_that_waits_for_laggards_must_find_some_where_there_are_snapshots() -> None:
    def asked(faults: str, **more: object) -> set[str]:
        task = Task(protocol="pbft", seed=0, nodes=4, faults=faults, **more)  # type: ignore[arg-type]
        return set(quotas_of(task, SEEDS, {})) - set(QUOTAS["snapshots"])

    assert asked("crash,snapshots", byzantine=1) == {"crashed nodes", "pieces poisoned"}
    assert asked("crash,snapshots", byzantine=1, joins=True) == {"crashed nodes", "pieces poisoned"}
    assert asked("crash,snapshots", byzantine=1, adversary="silent") == {"crashed nodes"}
    assert asked("crash", byzantine=1) == asked("crash,snapshots") == {"crashed nodes"}


def test_the_table_names_kinds_that_there_are() -> None:
    assert set(QUOTAS) <= set(EVERY)
