"""Rules of terms and elections, one test a rule: dissertation, figure 3.1, §3.3, 3.4, 3.6.1, 3.8, 3.9, 4.2.3, 9.6."""

import pytest

from quorate.kernel import Fired, Record
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Conflict,
    HardState,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshotProgress,
    Vote,
)

from tests.protocols.cluster import Cluster
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
    precandidate,
    settled_leader,
)
from tests.protocols.stepped import FIVE

LATER = [
    RequestVote(9, 0, 0),
    Vote(9, False),
    AppendEntries(9, 0, 0, [], 0),
    Appended(9, 0),
    Conflict(9, 1, 0, 0),
    Heartbeat(9, 0, 0),
    HeartbeatReply(9, 0),
    SnapshotProgress(9, 1, 0, False),
    PreVoteReply(9, False),
]


# --- figure 3.1, persistent state; section 3.8 ---


def test_term_and_vote_are_recorded_before_any_answer_that_rests_on_them() -> None:
    """Figure 3.1, persistent state: an answer leaves through the barrier, in the Turn that records its state."""
    turn = Server(term=1).on(2, RequestVote(3, 0, 0))
    assert Record((), HardState(3, 2)) in turn.records
    assert turn.early == ()


def test_term_vote_and_log_survive_a_restart() -> None:
    """§3.8: what a server has promised or acknowledged holds in its next life."""
    server = Server(term=3, vote=2, log=[1, 3])
    assert (server.core.term, server.core.vote, server.terms) == (3, 2, [1, 3])
    assert server.on(3, RequestVote(3, 9, 9)) == effects(sends=[(3, Vote(3, False))])


def test_a_server_starts_as_a_follower() -> None:
    """§3.4: whatever it was before."""
    assert Server(term=3, vote=1).core.role == "follower"


# --- section 3.3: terms ---


