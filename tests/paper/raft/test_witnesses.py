"""Rules of witnesses, one test a rule: Pâris 1986, Liskov et al. 1991 (Harp), and what Raft makes of them.

The sections are those of ``protocols/raft/witnesses.py``, as no section of the dissertation has them.
"""

from typing import Any

import pytest

from quorate.kernel import Blame
from quorate.kernel.standing import LEARNER, WITNESS
from quorate.parts.leaderlog.reads import ReadReply
from quorate.parts.log.configuration import FOUNDERS_ALONE, Change, Invitation, Newcomer, Nodes, Voters, encode_change
from quorate.parts.log.entries import CONFIGURATION, NOOP, RETURN, WITHHELD, Entry
from quorate.parts.log.replicated import Chunk, Dropped, Leads, ReadFailed, Stateless
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    AppendWithheld,
    Configured,
    Conflict,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallCut,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshottedAmong,
    TimeoutNow,
    Vote,
    Witness,
)
from quorate.protocols.raft.witnesses import NO_STATE, withheld

from tests.protocols.raft.raft_nodes import CONFIG, Server, effects, entry, held, noop, settled_leader

DATA = (1, 2)
"""The founders; node 3 is the witness."""
THIRD = Newcomer(3, "n3:1", witness=True)
NODES = Nodes((THIRD,))
SMALL = CONFIG.but(founders=DATA, snapshot_entries=4)


def introduction(term: int = 1, epoch: int = 0) -> Entry:
    return Entry(term, encode_change(DATA, epoch, [THIRD]), CONFIGURATION)


def promotion(term: int = 1, epoch: int = 2) -> Entry:
    return Entry(term, encode_change((1, 2, 3), epoch), CONFIGURATION)


def hidden(term: int = 1) -> Entry:
    return Entry(term, b"", WITHHELD)


def witness(*entries: Entry, term: int = 1) -> Server:
    """Node 3, which follows node 1 and has the entries by which it joined and votes, and then these."""
    server = Server(node=3, peers=(1, 2, 3), config=SMALL)
    log = [noop(1), introduction(), promotion(), *entries]
    server.on(1, AppendWithheld(term, 0, 0, log, 3))
    assert server.core.log.last_index == len(log)
    return server


def leading() -> Server:
    """Node 1 leads, and nodes 1, 2 and 3 vote, all of whom hold its three entries."""
    server = settled_leader(peers=DATA, config=SMALL)
    server.submit(introduction().data)
    for node in DATA:
        server.on(node, Appended(1, 2))
    server.on(3, Appended(1, 2))
    server.submit(promotion().data)
    for node in (1, 2, 3):
        server.on(node, Appended(1, 3))
        if node != 1:
            server.on(node, HeartbeatReply(1, 1))
    assert server.core.in_force().voters == Voters((1, 2, 3), (), 3)
    return server


def to_witness(turn: Any) -> list[Any]:
    return [send.message for send in turn.early if 3 in send.to]


# --- what it keeps ---


def test_it_is_sent_index_term_and_kind_of_commands_and_no_data() -> None:
    server = leading()
    server.submit("x")
    assert to_witness(held(server, 1, 2)) == [AppendWithheld(1, 3, 1, [hidden()], 4)]


def test_it_has_all_of_what_says_who_votes_and_who_returned() -> None:
    configuration, returned = promotion(), Entry(1, b"r", RETURN)
    assert withheld([noop(1), configuration, returned]) == [noop(1), configuration, returned]


def test_a_withheld_command_is_neither_an_empty_command_nor_a_no_op() -> None:
    [made] = withheld([entry(2, "")])
    assert made == Entry(2, b"", WITHHELD)
    assert made.kind not in (entry(2).kind, NOOP)


@pytest.mark.parametrize("kind", [AppendEntries, AppendWithheld])
def test_it_records_no_data_whatever_it_is_sent(kind: type[AppendEntries]) -> None:
    server = witness()
    turn = server.on(1, kind(1, 3, 1, [entry(1, "secret"), noop(1)], 3))
    assert turn == effects(records=[Entries(4, [hidden(), noop(1)])], sends=[(1, Appended(1, 5))])
    assert "secret" not in repr(server.records)


