"""Rules of membership changes, one test a rule: Ongaro's dissertation, chapter 4, and its correction of 2015."""

import pytest

from quorate.kernel.standing import LEARNER
from quorate.parts.log.configuration import Voters, encode_change
from quorate.parts.log.entries import CONFIGURATION, Entry
from quorate.parts.log.replicated import Chunk, Dropped, SnapshotInfo, Written
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Configured,
    Entries,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshotAmong,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshottedAmong,
    TimeoutNow,
    Vote,
)

from tests.protocols.raft.raft_nodes import (
    CONFIG,
    NOTHING,
    Server,
    candidate,
    effects,
    entry,
    follower,
    leader,
    noop,
    settled_leader,
    snapshotted,
)
from tests.protocols.stepped import FIVE

FOUR = (1, 2, 3, 4)
LEAVES_JOINT = b""


def change(*members: int, term: int = 1, epoch: int = 0) -> Entry:
    """The entry that makes these the members."""
    return Entry(term, encode_change(members, epoch), CONFIGURATION)


def ask(server: Server, *members: int) -> Entry:
    """Submit a change where it is to be taken in; the entry."""
    made = change(*members, term=server.core.term, epoch=server.core.acting().epoch)
    server.submit(made.data)
    assert server.log[-1] == made
    return made


def among(*members: int) -> dict[str, object]:
    """Five nodes, of which these are the first members."""
    return {"peers": FIVE, "config": CONFIG.but(members=members)}


def acknowledged(server: Server, *nodes: int) -> int:
    """Up to where the leader has committed, once its disk and these nodes hold all of its log."""
    for node in nodes:
        server.on(node, Appended(server.core.term, server.core.log.last_index))
    return int(server.core.commit_index)


# --- §4.1: safety ---


@pytest.mark.parametrize("members", [(1, 2), (1, 2, 3, 4)])
def test_where_one_server_comes_or_goes_the_new_configuration_is_enough(members: tuple[int, ...]) -> None:
    """Figure 4.3: any majority of the old cluster overlaps with any majority of the new."""
    server = settled_leader(**among(1, 2, 3))
    ask(server, *members)
    assert server.core.acting() == Voters(members, (), 2)


def test_majorities_that_always_meet_need_no_joint_step_whoever_comes_and_goes() -> None:
    """The same reason: three of four and three of four others, of five in all, share a node."""
    server = settled_leader(**among(1, 2, 3, 4))
    ask(server, 1, 2, 3, 5)
    assert server.core.acting() == Voters((1, 2, 3, 5), (), 2)


def test_the_leader_appends_the_configuration_and_replicates_it_like_any_entry() -> None:
    server = settled_leader(**among(1, 2, 3))
    asked = change(1, 2, 3, 4)
    turn = server.submit(asked.data)
    assert turn == effects(
        records=[Entries(2, [asked])],
        early=[((2, 3, 4, 5), AppendEntries(1, 1, 1, [asked], 1))],
        sends=[(1, Appended(1, 2))],
    )


def test_it_takes_effect_at_the_leader_as_soon_as_it_is_in_its_log() -> None:
    """§4.1: so a majority of the new configuration commits it."""
    server = settled_leader(**among(1, 2, 3))
    ask(server, *FOUR)
    assert acknowledged(server, 1, 2) == 1, "two of four"
    assert acknowledged(server, 5) == 1, "who is not in it does not count"
    assert acknowledged(server, 4) == 2
    assert server.core.in_force().voters == Voters(FOUR, (), 2)


def test_it_takes_effect_at_a_follower_as_soon_as_it_is_in_its_log() -> None:
    """§4.1: a server always uses the latest configuration in its log, committed or not."""
    server = follower(**among(1, 2, 3))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(3, 4, 5, 1)], 1))
    assert server.core.commit_index == 1
    server.time_out()
    assert server.on(3, PreVoteReply(2, True)) == NOTHING, "two of four"
    assert server.on(4, PreVoteReply(2, True)).records
    assert server.core.role == "candidate"


def test_a_configuration_goes_back_when_its_entry_is_removed() -> None:
    """§4.1: a server must be prepared to fall back to the previous configuration in its log."""
    server = follower(**among(1, 2, 3))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(1, 2, 3, 4)], 1))
    assert server.core.acting() == Voters(FOUR, (), 2)
    server.on(3, AppendEntries(2, 1, 1, [noop(2)], 1))
    assert server.core.acting() == Voters((1, 2, 3), (), 0)


def test_no_change_begins_before_the_last_one_is_committed() -> None:
    """§4.1: only then is it safe that servers have no configurations further apart."""
    server = settled_leader(**among(1, 2, 3))
    ask(server, *FOUR)
    late = change(*FIVE, epoch=2)
    assert server.submit(late.data) == effects(
        outputs=[Dropped((late.data,), "another change of members is under way")]
    )
    assert acknowledged(server, 1, 2, 3) == 2
    ask(server, *FIVE)