@pytest.mark.parametrize("message", LATER, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("make", [Server, candidate, leader], ids=["follower", "candidate", "leader"])
def test_whoever_sees_a_later_term_takes_it_and_follows(make: type[Server], message: object) -> None:
    """§3.3, figure 3.1 (all servers). A leader leaves out requests for votes: §4.2.3 forbids them to depose it."""
    server = make(term=2)
    server.on(2, message)
    if make is leader and isinstance(message, RequestVote):
        assert server.core.term == 3
    else:
        assert (server.core.term, server.core.role) == (9, "follower")


def test_a_request_of_an_earlier_term_is_refused_with_the_newer_one() -> None:
    """§3.3: so that the sender learns that its term is over."""
    server = follower(leader=2, term=5)
    assert server.on(3, RequestVote(4, 9, 9)) == effects(sends=[(3, Vote(5, False))])
    assert server.on(3, AppendEntries(4, 0, 0, [entry(4)], 1)) == effects(sends=[(3, HeartbeatReply(5, 0))])
    assert server.log == []


def test_an_answer_of_an_earlier_term_is_ignored() -> None:
    """§3.3: it was given to an earlier attempt."""
    assert candidate(term=5).on(2, Vote(5, True)) == NOTHING
    server = leader(term=5)
    for answer in (Appended(5, 1), Conflict(5, 1, 0, 0), HeartbeatReply(5, 9)):
        assert server.on(2, answer) == NOTHING


# --- section 3.4: elections ---


def test_a_follower_that_hears_nothing_for_an_election_time_out_begins_an_election() -> None:
    """§3.4, figure 3.1 (followers). It asks for pre-votes first (§9.6)."""
    server = follower(term=2)
    server.time_out()
    assert server.core.role == "precandidate"
    server.on(2, PreVoteReply(3, True))
    assert server.core.role == "candidate"


@pytest.mark.parametrize("message", [Heartbeat(1, 0, 0), AppendEntries(1, 0, 0, [], 0)])
def test_a_valid_message_of_the_leader_puts_the_election_off(message: object) -> None:
    """§3.4: a follower stays one as long as it hears the leader."""
    server = Server(term=1)
    for _ in range(10):
        server.now += 0.9
        server.on(2, message)
        server.step(Fired("election"))
        assert server.core.role == "follower"
    server.now += 2.0
    server.step(Fired("election"))
    assert server.core.role == "precandidate"


def test_granting_a_vote_puts_the_election_off() -> None:
    """Figure 3.1 (followers): whoever has just voted gives the candidate time."""
    server = Server(term=1)
    server.now += 0.9
    server.on(2, RequestVote(1, 0, 0))
    deadline = server.core.election.watch.alarm.deadline
    assert deadline >= server.now + CONFIG.election_timeout_s_min


@pytest.mark.parametrize("message", [RequestVote(9, 1, 1), PreVoteReply(9, False), HeartbeatReply(9, 0)])
def test_a_later_term_alone_does_not_put_the_election_off(message: object) -> None:
    """Figure 3.1 (followers): else a server that cannot win would keep those that can from standing."""
    server = Server(term=1, log=[1, 1])
    deadline = server.core.election.watch.alarm.deadline
    server.now += 0.9
    server.on(2, message)
    assert server.core.term == 9
    assert server.core.election.watch.alarm.deadline == deadline


def test_a_candidate_raises_its_term_votes_for_itself_and_asks_everybody() -> None:
    """§3.4, figure 3.1 (candidates). Its own vote takes the way of all others, through its disk."""
    server = precandidate(term=4, peers=FIVE)
    server.on(2, PreVoteReply(5, True))
    turn = server.on(3, PreVoteReply(5, True))
    assert turn.records == effects(records=[HardState(5, 1)]).records
    assert turn.sends == effects(sends=[(FIVE, RequestVote(5, 0, 0))]).sends


@pytest.mark.parametrize(("peers", "needed"), [((1, 2), 2), ((1, 2, 3), 2), ((1, 2, 3, 4), 3), ((1, 2, 3, 4, 5), 3)])
def test_a_majority_of_all_servers_elects(peers: tuple[int, ...], needed: int) -> None:
    """§3.4: of the whole cluster, not of those that are up."""
    server = candidate(peers=peers)
    for count, peer in enumerate(peers, 1):
        server.on(peer, Vote(1, True))
        assert (server.core.role == "leader") == (count >= needed)


def test_a_server_votes_once_a_term_for_whoever_asks_first() -> None:
    """§3.4: so that no two candidates can win one term."""
    server = Server(term=2)
    assert server.on(3, RequestVote(2, 0, 0)).sends == effects(sends=[(3, Vote(2, True))]).sends
    assert server.on(2, RequestVote(2, 0, 0)).sends == effects(sends=[(2, Vote(2, False))]).sends


def test_a_new_leader_makes_itself_known_at_once() -> None:
    """§3.4: to keep others from standing. Its first message carries its no-op."""
    server = candidate()
    server.on(1, Vote(1, True))
    (send,) = server.on(2, Vote(1, True)).early
    assert send.to == (2, 3)
    assert send.message == AppendEntries(1, 0, 0, [noop(1)], 0)


def test_a_leader_repeats_heartbeats_while_it_is_idle() -> None:
    """§3.4, figure 3.1 (leaders)."""
    server = settled_leader()
    for _ in range(5):
        server.on(2, HeartbeatReply(1, 1))
        turn = server.beat()
        assert {send.to[0] for send in turn.early if isinstance(send.message, Heartbeat)} == {2, 3}
        assert turn.timers


def test_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    """§3.4: the other won."""
    server = candidate(term=4)
    server.on(3, AppendEntries(5, 0, 0, [noop(5)], 0))
    assert (server.core.role, server.core.leader) == ("follower", 3)


def test_a_candidate_that_hears_the_leader_of_an_earlier_term_goes_on() -> None:
    """§3.4: that one's term is over."""
    server = candidate(term=4)
    server.on(3, AppendEntries(4, 0, 0, [noop(4)], 0))
    assert (server.core.role, server.core.term) == ("candidate", 5)


def test_a_candidate_that_neither_wins_nor_loses_begins_anew() -> None:
    """§3.4: votes were split."""
    server = candidate(term=4, peers=(1, 2, 3, 4))
    server.on(2, Vote(5, True))
    turn = server.time_out()
    assert turn.early == effects(early=[((2, 3, 4), PreVote(6, 0, 0))]).early


def test_time_outs_are_drawn_at_random_and_anew_for_each_election() -> None:
    """§3.4: so that split votes are rare and soon over."""
    delays = []
    server = Server()
    for _ in range(20):
        server.time_out()
        delays.append(server.core.election.watch.delay_s)
    assert len(set(delays)) == 20
    assert all(1.0 <= delay <= 2.0 for delay in delays)


# --- section 3.6.1: who may win ---


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 4, True), (4, 4, True), (1, 5, True), (2, 4, False), (99, 3, False), (0, 0, False)],
)
def test_a_vote_goes_only_to_a_log_at_least_as_up_to_date(last_index: int, last_term: int, granted: bool) -> None:
    """§3.6.1: the later last term wins; of equal ones, the longer log."""
    server = Server(term=5, log=[1, 4, 4])
    assert server.on(2, RequestVote(5, last_index, last_term)).sends == effects(sends=[(2, Vote(5, granted))]).sends


