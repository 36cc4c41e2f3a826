"""Compaction and catch-up, one step at a time, at both ends."""

import msgspec

from quorate.kernel import Failed
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import Change, Nodes
from quorate.parts.log.replicated import Chunk, ReadChunk, Restored, SnapshotInfo, TakeSnapshot, WriteChunk, Written
from quorate.protocols.multipaxos.messages import (
    Accept,
    Accepted,
    Heartbeat,
    InstallSnapshot,
    Membership,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotProgress,
    Snapshotted,
    SnapshottedAmong,
)

from tests.protocols.multipaxos.multipaxos_nodes import (
    CONFIG,
    Node,
    agreed,
    entries,
    follower,
    leader,
    messages,
    records,
    voted,
)
from tests.protocols.raft.raft_nodes import NOTHING, effects

SMALL = msgspec.structs.replace(CONFIG, snapshot_entries=4, keep_entries=1, chunk_bytes=10)
ALL = (Membership(1, (1, 2, 3)),)


def chunk(offset: int, data: bytes = b"x" * 10, index: int = 5, total: int = 25) -> Chunk:
    return Chunk(index, 1, offset, data, total)


def behind() -> Node:
    """A leader with a snapshot at 5, whose follower 3 has nothing."""
    node = leader(records=[Snapshotted(5, 1, 5, 1, ALL)], config=SMALL)
    assert node.on(3, Accepted((1, 1), 0)) == effects(jobs=[(("chunk", 3), ReadChunk(5, 0, 10))])
    node.submit("a")
    return node


def test_a_log_that_has_grown_is_snapshotted_and_keeps_a_tail() -> None:
    node = leader(config=SMALL)
    node.submit("a", "b", "c", "d")
    assert agreed(node, 2).jobs == effects(jobs=[("snapshot", TakeSnapshot(4, 1))]).jobs
    turn = node.done("snapshot", SnapshotInfo(4, 1, 100))
    assert records(turn) == [Snapshotted(4, 1, 3, 1, ALL)]
    assert node.log == entries(1, "d")


def test_a_snapshot_that_failed_changes_nothing() -> None:
    node = leader(config=SMALL)
    node.submit("a", "b", "c", "d")
    agreed(node, 2)
    assert node.done("snapshot", Failed("disk full")) == NOTHING


def test_pieces_go_one_at_a_time_each_asked_for() -> None:
    node = behind()
    turn = node.done(("chunk", 3), chunk(0))
    assert turn == effects(early=[(3, InstallSnapshot((1, 1), chunk(0), ALL))])
    turn = node.on(3, SnapshotProgress((1, 1), 5, 10, False))
    assert turn == effects(jobs=[(("chunk", 3), ReadChunk(5, 10, 10))])
    assert node.on(3, SnapshotProgress((1, 1), 5, 10, False)) == NOTHING, "a copy"
    turn = node.on(3, SnapshotProgress((1, 1), 5, 25, True))
    assert Accept((1, 1), 6, entries(1, "a"), 5) in messages(turn)


def test_a_piece_of_a_snapshot_whose_members_are_forgotten_is_begun_again() -> None:
    node = behind()
    node.core._snapshots._known = {}
    assert node.done(("chunk", 3), chunk(0)) == effects(jobs=[(("chunk", 3), ReadChunk(5, 0, 10))])


def test_a_snapshot_that_is_whole_replaces_the_state_and_keeps_later_votes() -> None:
    node = follower(2, records=[voted((1, 2), 7, "g")], config=SMALL)
    memberships = (Membership(3, (1, 2)),)
    turn = node.on(2, InstallSnapshot((1, 2), chunk(0, total=10), memberships))
    assert turn == effects(jobs=[("install", WriteChunk(5, 1, 0, b"x" * 10, 10))])
    turn = node.done("install", Written(5, 1, 10, True))
    assert turn == effects(
        records=[Snapshotted(5, 1, 5, 1, memberships)],
        outputs=[Restored(5, 1)],
        sends=[(2, SnapshotProgress((1, 2), 5, 10, True))],
    )
    assert node.core.acceptor.ahead[7][1] == entries(1, "g")[0]
    assert node.core.members.at(6).members == (1, 2)


def test_a_snapshot_of_what_is_known_is_answered_as_there() -> None:
    node = follower(2, records=[Snapshotted(5, 1, 5, 1, ALL)])
    turn = node.on(2, InstallSnapshot((1, 2), chunk(0), ALL))
    assert turn == effects(sends=[(2, SnapshotProgress((1, 2), 5, 25, True))])


def test_memberships_that_cannot_be_are_blamed() -> None:
    node = follower(2)
    for memberships in ((), (Membership(1, ()),), (Membership(1, (1, 9)),)):
        turn = node.on(2, InstallSnapshot((1, 2), chunk(0), memberships))
        assert [blame.node for blame in turn.blames] == [2]
        assert turn.jobs == ()


# --- of another node than the leader ---


