"""Nodes that join and leave: what one server of Raft does, step by step. The paper's rules: ``tests/paper/raft``."""

from collections.abc import Callable

import pytest

from quorate.kernel import Blame, Env, Meet, Part, Received
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import FOUNDERS_ALONE, Newcomer, NodePlace, Nodes, Voters, encode_change
from quorate.parts.log.entries import CONFIGURATION, Entry
from quorate.parts.log.replicated import Chunk, ReadChunk, SnapshotInfo
from quorate.protocols.raft import Raft
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Configured,
    Conflict,
    Heartbeat,
    InstallSnapshotAmong,
    PreVote,
    ServeSnapshot,
    SnapshotPieceAmong,
    SnapshottedAmong,
    TimeoutNow,
)

from tests.protocols.cluster import Cluster, Member
from tests.protocols.raft.raft_nodes import CONFIG, NOTHING, Server, follower, held, noop, precandidate, settled_leader
from tests.protocols.stepped import THREE

FOUR = Newcomer(4, "n4:1")
MEETS_4 = Meet("n4:1", b"", 4)


def introduces(term: int = 1, epoch: int | None = None) -> Entry:
    """Node 4 is there; the members stay."""
    return Entry(term, encode_change(THREE, epoch, [FOUR]), CONFIGURATION)


def leaves(*members: int, leavers: tuple[int, ...], term: int = 1) -> Entry:
    """Others leave for good."""
    return Entry(term, encode_change(members, None, [], leavers), CONFIGURATION)


def introduced() -> Server:
    """A leader that knows node 4."""
    server = settled_leader()
    server.submit(introduces().data)
    held(server, 1, 2, 3)
    assert server.core.in_force().nodes == Nodes((FOUR,))
    return server


def test_a_newcomer_is_met_when_its_introduction_is_in_the_log() -> None:
    assert settled_leader().submit(introduces().data).roster == [MEETS_4]
    server = follower()
    assert server.on(2, AppendEntries(1, 0, 0, [noop(1), introduces()], 1)).roster == [MEETS_4]
    again = Server(records=server.records)
    assert again.started.roster == [MEETS_4]
    assert again.core.in_force().nodes == FOUNDERS_ALONE, "it is not known to be committed"


def test_it_is_sent_the_log_at_once_and_what_it_lacks_of_it_after_its_answer() -> None:
    server = settled_leader()
    server.submit(introduces().data)
    turn = held(server, 1)
    assert [send.message for send in turn.early if 4 in send.to] == [AppendEntries(1, 1, 1, [introduces()], 1)]
    turn = server.on(4, Conflict(1, 1, 0, 0))
    assert [send.message for send in turn.early] == [AppendEntries(1, 0, 0, [noop(1), introduces()], 1)]


def test_if_the_introduction_goes_so_does_the_newcomer() -> None:
    server = follower()
    server.on(2, AppendEntries(1, 0, 0, [noop(1), introduces()], 1))
    turn = server.on(3, AppendEntries(2, 1, 1, [noop(2)], 1))
    assert turn.roster == [Part(4, "the change that introduced it was never decided")]
    assert server.core.env.peers == THREE
    other = Newcomer(4, "elsewhere:1")
    turn = server.on(3, AppendEntries(2, 2, 2, [Entry(2, encode_change(THREE, None, [other]), CONFIGURATION)], 1))
    assert turn.roster == [Meet("elsewhere:1", b"", 4)], "its number was not used"


def test_from_who_leaves_the_others_part_when_that_is_committed() -> None:
    server = settled_leader()
    server.submit(leaves(1, 2, leavers=(3,)).data)
    assert held(server, 1).roster == ()
    assert held(server, 2).roster == [Part(3, "it has left the cluster")]
    assert server.core.in_force().nodes == Nodes((), (3,))
    assert 3 not in server.core.replication.followers