def test_whoever_lacks_a_committed_entry_is_not_elected() -> None:
    """§3.6.1, §3.6.3 (leader completeness): each majority has a voter that refuses."""
    cluster = Cluster(lambda env: Raft(env, CONFIG), 3, seed=4)
    cluster.fire(1, "election")
    cluster.calm()
    cluster.cut((1, 2), (3,))
    cluster.submit(1, b"x")
    cluster.calm()
    assert cluster[2].applied == [b"x"]
    cluster.heal()
    cluster.crash(1)
    for _ in range(5):
        cluster.fire(3, "election")
        cluster.calm()
        assert cluster[3].core.role != "leader"
    cluster.fire(2, "election")
    cluster.calm()
    assert cluster[2].core.role == "leader"
    assert cluster[3].applied == [b"x"]


# --- section 3.9: timing ---


def test_the_election_time_out_must_exceed_the_heartbeat() -> None:
    """§3.9: broadcast time well below election time-out; a configuration that cannot work is refused."""
    with pytest.raises(ValueError, match="at least two heartbeats"):
        RaftConfig(heartbeat_s=0.1, election_timeout_s_min=0.15)


# --- section 4.2.3 and 9.6: disruptive servers ---


def test_a_request_within_the_shortest_time_out_of_hearing_a_leader_is_ignored() -> None:
    """§4.2.3: neither the vote nor the term changes."""
    server = follower(leader=2, term=2)
    server.now += 0.99
    assert server.on(3, RequestVote(9, 9, 9)) == NOTHING
    server.now += 0.02
    assert server.on(3, RequestVote(9, 9, 9)).sends


def test_a_pre_vote_changes_no_term_at_either_end() -> None:
    """§9.6: only the vote that follows does."""
    asking, asked = precandidate(term=3), Server(node=2, term=3)
    asked.on(1, PreVote(4, 0, 0))
    assert (asking.core.term, asked.core.term, asked.core.vote) == (3, 3, None)


def test_a_pre_vote_is_granted_only_to_a_log_that_could_win() -> None:
    """§9.6: the same comparison as for a vote."""
    server = Server(term=5, log=[1, 4, 4])
    assert server.on(2, PreVote(6, 2, 4)) == effects(early=[(2, PreVoteReply(5, False))])


def test_a_server_cut_off_and_back_does_not_depose_the_leader() -> None:
    """§9.6: its term has not grown meanwhile."""
    cluster = Cluster(lambda env: Raft(env, CONFIG), 3, seed=1, delay_s=(0.001, 0.002))
    assert cluster.run(10, lambda: any(m.core.role == "leader" for m in cluster.members.values()))
    cluster.run(1)
    (lead,) = [node for node in cluster.peers if cluster[node].core.role == "leader"]
    away = next(node for node in cluster.peers if node != lead)
    term = cluster[lead].core.term
    cluster.cut((away,), tuple(node for node in cluster.peers if node != away))
    cluster.run(20)
    cluster.heal()
    cluster.run(5)
    assert (cluster[lead].core.role, cluster[lead].core.term) == ("leader", term)
    assert cluster[away].core.leader == lead
