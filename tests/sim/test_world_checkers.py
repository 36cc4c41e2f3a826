"""Each checker says nothing of a healthy run and catches what is planted."""

from types import SimpleNamespace
from typing import Any

import pytest

from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import Decided, Restored
from quorate.protocols.raft import RaftConfig
from quorate.protocols.raft.configurations import Configurations
from quorate.protocols.raft.invariants import RaftInvariants
from quorate.sim.checkers.base import Violation
from quorate.sim.checkers.durability import Durability
from quorate.sim.checkers.history import LinearizableHistory
from quorate.sim.checkers.log import LogAgreement
from quorate.sim.history.events import Event
from quorate.sim.workload import Op, Workload

A, B, C = Entry(1, b"a"), Entry(1, b"b"), Entry(2, b"c")


# --- the log ---


def agreement(nodes: int = 2) -> LogAgreement:
    checker = LogAgreement()
    for node in range(nodes):
        checker.started(node, None)  # type: ignore[arg-type]
    return checker


def test_logs_that_agree() -> None:
    checker = agreement()
    checker.output(0, Decided(1, (A, B)))
    checker.output(1, Decided(1, [Entry(1, b"a")]))
    checker.output(1, Decided(2, [B, C]))
    checker.started(0, None)  # type: ignore[arg-type]
    checker.output(0, Restored(2, 1))
    checker.output(0, Decided(3, [C]))
    assert checker.agreed == [A, B, C]
    assert checker.reached == {0: 3, 1: 3}


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([(0, Decided(1, (A,))), (1, Decided(1, (B,)))], "at index 1 node 1 commits"),
        ([(0, Decided(1, (A,))), (0, Decided(1, (A,)))], "a gap or a repeat"),
        ([(0, Decided(2, (A,)))], "a gap or a repeat"),
        ([(0, Decided(1, (A, B))), (1, Restored(3, 1))], "no node committed beyond 2"),
        ([(0, Decided(1, (A, B))), (0, Restored(1, 1))], "goes back from index 2"),
        ([(0, Decided(1, (A, B))), (1, Restored(1, 1)), (1, Decided(3, (C,)))], "a gap or a repeat"),
    ],
)
def test_logs_that_do_not_agree(outputs: list[tuple[int, Any]], words: str) -> None:
    checker = agreement()
    *before, (node, value) = outputs
    for earlier in before:
        checker.output(*earlier)
    with pytest.raises(Violation, match=words):
        checker.output(node, value)


# --- Raft ---


MEMBERS = (0, 1, 7, 8, 9)
"""Nobody shows the last three, and they may have voted for anybody, and hold anything."""


def core(term: int = 1, **changes: Any) -> SimpleNamespace:
    """What the checker reads of a core."""
    made = SimpleNamespace(
        **{"term": term, "vote": None, "role": "follower", "commit_index": 0, "log": Log(), "stalled": None} | changes
    )
    made.config, made.env = RaftConfig(), SimpleNamespace(peers=MEMBERS)
    made.configurations = Configurations(made.config, 0, MEMBERS)
    made.state = made.election = made
    return made


def raft(*cores: SimpleNamespace) -> RaftInvariants:
    checker = RaftInvariants()
    for node, each in enumerate(cores):
        checker.started(node, each)  # type: ignore[arg-type]
    return checker


def step(checker: RaftInvariants, node: int, each: SimpleNamespace, release: bool = True) -> None:
    checker.stepped(node, each)
    if release:
        checker.released(node, checker.mark(node))


def test_a_healthy_raft() -> None:
    one, two = core(), core()
    checker = raft(one, two)
    one.term = one.vote = 1
    one.role = "leader"
    one.log.append([A, B])
    step(checker, 0, one)
    two.log.append([Entry(1, b"a"), B])
    step(checker, 1, two)
    one.commit_index = 2
    step(checker, 0, one)
    two.commit_index = 1
    two.term, two.vote, two.role = 2, 1, "leader"
    two.log.append([C])
    step(checker, 1, two)
    one.term, one.role, one.vote = 2, "follower", None
    one.log.append([C])
    one.log.compact(2, 1)
    step(checker, 0, one)
    assert checker.leaders == {1: 0, 2: 1}
    assert checker.committed == [A, B]


def test_two_leaders_of_one_term() -> None:
    one, two = core(role="leader"), core()
    checker = raft(one, two)
    two.role = "leader"
    with pytest.raises(Violation, match="election safety: term 1 has two leaders"):
        step(checker, 1, two)


def test_a_leader_that_removes_entries() -> None:
    one = core(role="leader")
    one.log.append([A, B])
    checker = raft(one)
    one.log.truncate(2)
    with pytest.raises(Violation, match="leader append-only"):
        step(checker, 0, one)


def test_a_leader_whose_disk_takes_nothing() -> None:
    raft(core(stalled="the disk hangs"))
    with pytest.raises(Violation, match="node 0 leads term 2, and cannot write: the disk hangs"):
        raft(core(term=2, role="leader", stalled="the disk hangs"))