def test_from_a_leader_that_leaves_they_part_when_another_leads() -> None:
    server = follower(leader=2)
    assert server.on(2, AppendEntries(1, 0, 0, [noop(1), leaves(1, 3, leavers=(2,))], 2)).roster == ()
    assert server.on(3, Heartbeat(2, 2, 1)).roster == [Part(2, "it has left the cluster")]


def test_who_leaves_is_known_while_its_vote_is_needed() -> None:
    """While members are joint, a majority of the old ones is one of those that stay and those that go."""
    server = settled_leader(peers=(1, 2, 3, 4), config=CONFIG.but(members=THREE))
    server.submit(leaves(1, 4, leavers=(2, 3)).data)
    assert server.core.acting() == Voters(THREE, (1, 4), 2)
    held(server, 1, 2)
    turn = held(server, 4)
    assert server.core.acting() == Voters((1, 4), (), 2)
    assert server.core.in_force().voters.next_members == (1, 4)
    assert turn.roster == ()
    held(server, 1)
    assert [part.node for part in held(server, 4).roster] == [2, 3]


def test_what_does_not_fit_changes_nothing_and_is_decided_all_the_same() -> None:
    """So whoever asked for it learns what became of it, also who asked twice."""
    server = introduced()
    for value in (
        encode_change((1, 2), 0),  # for an epoch that is over
        encode_change((1, 9)),  # no such node
        encode_change(THREE, None, [FOUR]),  # a number that was used
        encode_change(THREE, None, [], [9]),
        encode_change(THREE) + b"?",
    ):
        before = server.core.log.last_index
        assert server.submit(value).outputs == ()
        held(server, 1, 2)
        assert server.core.commit_index == before + 1
        assert server.core.acting() == Voters(THREE, (), 2)


def test_commands_and_changes_of_one_submission_keep_their_order() -> None:
    server = settled_leader()
    two = encode_change((1, 2)), encode_change((1, 3))
    turn = server.submit("a", two[0], "b", two[1])
    assert [entry.data for entry in server.log[1:]] == [b"a", two[0], b"b"]
    assert [output.values for output in turn.outputs] == [(two[1],)]


def test_a_file_that_counts_a_newcomer_among_the_founders_stops_it() -> None:
    server = follower(node=4, peers=(1, 2, 3, 4))
    with pytest.raises(ValueError, match="write in founders which nodes the cluster began with"):
        server.on(2, AppendEntries(1, 0, 0, [noop(1), introduces()], 1))


def test_a_leader_that_is_asked_to_introduce_itself_refuses() -> None:
    value = encode_change(THREE, None, [Newcomer(1, "n1:1")])
    [dropped] = settled_leader().submit(value).outputs
    assert dropped.values == (value,)
    assert "write in founders which nodes the cluster began with" in dropped.why


def test_members_that_are_no_founders_are_refused() -> None:
    with pytest.raises(ValueError, match=r"members \[9\] are not in the group"):
        Server(config=CONFIG.but(members=(1, 9)))


def test_a_node_that_moved_is_met_where_the_log_says_and_so_by_the_next_life() -> None:
    """Before it is known to be committed: it may be the one that is to say so."""
    moves = encode_change(THREE, None, places=[NodePlace(3, "there:2", "there:1")])
    server = follower()
    turn = server.on(2, AppendEntries(1, 0, 0, [noop(1), Entry(1, moves, CONFIGURATION)], 1))
    assert turn.roster == [Meet("there:2", b"", 3)]
    assert server.on(2, AppendEntries(1, 2, 1, [introduces()], 2)).roster == [MEETS_4], "once"
    again = Server(records=server.records)
    assert Meet("there:2", b"", 3) in again.started.roster


# --- nodes that were away meanwhile ---


def test_one_that_lacks_a_newcomer_is_told_of_it_when_it_asks_for_pre_votes() -> None:
    server = introduced()
    known = NodesKnown(Nodes((FOUR,)))
    assert known in [send.message for send in server.on(2, PreVote(2, 1, 1)).early]
    assert known not in [send.message for send in server.on(2, PreVote(2, 2, 1)).early], "it has it"
    assert len(settled_leader().on(2, PreVote(2, 0, 0)).early) == 1, "nobody joined"


