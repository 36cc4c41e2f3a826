"""A server that lost its memory, one handler at a time: what it must not do, when it returns, what a leader does."""

from __future__ import annotations

import pytest

from quorate.parts.leaderlog.returns import Return, Returned, return_entry
from quorate.parts.log.replicated import Chunk, Written
from quorate.protocols.raft.messages import (
    Appended,
    AppendedAs,
    AppendEntries,
    Conflict,
    Entries,
    Forgot,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotAfter,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshottedAfter,
    TimeoutNow,
    Vote,
)

from tests.protocols.raft.raft_nodes import CONFIG, Server, entry, noop, settled_leader

ANEW, OTHER = b"incarnation 2 ..", b"incarnation 3 .."


def forgetful(node: int = 3, **given: object) -> Server:
    """Server 3 of three has lost its memory."""
    return Server(node, incarnation=ANEW, **given)  # type: ignore[arg-type]


def sent(turn: object) -> list[object]:
    """The messages of a step."""
    return [send.message for send in (*turn.early, *turn.sends)]  # type: ignore[attr-defined]


# --- what it must not do ---


def test_it_does_not_vote_nor_stand_nor_confirm_reads() -> None:
    server = forgetful()
    assert server.core.standing().role == "learner"
    assert sent(server.on(1, PreVote(1, 9, 1))) == [PreVoteReply(0, False)]
    assert sent(server.on(1, RequestVote(1, 9, 1))) == [Vote(1, False)]
    assert sent(server.time_out()) == [], "it asks for no votes"
    assert sent(server.on(2, Heartbeat(1, 0, 4))) == [Forgot(1, ANEW, 0)], "and not HeartbeatReply"
    assert sent(server.on(2, TimeoutNow(1))) == []
    assert server.core.vote is None


def test_a_heartbeat_for_an_earlier_life_commits_nothing_and_is_no_fault() -> None:
    server = forgetful()
    server.on(2, AppendEntries(1, 0, 0, [entry(1, "a"), entry(1, "b")], 0))
    turn = server.on(2, Heartbeat(1, 2, 1))
    assert (server.core.commit_index, list(turn.blames)) == (0, [])
    assert sent(turn) == [Forgot(1, ANEW, 2)]


def test_what_it_acknowledges_does_not_count() -> None:
    turn = forgetful().on(2, AppendEntries(1, 0, 0, [entry(1, "a")], 0))
    assert sent(turn) == [AppendedAs(1, 1, ANEW, False)]


# --- when it returns ---


def test_it_returns_when_the_entry_is_committed_and_abstains_in_that_term() -> None:
    server = forgetful()
    entries = [noop(4), return_entry(4, 3, ANEW)]
    server.on(2, AppendEntries(5, 0, 0, entries, 1))
    assert server.core.standing().role == "learner", "it is in the log, and not committed"
    turn = server.on(2, AppendEntries(5, 2, 4, [], 2))
    assert [record.value for record in turn.records] == [HardState(5, 3), Returned(ANEW)]
    assert server.core.standing().role == "follower"
    assert sent(server.on(1, RequestVote(5, 9, 5))) == [Vote(5, False)], "it may have voted in it"
    assert sent(server.on(2, Heartbeat(5, 2, 7))) == [HeartbeatReply(5, 7)]
    assert sent(server.on(2, AppendEntries(5, 2, 4, [entry(5)], 2))) == [AppendedAs(5, 3, ANEW, True)]
    server.now += CONFIG.election_timeout_s_min
    assert sent(server.on(1, RequestVote(6, 9, 6))) == [Vote(6, True)]


def test_another_nodes_return_or_another_incarnation_is_not_its_own() -> None:
    server = forgetful()
    entries = [return_entry(1, 1, OTHER), return_entry(1, 3, OTHER)]
    server.on(2, AppendEntries(1, 0, 0, entries, 2))
    assert (server.core.commit_index, server.core.standing().role) == (2, "learner")


@pytest.mark.parametrize("records", [[Returned(ANEW)], [Returned(OTHER)], []])
def test_after_a_restart_it_is_what_the_record_says(records: list[Returned]) -> None:
    server = forgetful(term=2, log=[1, 2], records=records)
    assert (server.core.standing().role == "follower") == (records == [Returned(ANEW)])
    again = Server(3, incarnation=ANEW, records=server.records)
    assert again.core.standing().role == server.core.standing().role


def test_it_returns_by_a_snapshot_that_says_so() -> None:
    server = forgetful()
    chunk = Chunk(9, 4, 0, b"state", 5)
    server.on(2, InstallSnapshotAfter(4, chunk, (Return(3, ANEW, 7),)))
    turn = server.done("install", Written(9, 4, 5, True))
    assert [record.value for record in turn.records] == [
        SnapshottedAfter(9, 4, 9, 4, (Return(3, ANEW, 7),)),
        HardState(4, 3),
        Returned(ANEW),
    ]
    assert server.core.standing().role == "follower"


def test_it_does_not_return_by_one_from_before() -> None:
    server = forgetful()
    server.on(2, InstallSnapshot(4, Chunk(9, 4, 0, b"state", 5)))
    server.done("install", Written(9, 4, 5, True))
    assert (server.core.commit_index, server.core.standing().role) == (9, "learner")


# --- what leaders make of it ---


def returning_leader() -> Server:
    """Server 1 leads; server 3 held all, and has lost its memory."""
    server = settled_leader()
    turn = server.on(3, Forgot(1, ANEW, 0))
    assert [record.value for record in turn.records] == [Entries(2, [return_entry(1, 3, ANEW)])]
    return server


def test_a_leader_proposes_the_return_once_and_sends_the_log_anew() -> None:
    server = returning_leader()
    assert server.core.replication.followers.match[3] == 0
    assert not server.on(3, Forgot(1, ANEW, 0)).records
    turn = server.on(3, Conflict(1, 1, 0, 0))
    assert [m for m in sent(turn) if isinstance(m, AppendEntries)] == [
        AppendEntries(1, 0, 0, [noop(1), return_entry(1, 3, ANEW)], 1)
    ]


def test_a_return_is_not_committed_by_who_returns() -> None:
    server = returning_leader()
    server.on(1, Appended(1, 2))
    server.on(3, AppendedAs(1, 2, ANEW, False))
    assert server.core.commit_index == 1, "only two of three hold it, and one of them has forgotten"
    server.on(3, Appended(1, 2))
    assert server.core.commit_index == 1, "this was sent by an earlier life of it"
    server.on(2, Appended(1, 2))
    assert server.core.commit_index == 2
    server.submit("a")
    server.on(1, Appended(1, 3))
    server.on(3, AppendedAs(1, 3, ANEW, True))
    assert server.core.commit_index == 3, "from now on it counts"


def test_what_another_incarnation_held_is_not_what_this_one_holds() -> None:
    server = returning_leader()
    server.on(2, Appended(1, 2))
    server.on(3, AppendedAs(1, 2, ANEW, True))
    server.submit("a")
    server.on(1, Appended(1, 3))
    server.on(3, AppendedAs(1, 1, OTHER, False))
    assert server.core.replication.followers.match[3] == 1
    server.on(3, AppendedAs(1, 3, OTHER, False))
    assert server.core.commit_index == 2


def test_a_node_that_cannot_be_spared_cannot_be_repaired() -> None:
    assert Server(1).core.unrepairable() == ""
    assert "no quorum without this one" in Server(1, peers=(1, 2)).core.unrepairable()
