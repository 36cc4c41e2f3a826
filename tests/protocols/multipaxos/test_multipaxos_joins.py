"""Nodes that join and leave: what a node of Multi-Paxos does, step by step, and whole groups."""

from typing import Any

import msgspec
import pytest

from quorate.kernel import Meet, Part, Submitted, Turn
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.log.configuration import Newcomer, Nodes, Voters, encode_change
from quorate.parts.log.entries import CONFIGURATION, Entry
from quorate.parts.log.replicated import SnapshotInfo, Written
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.messages import (
    Accept,
    Accepted,
    Heartbeat,
    InstallSnapshot,
    InstallSnapshotAmong,
    Membership,
    Poll,
    PollReply,
    Snapshotted,
    SnapshottedAmong,
)

from tests.protocols.cluster import Cluster, Member
from tests.protocols.multipaxos.multipaxos_nodes import (
    CONFIG,
    Node,
    agreed,
    entries,
    follower,
    leader,
    messages,
    voted,
)
from tests.protocols.multipaxos.test_multipaxos_snapshots import chunk
from tests.protocols.stepped import THREE

FOUR = Newcomer(4, "n4:1")
MEETS_4 = Meet("n4:1", b"", 4)
JOINS = encode_change(THREE, None, [FOUR])
LEAVES = encode_change((2, 3), None, [], [1])


def ask(node: Node, value: bytes) -> Turn:
    """A value from above."""
    return node.step(Submitted((value,)))


def records_of(node: Node) -> list[Any]:
    """What a compacted journal would hold."""
    return [record.value for record in node.host.checkpoint()]


def introduced() -> Node:
    """A leader whose log says that node 4 is there."""
    node = leader(config=CONFIG)
    ask(node, JOINS)
    assert agreed(node, 2).roster == [MEETS_4]
    return node


def test_a_newcomer_is_met_when_its_introduction_is_known_to_be_chosen() -> None:
    node = leader(config=CONFIG)
    assert ask(node, JOINS).roster == ()
    turn = agreed(node, 2)
    assert turn.roster == [MEETS_4]
    assert node.core.env.peers == (1, 2, 3, 4)
    assert node.core.members.at(2).members == THREE


def test_a_follower_meets_it_as_well_and_so_does_its_next_life() -> None:
    node = follower(2)
    node.on(2, Accept((1, 2), 1, [Entry(1, JOINS, CONFIGURATION)], 0))
    turn = node.on(2, Heartbeat((1, 2), 1, 0))
    assert turn.roster == [MEETS_4]
    again = Node(records=[*records_of(node), voted((1, 2), 2, "x", 1)])
    assert again.started.roster == [MEETS_4]
    assert again.core.env.peers == (1, 2, 3, 4)


def test_one_that_lacks_a_newcomer_is_told_of_it_when_it_polls_and_meets_it() -> None:
    node = introduced()
    known = NodesKnown(Nodes((FOUR,)))
    assert known in messages(node.on(2, Poll(1, 0)))
    assert known not in messages(node.on(2, Poll(2, node.core.commit_index))), "it has it"
    assert messages(leader(config=CONFIG).on(2, Poll(1, 0))) == [PollReply(1, False, (1, 1))], "nobody joined"
    away = Node()
    assert away.on(2, known).roster == (), "it polls nobody"
    away.time_out()
    assert away.on(2, known).roster == [MEETS_4]
    assert away.core.members.nodes == Nodes(), "who there is follows from what is chosen alone"


def test_the_leader_sends_it_the_log() -> None:
    node = introduced()
    ballot = node.core.ballot
    assert Heartbeat(ballot, 0, 1) in [send.message for send in node.beat().early if send.to == (4,)]
    turn = node.on(4, Accepted(ballot, 0))
    [accept] = [send.message for send in turn.early if send.to == (4,)]
    assert (accept.ballot, accept.first_slot, accept.entries[0]) == (ballot, 1, Entry(1, JOINS, CONFIGURATION))