def test_no_change_begins_before_an_entry_of_the_own_term_is_committed() -> None:
    """The correction of 2015: an earlier leader may have left a change in the logs of others that this one lacks."""
    server = leader(term=3, log=[1, 2], **among(1, 2, 3))
    early = change(*FOUR)
    why = "this leader has committed nothing in its term yet"
    assert server.submit(early.data) == effects(outputs=[Dropped((early.data,), why)])
    acknowledged(server, 1, 2)
    assert server.core.commit_index == 3
    server.on(4, Appended(4, 3))
    server.on(4, HeartbeatReply(4, 1))
    ask(server, *FOUR)


def test_a_leader_that_is_in_no_configuration_of_the_receiver_is_followed() -> None:
    """§4.1: a new server would not get the entries by which it learns who the leader is."""
    server = Server(**among(1, 2, 3))
    server.on(5, AppendEntries(4, 0, 0, [noop(4)], 0))
    assert (server.core.leader, server.log) == (5, [noop(4)])


def test_a_candidate_that_is_in_no_configuration_of_the_voter_gets_its_vote() -> None:
    """§4.1: it may be needed for a majority that the candidate knows of and the voter does not."""
    server = Server(**among(1, 2, 3))
    assert server.on(5, RequestVote(4, 0, 0)).sends == effects(sends=[(5, Vote(4, True))]).sends


def test_a_server_that_is_in_no_configuration_of_its_own_votes_all_the_same() -> None:
    """§4.1: it may have been added by an entry that it does not have yet."""
    server = Server(node=5, **among(1, 2, 3))
    assert server.on(2, RequestVote(4, 0, 0)).sends == effects(sends=[(2, Vote(4, True))]).sends


# --- §4.2.1: catching up new servers ---


def test_a_server_that_does_not_vote_yet_gets_the_log_and_counts_for_nothing() -> None:
    """§4.2.1: a non-voting member."""
    server = settled_leader(**among(1, 2, 3))
    [sent] = server.submit("x").early
    assert sent.to == (2, 3, 4, 5)
    assert acknowledged(server, 1, 4, 5) == 1
    assert follower(node=5, **among(1, 2, 3)).core.standing().role == LEARNER


def test_it_does_not_stand() -> None:
    """§4.2.1: nor starts elections."""
    server = follower(node=5, **among(1, 2, 3))
    assert server.time_out().early == ()


def test_it_votes_only_when_it_has_caught_up() -> None:
    """§4.2.1: the leader waits until the log of the new server is as long as it was an election timeout ago."""
    server = settled_leader(**among(1, 2, 3))
    server.submit("x")
    assert acknowledged(server, 1, 2) == 2
    wanted = change(*FOUR)
    server.beat()
    server.beat()
    dropped = effects(outputs=[Dropped((wanted.data,), "nodes [4] have not caught up with the log yet")])
    assert server.submit(wanted.data) == dropped
    server.on(4, Appended(1, 2))
    server.submit("y")
    assert acknowledged(server, 1, 2) == 3
    ask(server, *FOUR)


def test_one_that_is_not_there_is_no_member_yet() -> None:
    """§4.2.1: an unavailable server must not make the cluster so."""
    server = settled_leader(**among(1, 2, 3))
    server.now += 2 * CONFIG.election_timeout_s_min
    assert server.submit(change(*FOUR).data).outputs
    server.on(4, HeartbeatReply(1, 1))
    ask(server, *FOUR)


# --- §4.2.2: removing the current leader ---


def test_a_leader_that_is_not_in_the_newest_configuration_does_not_count_itself() -> None:
    """§4.2.2: it replicates entries, and does not count itself in majorities."""
    server = settled_leader()
    ask(server, 2, 3)
    assert acknowledged(server, 1, 2) == 1
    assert acknowledged(server, 3) == 2


def test_it_steps_down_when_that_is_committed_and_has_another_lead() -> None:
    """§4.2.2, and §3.10: the new configuration is committed, so a leader can be elected among its members."""
    server = settled_leader()
    ask(server, 2, 3)
    server.on(2, Appended(1, 2))
    turn = server.on(3, Appended(1, 2))
    assert (2, TimeoutNow(1)) in [(send.to[0], send.message) for send in turn.early]
    server.submit("kept")
    while server.core.role == "leader":
        server.on(2, HeartbeatReply(1, 1))
        server.on(3, HeartbeatReply(1, 1))
        turn = server.beat()
    assert (server.core.role, server.core.standing().role) == ("follower", LEARNER)
    why = "this node is not a member any more"
    assert Dropped((b"kept",), why) in turn.outputs