def test_it_meets_who_is_there_and_only_while_it_hears_nobody() -> None:
    known = NodesKnown(Nodes((FOUR, Newcomer(5, "n5:1")), (5,)))
    assert follower().on(2, known) == NOTHING
    server = precandidate(term=1)
    assert server.on(2, known).roster == [MEETS_4]
    assert server.on(2, known) == NOTHING
    assert server.core.acting() == Voters(THREE, (), 0), "who votes is in the log alone"
    for wrong in (Nodes((Newcomer(1, "h:1"),)), Nodes((FOUR, FOUR))):
        assert precandidate(term=1).on(2, NodesKnown(wrong)) == NOTHING
    many = Nodes(tuple(Newcomer(node, f"n{node}:1") for node in range(4, 200)))
    assert len(precandidate(term=1).on(2, NodesKnown(many)).roster) == 61


def test_what_the_log_says_of_a_newcomer_counts_and_not_what_it_was_told() -> None:
    server = precandidate(term=1)
    server.on(2, NodesKnown(Nodes((Newcomer(4, "wrong:1"),))))
    turn = server.on(2, AppendEntries(1, 0, 0, [noop(1), introduces()], 1))
    assert turn.roster == [MEETS_4]
    assert server.on(2, AppendEntries(1, 2, 1, [noop(1)], 2)).roster == ()


def test_a_server_that_was_away_while_a_node_joined_follows_it_when_it_leads() -> None:
    def make(env: Env) -> Raft:
        return Raft(env, CONFIG.but(founders=THREE))

    cluster = Cluster(make, 3, seed=1, delay_s=(0.001, 0.01))

    def leader() -> int | None:
        return next((node for node, m in cluster.members.items() if m.up and m.core.role == "leader"), None)

    def becomes(wanted: Callable[[], bool]) -> None:
        assert cluster.run(30, wanted)

    becomes(lambda: leader() is not None)
    lead = leader()
    assert lead is not None
    away = next(node for node in THREE if node != lead)
    cluster.crash(away)
    cluster.run(0.5)
    cluster.submit(lead, introduces().data)
    cluster.run(0.5)
    newcomer = cluster.members[4] = Member(cluster, make, 4, (1, 2, 3, 4))
    becomes(lambda: bool(newcomer.core.in_force().nodes))
    cluster.run(0.5)
    cluster.submit(lead, encode_change((1, 2, 3, 4), newcomer.core.acting().epoch))
    becomes(lambda: newcomer.core.in_force().voters.members == (1, 2, 3, 4))
    cluster.step(4, Received(lead, TimeoutNow(newcomer.core.term)))
    becomes(lambda: leader() == 4)
    cluster.restart(away)
    member = cluster[away]
    assert 4 not in member.core.env.peers, "it would not take its calls"
    becomes(lambda: bool(member.core.leader == 4 and member.core.acting().members == (1, 2, 3, 4)))


# --- late messages of an earlier membership ---


def test_an_acknowledgement_from_before_a_node_was_no_member_is_still_true() -> None:
    """It leaves the members and comes back in one term, and what it said before arrives after.

    A follower acknowledges in one term only what agrees with the log of that term's leader, and that log only grows; it
    cuts nothing of that in this term. A node that loses its log has another number, or says in each acknowledgement as
    which incarnation it lives (``AppendedAs``). So what is late is of something older, and never of too much.
    """
    server = settled_leader()
    server.submit(encode_change((1, 2), 0))
    held(server, 1, 2, 3)
    assert server.core.acting() == Voters((1, 2), (), 2)
    server.submit("x")
    late = Appended(1, server.core.log.last_index)
    server.submit(encode_change(THREE, 2))
    server.submit("y")
    held(server, 1)
    assert server.core.commit_index == 2, "of three again"
    for _ in range(2):
        server.on(3, late)
        assert server.core.replication.followers.match[3] == late.index