def test_it_is_a_witness_from_the_first_message_on_and_for_good() -> None:
    """The entry that introduces it comes later."""
    server = Server(node=3, peers=(1, 2, 3), config=SMALL)
    turn = server.on(1, AppendWithheld(1, 2, 1, [promotion()], 3))
    assert turn.records == effects(records=[HardState(1, None), Witness()]).records
    assert turn.outputs == [Leads(1, 1), Stateless()]
    again = Server(node=3, peers=(1, 2, 3), config=SMALL, records=server.records)
    assert (again.core.state.is_witness, again.started.outputs) == (True, [Stateless(), Leads(1, None)])
    assert Witness() in again.records


def test_a_server_that_has_state_is_made_no_witness() -> None:
    for server in (Server(node=3, peers=(1, 2, 3), config=SMALL, log=[1]), Server(node=2, peers=DATA, config=SMALL)):
        turn = server.on(1, AppendWithheld(1, 1, 1, [hidden()], 0))
        assert turn.blames == [Blame(1, "takes this node for a witness, which has state")]
        assert not server.core.state.is_witness


def test_it_says_what_it_is() -> None:
    assert witness().core.standing().role == WITNESS
    server = Server(node=3, peers=(1, 2, 3), config=SMALL)
    server.on(1, AppendWithheld(1, 0, 0, [noop(1), introduction()], 2))
    assert server.core.standing().role == LEARNER, "it does not vote yet"


# --- it votes ---


def test_its_acknowledgement_counts() -> None:
    """Pâris 1986: a witness votes as a copy does."""
    server = leading()
    server.submit("x")
    held(server, 1)
    server.beat()
    server.beat()
    assert server.core.commit_index == 3
    held(server, 3)
    assert server.core.commit_index == 4


def test_it_votes_for_a_log_that_has_what_its_own_has() -> None:
    server = witness(hidden())
    server.now += 2 * CONFIG.election_timeout_s_min
    assert server.on(2, PreVote(2, 4, 1)).early == effects(early=[(2, PreVoteReply(2, True))]).early
    assert server.on(2, RequestVote(2, 4, 1)).sends == effects(sends=[(2, Vote(2, True))]).sends


def test_it_refuses_one_that_lacks_what_it_acknowledged() -> None:
    """§3.6.1. Pâris 1986: a witness that knows of a newer version lets no older copy pass for current."""
    server = witness(hidden())
    server.now += 2 * CONFIG.election_timeout_s_min
    assert PreVoteReply(1, False) in [send.message for send in server.on(2, PreVote(2, 3, 1)).early]
    assert server.on(2, RequestVote(2, 3, 1)).sends == effects(sends=[(2, Vote(2, False))]).sends


def test_a_configuration_goes_back_at_a_witness_too() -> None:
    """§4.1."""
    server = witness(Entry(1, encode_change(DATA, 3), CONFIGURATION))
    assert server.core.acting() == Voters(DATA, (), 4)
    server.on(2, AppendWithheld(2, 3, 1, [noop(2)], 3))
    assert server.core.acting() == Voters((1, 2, 3), (), 3)


# --- it never leads, applies, or serves ---


def test_it_never_stands() -> None:
    server = witness(hidden())
    assert server.time_out() == effects(timers=[("election", server.now + server.core.election.watch.delay_s)])


def test_it_does_not_stand_though_the_leader_asks_it_to() -> None:
    """§3.10."""
    server = witness(hidden())
    turn = server.on(1, TimeoutNow(1))
    assert (turn.records, turn.early, turn.sends, server.core.role) == ((), (), (), "follower")


def test_nothing_is_applied() -> None:
    server = witness(hidden())
    turn = server.on(1, Heartbeat(1, 4, 0))
    assert (server.core.commit_index, turn.outputs) == (4, ())


def test_clients_get_nothing_of_it() -> None:
    server = witness()
    assert server.submit("x") == effects(outputs=[Dropped((b"x",), NO_STATE)])
    assert server.read(7) == effects(outputs=[ReadFailed((7,), NO_STATE)])