def test_until_it_is_committed_a_server_that_is_not_in_it_stands() -> None:
    """§4.2.2, figure 4.6: its log may be the only one that can win. It does not count its own vote."""
    server = follower(peers=(1, 2))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(2)], 1))
    assert server.time_out().early == effects(early=[(2, PreVote(2, 2, 1))]).early
    assert server.core.role == "precandidate", "not by itself"
    assert server.on(2, PreVoteReply(2, True)).records
    assert server.core.role == "candidate"


def test_when_it_is_committed_it_stands_no_more() -> None:
    """§4.2.2."""
    server = follower(peers=(1, 2))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(2)], 2))
    assert server.time_out().early == ()


# --- §4.2.3: disruptive servers ---


def test_a_server_that_was_removed_and_has_not_heard_deposes_nobody() -> None:
    """§4.2.3: a server that hears a leader does not update its term nor grant its vote."""
    server = follower(term=1)
    assert server.on(3, RequestVote(9, 99, 8)) == NOTHING
    assert server.on(3, PreVote(9, 99, 8)) == effects(early=[(3, PreVoteReply(1, False))])
    assert server.core.term == 1
    leads = settled_leader()
    assert leads.on(3, RequestVote(9, 99, 8)) == NOTHING
    assert leads.core.role == "leader"


def test_a_leader_that_made_way_may_be_deposed_all_the_same() -> None:
    """§4.2.3, last paragraph: leadership transfer needs the flag that lets its candidate through."""
    server = follower(term=1)
    server.on(2, TimeoutNow(1))
    assert [type(send.message).__name__ for send in server.on(1, Vote(2, True)).sends] == []
    assert server.core.role == "candidate"


# --- §4.3: arbitrary changes using joint consensus ---


def joint(**given: object) -> Server:
    """Leads three of five, and has just appended a change to itself and the two others."""
    server = settled_leader(**among(1, 2, 3), **given)
    ask(server, 1, 4, 5)
    assert server.core.acting() == Voters((1, 2, 3), (1, 4, 5), 2)
    return server


def test_entries_go_to_all_servers_of_both_configurations() -> None:
    [sent] = joint().submit("x").early
    assert sent.to == (2, 3, 4, 5)


@pytest.mark.parametrize(("nodes", "committed"), [((2, 3), 1), ((4, 5), 1), ((2, 4), 2), ((3, 5), 2)])
def test_commitment_takes_separate_majorities(nodes: tuple[int, ...], committed: int) -> None:
    """§4.3: from both the old and the new configuration."""
    assert acknowledged(joint(), 1, *nodes) == committed


@pytest.mark.parametrize(("nodes", "is_elected"), [((2, 3), False), ((4, 5), False), ((2, 4), True)])
def test_elections_take_separate_majorities(nodes: tuple[int, ...], is_elected: bool) -> None:
    """§4.3: the same."""
    server = follower(**among(1, 2, 3))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(1, 4, 5)], 1))
    server.time_out()
    for node in (2, 4):
        server.on(node, PreVoteReply(2, True))
    for node in (1, *nodes):
        server.on(node, Vote(2, True))
    assert (server.core.role == "leader") == is_elected


def test_any_server_of_either_configuration_may_lead() -> None:
    """§4.3."""
    for node in (3, 5):
        server = follower(node=node, **among(1, 2, 3))
        server.on(2, AppendEntries(1, 0, 0, [noop(1), change(1, 4, 5)], 1))
        assert server.time_out().early, node


def test_reads_and_the_rule_of_stepping_down_take_both_majorities_too() -> None:
    """§4.3 with §6.2 and §6.4: neither majority alone keeps a leader."""
    server = joint()
    server.now += 2 * CONFIG.election_timeout_s_min
    for node in (4, 5):
        server.on(node, HeartbeatReply(1, 1))
    server.beat()
    assert server.core.role == "follower"


def test_when_the_joint_configuration_is_committed_the_leader_appends_the_new_one() -> None:
    """§4.3: C_new, which the new majority alone commits."""
    server = joint()
    server.on(1, Appended(1, 2))
    server.on(2, Appended(1, 2))
    turn = server.on(4, Appended(1, 2))
    assert turn.records == effects(records=[Entries(3, [Entry(1, LEAVES_JOINT, CONFIGURATION)])]).records
    assert server.core.acting() == Voters((1, 4, 5), (), 2)
    assert server.core.in_force().voters == Voters((1, 2, 3), (1, 4, 5), 2)
    assert acknowledged(server, 1, 2) == 2
    assert acknowledged(server, 4) == 3
    assert server.core.in_force().voters == Voters((1, 4, 5), (), 2)