def test_whoever_leaves_is_known_until_no_open_slot_needs_its_vote() -> None:
    node = follower(2, node=3)
    node.on(2, Accept((1, 2), 1, [Entry(1, LEAVES, CONFIGURATION)], 0))
    assert node.on(2, Heartbeat((1, 2), 1, 0)).roster == ()
    assert node.core.env.peers == THREE
    node.on(2, Accept((1, 2), 2, entries(1, "abcdefg"), 1))
    assert node.on(2, Heartbeat((1, 2), 7, 0)).roster == ()
    assert node.on(2, Heartbeat((1, 2), 8, 0)).roster == [Part(1, "it has left the cluster")]
    assert node.core.env.peers == (2, 3)


def test_whoever_leaves_is_followed_for_as_long_as_it_leads() -> None:
    node = follower(1, node=3, ballot=(1, 1))
    node.on(1, Accept((1, 1), 1, [Entry(1, LEAVES, CONFIGURATION), *entries(1, "abcdefgh")], 0))
    assert node.on(1, Heartbeat((1, 1), 9, 0)).roster == ()
    turn = node.on(2, Heartbeat((2, 2), 9, 0))
    assert turn.roster == [Part(1, "it has left the cluster")]


def test_a_leader_forgets_who_left() -> None:
    node = leader(config=CONFIG)
    ask(node, encode_change((1, 2), None, [], [3]))
    agreed(node, 2, 3)
    for _ in range(4):  # no-ops up to where the new members count
        turn = agreed(node, 2)
        if turn.roster:
            break
    assert turn.roster == [Part(3, "it has left the cluster")]
    assert 3 not in node.core.leadership.followers
    assert 3 not in node.core.leadership.followers.match


@pytest.mark.parametrize(
    "value",
    [
        encode_change((1, 2, 9)),
        encode_change(THREE, None, [Newcomer(2, "n2:1")]),
        encode_change((1, 2), None, [], [9]),
        encode_change((1, 2, 4), 99, [FOUR]),
    ],
    ids=["nobody", "who is there", "who is not there", "another epoch"],
)
def test_a_change_that_does_not_fit_changes_nothing(value: bytes) -> None:
    node = leader(config=CONFIG)
    ask(node, value)
    assert agreed(node, 2).roster == ()
    assert len(node.core.members.spans) == 1


def test_a_number_is_used_once() -> None:
    node = introduced()
    ask(node, encode_change(THREE, None, [], [4]))
    agreed(node, 2)
    ask(node, encode_change(THREE, None, [FOUR]))
    agreed(node, 2)
    assert node.core.members.nodes == Nodes((FOUR,), (4,))


def test_a_node_that_takes_itself_for_a_founder_does_not_go_on() -> None:
    """Its quorums would be others than those of all the others."""
    node = Node(4, (1, 2, 3, 4))
    node.on(2, Accept((1, 2), 1, [Entry(1, JOINS, CONFIGURATION)], 0))
    with pytest.raises(ValueError, match="write in founders which nodes the cluster began with"):
        node.on(2, Heartbeat((1, 2), 1, 0))
    told = Node(4, (1, 2, 3, 4), config=msgspec.structs.replace(CONFIG, founders=THREE))
    told.on(2, Accept((1, 2), 1, [Entry(1, JOINS, CONFIGURATION)], 0))
    assert told.on(2, Heartbeat((1, 2), 1, 0)).roster == ()
    assert told.core.members.nodes == Nodes((FOUR,))


# --- snapshots ---

SMALL = msgspec.structs.replace(CONFIG, snapshot_entries=4, keep_entries=1)
ALL = (Membership(1, THREE),)
AMONG = Nodes((FOUR,), (1,))


def test_a_snapshot_says_which_nodes_there_are() -> None:
    node = leader(config=SMALL)
    ask(node, JOINS)
    agreed(node, 2)
    node.submit("a", "b", "c")
    [job] = agreed(node, 2).jobs
    turn = node.done("snapshot", SnapshotInfo(job.work.index, 1, 10))
    [record] = [record.value for record in turn.records]
    assert isinstance(record, SnapshottedAmong)
    assert record.nodes == Nodes((FOUR,))
    again = Node(records=records_of(node), config=SMALL)
    assert again.started.roster == [MEETS_4]