def test_what_was_asked_before_it_knew_what_it_is_fails() -> None:
    """A learner passes reads on, and serves them from its own state when it has applied as much; a witness has none."""
    server = Server(node=3, peers=(1, 2, 3), config=SMALL)
    server.on(1, Heartbeat(1, 0, 0))
    server.read(7)
    asked = [send.message for send in server.read(8).early]
    server.on(1, ReadReply(asked[0].nonce, [7], 3))
    turn = server.on(1, AppendWithheld(1, 0, 0, [noop(1), introduction(), promotion()], 3))
    assert turn.outputs == [Stateless(), ReadFailed((8, 7), NO_STATE), Stateless()]
    assert server.on(1, ReadReply(asked[0].nonce, [8], 3)) == effects()


def test_it_takes_no_state() -> None:
    server = witness()
    turn = server.on(1, InstallSnapshot(1, Chunk(9, 1, 0, b"state", 5)))
    assert turn == effects(blames=[(1, "sent state to a witness")])


def test_leadership_is_not_given_to_it() -> None:
    """§3.10: whoever is asked to stand must be able to lead."""
    server = leading()
    assert server.core.why_not_hand_over(3) == "node 3 is a witness: it keeps no state, and never leads"
    server.now += 2 * CONFIG.election_timeout_s_min
    server.on(3, HeartbeatReply(1, 1))
    server.core.hand_over()
    assert TimeoutNow(1) not in to_witness(server.on(3, HeartbeatReply(1, 1)))


def test_nothing_survives_there() -> None:
    with pytest.raises(ValueError, match="keeps no state, so nothing survives here"):
        witness().core.surviving()


# --- it is asked last ---


def test_it_is_sent_an_entry_when_those_with_state_hold_it() -> None:
    """Harp: while others do, a witness is not needed. Otherwise it would refuse those that lack a moment's entries."""
    server = leading()
    assert not to_witness(server.submit("x"))
    assert not to_witness(held(server, 1)), "server 2 is in step"
    assert to_witness(held(server, 2))


def test_one_that_is_behind_is_not_waited_for() -> None:
    """That is what a witness is for. In step is who holds what the log had two heartbeats ago."""
    server = leading()
    server.submit("x")
    assert not to_witness(held(server, 1))
    sent = [*to_witness(server.beat()), *to_witness(server.beat())]
    assert AppendWithheld(1, 3, 1, [hidden()], 3) in sent
    server.submit("y")
    assert to_witness(held(server, 1)), "at once, while server 2 is out of step"


def test_the_leaders_disk_must_have_it_before() -> None:
    """Else no server that can lead may have it, after the leader's crash (§10.2.1)."""
    server = leading()
    server.submit("x")
    for _ in range(5):
        server.on(2, HeartbeatReply(1, 1))
        server.on(3, HeartbeatReply(1, 1))
        assert AppendWithheld not in map(type, to_witness(server.beat()))
    assert to_witness(held(server, 1))


def test_a_leader_that_leaves_is_none_of_those() -> None:
    """§4.2.2: what it alone holds is gone when it is switched off."""
    server = leading()
    server.submit(encode_change((2, 3), 3))
    for _ in range(5):
        server.on(2, HeartbeatReply(1, 1))
        server.on(3, HeartbeatReply(1, 1))
        held(server, 1)
        assert AppendWithheld not in map(type, to_witness(server.beat()))
    assert to_witness(held(server, 2))


# --- chapter 5: its log begins somewhere, too ---


def test_one_that_lags_behind_the_log_is_sent_what_a_snapshot_says_without_the_state() -> None:
    configured = Configured(3, 3, (1, 2, 3), (), NODES)
    records = [HardState(1, None), SnapshottedAmong(7, 1, 5, 1, (), configured), Entries(6, [entry(1), entry(1)])]
    server = Server(node=1, peers=DATA, config=SMALL, records=records)
    server.time_out()
    server.on(2, PreVoteReply(2, True))
    for node in DATA:
        server.on(node, Vote(2, True))
    assert AppendWithheld(2, 7, 1, [noop(2)], 7) in to_witness(held(server, 1))
    assert to_witness(server.on(3, Conflict(2, 7, 0, 0))) == [InstallCut(2, 7, 1, (), configured)]
    assert to_witness(server.on(3, Appended(2, 7))) == [AppendWithheld(2, 7, 1, [noop(2)], 7)]