def test_a_leader_that_replaces_entries() -> None:
    one = core(term=2, role="leader")
    one.log.append([A, B])
    checker = raft(one)
    one.log.truncate(1)
    one.log.append([A, C])
    with pytest.raises(Violation, match="leader append-only"):
        step(checker, 0, one)


def test_logs_that_do_not_match() -> None:
    one, two = core(), core()
    one.log.append([A, B])
    checker = raft(one, two)
    two.log.append([B])
    with pytest.raises(Violation, match="log matching"):
        step(checker, 1, two)


def test_logs_that_match_late_but_not_early() -> None:
    one, two = core(), core()
    one.log.append([A, C])
    checker = raft(one, two)
    two.log.append([C, C])
    with pytest.raises(Violation, match="after one of term 2"):
        step(checker, 1, two)


def test_a_leader_that_lacks_what_is_committed() -> None:
    one, two = core(), core()
    one.log.append([A])
    one.commit_index = 1
    checker = raft(one, two)
    two.term, two.role = 2, "leader"
    with pytest.raises(Violation, match=r"leader completeness.*ends at 0"):
        step(checker, 1, two)


def test_a_leader_that_has_something_else_where_something_is_committed() -> None:
    one, two = core(), core()
    one.log.append([A])
    one.commit_index = 1
    checker = raft(one, two)
    two.term, two.role = 3, "leader"
    two.log.append([C])
    with pytest.raises(Violation, match=r"leader completeness.*of term 2 at index 1"):
        step(checker, 1, two)


def test_commits_that_differ() -> None:
    one, two = core(), core()
    one.log.append([A])
    one.commit_index = 1
    checker = raft(one, two)
    two.log.append([C])
    two.commit_index = 1
    with pytest.raises(Violation, match="state machine safety"):
        step(checker, 1, two)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"term": 5}, {"term": 4}, "goes back from term 5 to 4"),
        ({"vote": 1}, {"vote": 2}, "changes its vote in term 1 from 1 to 2"),
        ({"vote": 1}, {"vote": None}, "changes its vote"),
        ({"commit_index": 2}, {"commit_index": 1}, "commit goes back from 2 to 1"),
        ({}, {"commit_index": 3}, "its log ends at 2"),
    ],
)
def test_state_that_goes_back(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    one = core(**before)
    one.log.append([A, B])
    checker = raft(one)
    for name, value in after.items():
        setattr(one, name, value)
    with pytest.raises(Violation, match=words):
        step(checker, 0, one)


def test_a_log_that_loses_what_is_committed() -> None:
    one = core()
    one.log.append([A, B])
    one.commit_index = 2
    checker = raft(one)
    one.log.truncate(2)
    with pytest.raises(Violation, match="removes its entries from 2 on"):
        step(checker, 0, one)


def test_a_crash_may_take_back_what_nobody_heard_and_nothing_else() -> None:
    one = core(term=3, vote=1)
    checker = raft(one)
    checker.released(0, checker.mark(0))
    one.term, one.vote = 4, 2
    step(checker, 0, one, release=False)
    checker.started(0, core(term=3, vote=1))  # type: ignore[arg-type]
    with pytest.raises(Violation, match="had voted for 1 in term 3"):
        checker.started(0, core(term=3, vote=None))  # type: ignore[arg-type]
    with pytest.raises(Violation, match="back in term 2"):
        checker.started(0, core(term=2))  # type: ignore[arg-type]


def test_a_second_vote_of_another_life_is_caught_when_it_leaves() -> None:
    checker = raft(core())
    checker.released(0, (3, None))
    checker.released(0, (3, 1))
    checker.released(0, (4, None))
    checker.released(0, (4, 2))
    with pytest.raises(Violation, match="voted for 2 and for 0 in term 4"):
        checker.released(0, (4, 0))
    with pytest.raises(Violation, match="speaks in term 3"):
        checker.released(0, (3, 1))


# --- what clients saw ---


def finished(history: list[Event], acknowledged: dict[Any, Op] | None = None) -> Any:
    """A world that is over."""
    workload = Workload()
    workload.history = history
    workload.acknowledged = acknowledged or {}
    return SimpleNamespace(workload=workload)


def history(last_read: int) -> list[Event]:
    return [
        Event("invoke", 0, "write", 1, "k"),
        Event("ok", 0, "write", True, "k"),
        Event("invoke", 0, "write", 2, "k"),
        Event("ok", 0, "write", True, "k"),
        Event("invoke", 1, "read", None, "k"),
        Event("ok", 1, "read", last_read, "k"),
    ]


def test_a_stale_read() -> None:
    LinearizableHistory().finish(finished(history(2)))
    with pytest.raises(Violation, match="client 1's read"):
        LinearizableHistory().finish(finished(history(1)))


def test_an_acknowledged_write_that_is_in_no_log() -> None:
    log = agreement(1)
    log.output(0, Decided(1, (A,)))
    durability = Durability(log, lambda data: (data,))
    durability.finish(finished([], {b"a": Op("write", "k", 1)}))
    with pytest.raises(Violation, match="durability: write of 2 at k"):
        durability.finish(finished([], {b"a": Op("write", "k", 1), b"x": Op("write", "k", 2)}))