def test_another_leader_ends_what_one_began() -> None:
    """§4.3: it has the joint configuration in its log, and commits it with an entry of its own term."""
    server = follower(**among(1, 2, 3))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(1, 4, 5)], 1))
    server.time_out()
    for node in (2, 4):
        server.on(node, PreVoteReply(2, True))
    for node in (1, 2, 4):
        server.on(node, Vote(2, True))
    assert server.log[-1] == noop(2)
    acknowledged(server, 1, 2)
    assert server.log[-1] == noop(2)
    server.on(4, Appended(2, 3))
    assert server.log[-1] == Entry(2, LEAVES_JOINT, CONFIGURATION)


def test_it_does_so_when_it_has_committed_an_entry_of_its_own_term() -> None:
    """§4.1, as corrected in 2015, for the second half of a change too, even if the first is known to be committed."""
    server = follower(**among(1, 2, 3))
    server.on(2, AppendEntries(1, 0, 0, [noop(1), change(1, 4, 5)], 2))
    assert server.core.in_force().voters.next_members == (1, 4, 5)
    server.time_out()
    for node in (2, 4):
        server.on(node, PreVoteReply(2, True))
    for node in (1, 2, 4):
        server.on(node, Vote(2, True))
    acknowledged(server, 1, 2)
    assert server.log[-1] == noop(2)
    server.on(4, Appended(2, 3))
    assert server.log[-1] == Entry(2, LEAVES_JOINT, CONFIGURATION)


def test_no_other_change_begins_while_members_are_joint() -> None:
    """§4.3: one at a time."""
    server = joint()
    other = change(2, 3, 4, epoch=2)
    assert server.submit(other.data).outputs == [Dropped((other.data,), "another change of members is under way")]


def test_a_leader_that_is_in_the_old_configuration_alone_leads_until_the_new_one_is_committed() -> None:
    """§4.3 with §4.2.2: it counts in the old majority, and then no more."""
    server = settled_leader(**among(1, 2, 3))
    ask(server, 3, 4, 5)
    assert acknowledged(server, 1, 2, 4) == 1, "one of the new ones"
    server.on(5, Appended(1, 2))
    assert server.core.commit_index == 2
    assert acknowledged(server, 1, 2, 4) == 2, "itself does not count"
    assert acknowledged(server, 5) == 3
    assert server.core.handover.is_under_way


# --- chapter 5: configurations and snapshots ---


def test_a_snapshot_has_the_configuration_of_its_last_entry() -> None:
    """§5.1.1: the latest as of the last index, to support membership changes."""
    server = settled_leader(**among(1, 2, 3))
    ask(server, *FOUR)
    acknowledged(server, 1, 2, 3)
    server.host.root.snapshots.compactor._busy = True
    turn = server.done("snapshot", SnapshotInfo(2, 1, 10))
    configured = Configured(2, 2, FOUR, (), server.core.in_force().nodes)
    assert turn.records == effects(records=[SnapshottedAmong(2, 1, 0, 0, (), configured)]).records
    again = Server(records=server.records, **among(1, 2, 3))
    assert again.core.in_force().voters == Voters(FOUR, (), 2)


def test_who_is_sent_a_snapshot_is_given_the_configuration_too() -> None:
    """§5.1.1."""
    server = follower(**among(1, 2, 3))
    configured = Configured(4, 4, (2, 3, 4), (), server.core.in_force().nodes)
    server.on(2, InstallSnapshotAmong(1, Chunk(7, 1, 0, b"state", 5), (), configured))
    server.done("install", Written(7, 1, 5, True))
    assert server.core.acting() == server.core.in_force().voters == Voters((2, 3, 4), (), 4)
    assert server.time_out().early == (), "it is no member"


def test_without_a_change_nothing_is_said_of_members() -> None:
    """What a cluster of fixed members writes and sends is what it ever was."""
    server = Server(records=snapshotted(5), **among(1, 2, 3))
    assert server.core.in_force().voters == Voters((1, 2, 3), (), 0)
    assert [type(record).__name__ for record in server.records] == ["HardState", "Snapshotted"]


def test_a_server_finds_its_configuration_again_in_its_log() -> None:
    """Figure 3.1 with §4.1: the log is durable, and so is what it says, committed or not."""
    log = [Entries(1, [noop(1), change(1, 4, 5), entry(1, "x")])]
    server = Server(term=1, records=log, **among(1, 2, 3))
    assert server.core.acting() == Voters((1, 2, 3), (1, 4, 5), 2)
    assert server.core.in_force().voters == Voters((1, 2, 3), (), 0)


def test_a_candidate_asks_all_whom_it_knows() -> None:
    """§4.3: those of both configurations are among them."""
    server = candidate(**among(1, 2, 3))
    assert server.core.role == "candidate"
    assert server.on(2, Heartbeat(1, 0, 1)).early