def test_it_records_that_and_acknowledges() -> None:
    configured = Configured(3, 3, (1, 2, 3), (), NODES)
    server = Server(node=3, peers=(1, 2, 3), config=SMALL)
    turn = server.on(1, InstallCut(1, 7, 1, (), configured))
    written = [HardState(1, None), Witness(), SnapshottedAmong(7, 1, 7, 1, (), configured)]
    assert (turn.records, turn.sends) == (
        effects(records=written).records,
        effects(sends=[(1, Appended(1, 7))]).sends,
    )
    assert turn.outputs == [Leads(1, 1), Stateless(), Stateless()], "and no state is restored"
    assert server.core.in_force().voters == Voters((1, 2, 3), (), 3)
    assert (server.core.commit_index, server.core.log.last_index) == (7, 7)


def test_it_lets_the_beginning_of_its_log_go_without_a_snapshot() -> None:
    server = witness(hidden(), hidden())
    turn = server.on(1, Heartbeat(1, 4, 0))
    configured = Configured(3, 3, (1, 2, 3), (), NODES)
    assert turn == effects(records=[SnapshottedAmong(4, 1, 4, 1, (), configured)])
    again = Server(node=3, peers=(1, 2, 3), config=SMALL, records=server.records)
    assert (again.core.commit_index, again.core.log.base_index, again.core.log.last_index) == (4, 4, 5)
    assert again.core.in_force().voters == Voters((1, 2, 3), (), 3)


# --- no quorum of witnesses alone ---

FOURTH = Newcomer(4, "n4:1", witness=True)


def with_two() -> Server:
    """A leader of nodes 1 and 2, with witnesses 3 and 4, and 5, that do not vote yet."""
    server = settled_leader(peers=DATA, config=SMALL)
    server.submit(encode_change(DATA, 0, [THIRD, FOURTH, Newcomer(5, "n5:1")]))
    for node in DATA:
        server.on(node, Appended(1, 2))
    for node in (2, 3, 4, 5):
        server.on(node, Appended(1, 2))
    return server


@pytest.mark.parametrize(
    ("members", "is_taken"),
    [((1, 2, 3), True), ((1, 3), True), ((1, 2, 3, 4), True), ((1, 3, 4), False), ((3,), False), ((3, 4), False)],
)
def test_a_change_after_which_witnesses_were_a_quorum_changes_nothing(members: tuple[int, ...], is_taken: bool) -> None:
    """Each quorum must have the data, and a server that can lead."""
    server = with_two()
    server.submit(encode_change(members, 2))
    acting = server.core.acting()
    assert (acting.epoch == 3 and members in (acting.members, acting.next_members)) == is_taken


def test_both_halves_of_a_joint_configuration_have_servers_with_state() -> None:
    server = with_two()
    server.submit(encode_change((3, 4, 5), 2))
    assert server.core.acting() == Voters(DATA, (), 2)
    server.submit(encode_change((3, 5), 2))
    assert server.core.acting() == Voters(DATA, (3, 5), 4)


# --- a number is a witness's, or not, for good ---


def test_who_joins_is_what_it_was_invited_as() -> None:
    invited = Nodes((), (), (Invitation(3, b"l" * 32, True), Invitation(4, b"l" * 32)))
    for newcomer, fits in (
        (Newcomer(3, "n3:1", witness=True), True),
        (Newcomer(3, "n3:1"), False),
        (Newcomer(4, "n4:1", witness=True), False),
        (Newcomer(4, "n4:1"), True),
    ):
        assert invited.takes(Change(DATA, None, (newcomer,)), DATA) == fits
    assert not invited.takes(Change(DATA, None, (), (), (Invitation(3, b"m" * 32),)), DATA)
    assert NODES.witnesses == (3,)
    assert FOUNDERS_ALONE.witnesses == ()