def test_a_leader_from_which_nothing_arrives_has_another_node_send_its_snapshot() -> None:
    node = behind()
    node.done(("chunk", 3), Failed("input/output error"))
    node.on(2, Accepted((1, 1), 6))
    node.core.leadership.followers[3].transfer.source = 2
    turn = node.on(3, SnapshotProgress((1, 1), 6, 10, False))
    assert turn == effects(early=[(2, ServeSnapshot((1, 1), Wanted(3, 6, 10, 5, 6)))])
    node.on(3, SnapshotProgress((1, 1), 6, 25, True))
    assert node.core.leadership.followers.match[3] == 6


def test_a_follower_sends_its_snapshot_with_whose_votes_count_after_it() -> None:
    memberships, among = (Membership(3, (1, 2)),), Nodes((), (3,))
    for record, nodes in (
        (Snapshotted(5, 1, 5, 1, memberships), Nodes()),
        (SnapshottedAmong(5, 1, 5, 1, memberships, among), among),
    ):
        node = follower(2, records=[record], config=SMALL, peers=(1, 2, 3, 4))
        asked = ServeSnapshot((1, 2), Wanted(4, 0, 0, 5, 9))
        assert node.on(2, asked) == effects(jobs=[(("chunk", 4), ReadChunk(5, 0, 10))])
        sent = SnapshotPiece((1, 2), chunk(0), memberships, nodes)
        assert node.done(("chunk", 4), chunk(0)) == effects(early=[(4, sent)])


def test_what_was_asked_for_by_a_leader_of_before_is_not_sent() -> None:
    node = follower(2, records=[Snapshotted(5, 1, 5, 1, ALL)], config=SMALL)
    node.on(2, ServeSnapshot((1, 2), Wanted(3, 0, 0, 5, 9)))
    node.on(3, Heartbeat((2, 3), 0, 0))
    assert node.done(("chunk", 3), chunk(0)) == NOTHING
    assert node.on(2, ServeSnapshot((1, 2), Wanted(3, 0, 0, 5, 9))).jobs == (), "it leads no more"


def test_a_piece_of_another_node_is_stored_and_the_leader_is_told() -> None:
    node = follower(2, config=SMALL)
    piece = SnapshotPiece((1, 2), chunk(0, total=10), ALL, Nodes())
    assert node.on(3, piece) == effects(jobs=[("install", WriteChunk(5, 1, 0, b"x" * 10, 10))])
    turn = node.done("install", Written(5, 1, 10, True))
    assert turn == effects(
        records=[Snapshotted(5, 1, 5, 1, ALL)],
        outputs=[Restored(5, 1)],
        sends=[(2, SnapshotProgress((1, 2), 5, 10, True))],
    )
    assert node.on(3, piece) == effects(sends=[(2, SnapshotProgress((1, 2), 5, 10, True))]), "it has that"
    stale = SnapshotPiece((1, 1), chunk(0, index=9), ALL, Nodes())
    assert node.on(3, stale) == NOTHING
    bad = SnapshotPiece((1, 2), chunk(0, index=9), (), Nodes())
    assert [blame.node for blame in node.on(3, bad).blames] == [3], "and not the leader"


def test_a_piece_that_is_dropped_says_nothing_of_the_one_that_is_being_stored() -> None:
    node = follower(2, config=SMALL)
    node.on(2, InstallSnapshot((1, 2), chunk(0, total=10), ALL))
    node.on(3, SnapshotPiece((1, 2), chunk(0, index=6), (Membership(1, (1, 2)),), Nodes()))
    node.done("install", Written(5, 1, 10, True))
    assert node.core.commit_index == 5
    assert node.core.members.at(6).members == (1, 2, 3)


def test_a_snapshot_says_the_members_as_of_its_slot() -> None:
    node = leader(config=SMALL)
    spans = node.core.members
    spans.add(2, Change((1, 2), None))
    spans.add(9, Change((2, 3), None))
    assert spans.known_at(1) == ALL
    assert spans.known_at(2) == (*ALL, Membership(10, (1, 2)))
    assert spans.known_at(9) == (*ALL, Membership(10, (1, 2)), Membership(17, (2, 3))), "10 may not be chosen yet"
    assert spans.known_at(10) == (Membership(10, (1, 2)), Membership(17, (2, 3)))
    spans.forget_before(10)
    assert spans.at(10).members == (1, 2)


def test_an_older_snapshot_of_which_the_members_are_not_known_any_more_gives_way_to_the_newest() -> None:
    """A node that restarted knows those of its newest one, and has the file of the one before."""
    node = Node(records=[Snapshotted(10, 1, 10, 1, ALL)], config=SMALL)
    node.on(2, Heartbeat((1, 2), 10, 0))
    older, newest = ReadChunk(6, 4, 10), ReadChunk(10, 0, 10)
    assert node.on(2, ServeSnapshot((1, 2), Wanted(3, 6, 4, 5, 20))).jobs == effects(jobs=[(("chunk", 3), older)]).jobs
    assert node.done(("chunk", 3), chunk(4, index=6)) == effects(jobs=[(("chunk", 3), newest)])