def test_without_anybody_who_came_or_left_it_is_what_it_was() -> None:
    node = leader(config=SMALL)
    node.submit("a", "b", "c", "d")
    [job] = agreed(node, 2).jobs
    [record] = node.done("snapshot", SnapshotInfo(job.work.index, 1, 10)).records
    assert type(record.value) is Snapshotted


def test_a_snapshot_from_the_leader_brings_the_nodes() -> None:
    node = follower(2, node=3, config=SMALL)
    memberships = (Membership(3, (2, 3, 4)),)
    node.on(2, InstallSnapshotAmong((1, 2), chunk(0, total=10), memberships, AMONG))
    turn = node.done("install", Written(5, 1, 10, True))
    assert turn.roster == [MEETS_4, Part(1, "it has left the cluster")]
    assert [record.value for record in turn.records] == [SnapshottedAmong(5, 1, 5, 1, memberships, AMONG)]


def test_nodes_that_cannot_be_are_blamed() -> None:
    node = follower(2)
    for nodes in (Nodes((FOUR, FOUR)), Nodes((Newcomer(3, "n3:1"),))):
        turn = node.on(2, InstallSnapshotAmong((1, 2), chunk(0), ALL, nodes))
        assert [blame.node for blame in turn.blames] == [2]
        assert turn.jobs == ()
    turn = node.on(2, InstallSnapshot((1, 2), chunk(0), (Membership(1, (2, 4)),)))
    assert [blame.node for blame in turn.blames] == [2], "node 4 is nobody"


# --- whole groups ---


def group(founders: tuple[int, ...], **options: object) -> Cluster:
    config = MultiPaxosConfig(founders=founders, alpha=8, snapshot_entries=20, keep_entries=2, **options)
    return Cluster(lambda env: MultiPaxos(env, config), len(founders), delay_s=(0.001, 0.003), sync_s=0.001)


def lead(cluster: Cluster) -> int:
    """Who leads; somebody does before long."""
    leading: list[int] = []

    def found() -> bool:
        leading[:] = [n for n, m in cluster.members.items() if m.up and m.core.role == "leader"]
        return bool(leading)

    assert cluster.run(10.0, found)
    return leading[0]


def is_one_of(member: Member, members: tuple[int, ...]) -> bool:
    """Whether it knows these and no others, as members and as nodes."""
    return bool(member.core.voters.members == members == member.host.roster.peers)


@pytest.mark.parametrize("before", [3, 60], ids=["from the log", "from a snapshot"])
def test_a_newcomer_catches_up_votes_and_stays_when_all_founders_have_left(before: int) -> None:
    cluster = group(THREE)
    for number in range(before):
        cluster.submit(lead(cluster), b"%d" % number)
        cluster.run(0.05)
    for new, old in ((4, 1), (5, 2), (6, 3)):
        newcomer = cluster.join(new)
        members = cluster[lead(cluster)].core.voters.members
        cluster.submit(lead(cluster), encode_change(members, None, [Newcomer(new, f"n{new}:1")]))
        assert cluster.run(10.0, lambda it=newcomer: it.applied == cluster[lead(cluster)].applied)
        rest = tuple(node for node in (*members, new) if node != old)
        cluster.submit(lead(cluster), encode_change(rest, None, [], [old]))
        assert cluster.run(10.0, lambda rest=rest: all(is_one_of(cluster[node], rest) for node in rest))
        cluster.crash(old)
    cluster.submit(lead(cluster), b"after")
    assert cluster.run(5.0, lambda: all(b"after" in cluster[node].applied for node in (4, 5, 6)))
    assert cluster[6].core.voters == Voters((4, 5, 6), (), cluster[6].core.voters.epoch)
    for node in (4, 5, 6):
        cluster.crash(node)
        cluster.restart(node)
    lead(cluster)
    assert all(cluster[node].host.roster.peers == (4, 5, 6) for node in (4, 5, 6))