def test_what_a_node_says_that_has_left_is_not_heard() -> None:
    """Its number is not used again, so nothing late of it can be taken for another's."""
    server = settled_leader()
    server.submit(leaves(1, 2, leavers=(3,)).data)
    held(server, 1, 2)
    assert 3 not in server.host.roster.members
    server.submit(encode_change((1, 2), None, [Newcomer(3, "again:1")]))
    held(server, 1, 2)
    assert 3 not in server.host.roster.members


# --- snapshots ---


def test_a_snapshot_says_who_is_there_and_who_was() -> None:
    server = introduced()
    server.host.root.snapshots.compactor._busy = True
    server.done("snapshot", SnapshotInfo(2, 1, 10))
    again = Server(records=server.records)
    assert again.started.roster == [MEETS_4]
    assert again.core.in_force() == server.core.in_force()


def test_a_piece_of_a_snapshot_says_it_too() -> None:
    server = follower(node=2, leader=1)
    server.on(1, AppendEntries(1, 0, 0, [noop(1), introduces()], 2))
    server.host.root.snapshots.compactor._busy = True
    server.done("snapshot", SnapshotInfo(2, 1, 10))
    server.on(1, ServeSnapshot(1, Wanted(3, 0, 0, 1, 2)))
    piece = Chunk(2, 1, 0, b"state", 5)
    turn = server.done(("chunk", 3), piece)
    configured = Configured(2, 2, THREE, (), Nodes((FOUR,)))
    assert [send.message for send in turn.early] == [SnapshotPieceAmong(1, piece, (), configured)]


def served(configured: Configured) -> Server:
    """A follower that has restarted with a snapshot at 10, and reads a piece of an older one, at 6, for node 3."""
    server = Server(node=2, records=[SnapshottedAmong(10, 1, 10, 1, (), configured)], term=1)
    server.on(1, Heartbeat(1, 10, 0))
    turn = server.on(1, ServeSnapshot(1, Wanted(3, 6, 4, 5, 20)))
    assert [job.work for job in turn.jobs] == [ReadChunk(6, 4, CONFIG.chunk_bytes)]
    return server


def test_an_older_snapshot_goes_on_where_the_members_of_its_index_are_known() -> None:
    configured = Configured(4, 4, THREE, (), Nodes((FOUR,)))
    piece = Chunk(6, 1, 4, b"state", 9)
    turn = served(configured).done(("chunk", 3), piece)
    assert [send.message for send in turn.early] == [SnapshotPieceAmong(1, piece, (), configured)]


def test_where_they_are_not_the_newest_one_is_sent_instead() -> None:
    turn = served(Configured(8, 8, THREE, (), Nodes((FOUR,)))).done(("chunk", 3), Chunk(6, 1, 4, b"state", 9))
    assert turn.early == ()
    assert [job.work for job in turn.jobs] == [ReadChunk(10, 0, CONFIG.chunk_bytes)]


@pytest.mark.parametrize(
    "configured",
    [
        Configured(2, 2, (), (), FOUNDERS_ALONE),
        Configured(2, 2, (1, 9), (), FOUNDERS_ALONE),
        Configured(2, 2, THREE, (9,), FOUNDERS_ALONE),
        Configured(2, 2, THREE, (), Nodes((Newcomer(1, "h:1"),))),
        Configured(2, 2, THREE, (), Nodes((FOUR, FOUR))),
        Configured(8, 2, THREE, (), FOUNDERS_ALONE),
        Configured(2, 3, THREE, (), FOUNDERS_ALONE),
    ],
)
def test_what_no_correct_server_says_of_members_is_blamed(configured: Configured) -> None:
    server = follower()
    turn = server.on(2, InstallSnapshotAmong(1, Chunk(7, 1, 0, b"state", 5), (), configured))
    assert [type(blame) for blame in turn.blames] == [Blame]
    assert turn.jobs == NOTHING.jobs
