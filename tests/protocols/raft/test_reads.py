"""ReadIndex (§6.4): the leader's rounds, reads of followers, and what a deposed leader never says."""

import msgspec

from quorate.kernel import Asked, Received
from quorate.parts.log.replicated import Decided, Leads, ReadFailed, ReadReady
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    ReadReply,
    ReadRequest,
)

from tests.protocols.raft.raft_nodes import (
    CONFIG,
    NOTHING,
    Server,
    effects,
    entry,
    follower,
    leader,
    log_of,
    noop,
    settled_leader,
)
from tests.protocols.stepped import FIVE

NONCE = 77


def round_of(number: int, commit: int = 1, nodes: tuple[int, ...] = (2, 3)) -> list[tuple[int, Heartbeat]]:
    """The heartbeats of a round."""
    return [(node, Heartbeat(1, commit, number)) for node in nodes]


def test_a_read_waits_for_a_quorum_to_say_that_we_still_lead() -> None:
    server = settled_leader()
    assert server.read(7, 8) == effects(early=round_of(2))
    assert server.on(2, HeartbeatReply(1, 2)) == effects(outputs=[ReadReady((7, 8))])
    assert server.on(3, HeartbeatReply(1, 2)) == NOTHING, "served once"


def test_an_answer_to_an_earlier_round_confirms_nothing() -> None:
    server = settled_leader()
    server.read(7)
    assert server.on(2, HeartbeatReply(1, 1)) == NOTHING
    assert server.on(3, HeartbeatReply(1, 0)) == NOTHING


def test_an_answer_to_a_later_round_confirms_the_earlier_ones_in_order() -> None:
    server = settled_leader(peers=FIVE)
    server.read(7)
    server.read(8)
    server.on(2, HeartbeatReply(1, 2))
    assert server.on(3, HeartbeatReply(1, 3)) == effects(outputs=[ReadReady((7,))])
    assert server.on(2, HeartbeatReply(1, 3)) == effects(outputs=[ReadReady((8,))])


def test_one_server_counts_once_for_a_round() -> None:
    server = settled_leader(peers=FIVE)
    server.read(7)
    assert server.on(2, HeartbeatReply(1, 2), HeartbeatReply(1, 2)) == NOTHING


def test_reads_of_one_step_share_a_round() -> None:
    server = settled_leader()
    assert server.on(2, ReadRequest(NONCE, [5]), ReadRequest(NONCE, [6])) == effects(early=round_of(2))
    assert server.on(3, HeartbeatReply(1, 2)) == effects(
        early=[(2, ReadReply(NONCE, [5], 1)), (2, ReadReply(NONCE, [6], 1))]
    )


def test_a_round_whose_messages_were_lost_is_asked_again_by_the_heartbeat() -> None:
    server = settled_leader()
    server.read(7)
    assert server.beat().early == effects(early=round_of(2)).early
    assert server.on(2, HeartbeatReply(1, 2)).outputs == [ReadReady((7,))]


def test_before_the_no_op_is_committed_reads_wait() -> None:
    server = leader(term=1, log=[1])
    assert server.read(7) == NOTHING
    server.on(1, Appended(2, 2))
    turn = server.on(2, Appended(2, 2))
    assert turn.outputs == [Decided(1, [*log_of([1]), noop(2)])]
    assert effects(early=[(3, Heartbeat(2, 0, 2))]).early[0] in turn.early
    assert server.on(3, HeartbeatReply(2, 2)).outputs == [ReadReady((7,))]


def test_a_read_comes_after_all_that_was_committed_when_it_came() -> None:
    server = settled_leader()
    server.submit("x")
    server.on(1, Appended(1, 2))
    turn = server.step(Received(2, Appended(1, 2)), Asked((7,)))
    assert turn.outputs == [Decided(2, [entry(1, "x")])]
    assert server.on(2, HeartbeatReply(1, 2)) == effects(outputs=[ReadReady((7,))])


def test_a_deposed_leader_fails_its_reads_and_answers_none() -> None:
    server = settled_leader()
    server.read(7)
    server.on(2, ReadRequest(NONCE, [5]))
    turn = server.on(3, HeartbeatReply(5, 2))
    assert turn.outputs == [ReadFailed((7,), "leadership was lost"), Leads(5, None)]
    assert turn.early == ()
    assert server.on(2, HeartbeatReply(1, 9)) == NOTHING
    assert server.on(2, HeartbeatReply(5, 9)) == NOTHING


def test_rounds_of_an_earlier_leadership_confirm_nothing() -> None:
    server = leader(term=4)
    assert server.on(2, HeartbeatReply(4, 99)) == NOTHING
    server.on(1, Appended(5, 1))
    server.on(2, Appended(5, 1))
    server.read(7)
    assert server.on(2, HeartbeatReply(4, 99)) == NOTHING
    assert server.on(2, HeartbeatReply(5, 2)).outputs == [ReadReady((7,))]


def test_too_many_reads_are_refused() -> None:
    server = settled_leader(config=msgspec.structs.replace(CONFIG, reads_pending_max=2))
    server.read(1, 2)
    assert server.read(3) == effects(outputs=[ReadFailed((3,), "too many reads wait for a quorum")])
    assert server.on(2, ReadRequest(NONCE, [4])) == NOTHING
    server.on(2, HeartbeatReply(1, 2))
    assert server.read(5).early == effects(early=round_of(3)).early


# --- a follower's reads ---


def asking() -> tuple[Server, int]:
    """A follower that has asked for token 7, and its nonce."""
    server = follower(leader=2, term=3)
    turn = server.read(7)
    ((send,),) = (turn.early,)
    assert isinstance(send.message, ReadRequest)
    assert send.to == (2,)
    assert send.message.tokens == [7]
    return server, send.message.nonce


def test_a_follower_asks_and_serves_once_it_has_applied_as_much() -> None:
    server, nonce = asking()
    assert server.on(2, ReadReply(nonce, [7], 1)) == NOTHING
    turn = server.on(2, AppendEntries(3, 0, 0, [noop(3)], 1))
    assert turn.outputs == [Decided(1, [noop(3)]), ReadReady((7,))]
    assert server.on(2, ReadReply(nonce, [7], 1)) == NOTHING, "a duplicate"


def test_answers_to_an_earlier_life_another_leader_or_nobody_are_ignored() -> None:
    server, nonce = asking()
    for reply in (ReadReply(nonce + 1, [7], 0), ReadReply(nonce, [9], 0)):
        assert server.on(2, reply) == NOTHING
    assert server.on(3, ReadReply(nonce, [7], 0)) == NOTHING
    assert server.on(2, ReadReply(nonce, [7, 7, 9], 0)) == effects(outputs=[ReadReady((7,))])


def test_two_lives_have_two_nonces() -> None:
    assert Server(seed=1).core._reads._nonce != Server(seed=2).core._reads._nonce


def test_a_new_leader_fails_what_the_old_one_was_asked() -> None:
    server, nonce = asking()
    assert server.on(3, Heartbeat(4, 0, 0)).outputs == [ReadFailed((7,), "the leader changed"), Leads(4, 3)]
    assert server.on(3, ReadReply(nonce, [7], 0)) == NOTHING


def test_a_time_out_fails_what_was_asked() -> None:
    server, _ = asking()
    assert server.time_out().outputs == [ReadFailed((7,), "the leader changed"), Leads(3, None)]


def test_an_index_that_was_confirmed_survives_a_change_of_leader() -> None:
    server, nonce = asking()
    server.on(2, ReadReply(nonce, [7], 1))
    server.on(3, Heartbeat(4, 0, 0))
    assert server.on(3, AppendEntries(4, 0, 0, [noop(3)], 1)).outputs[-1] == ReadReady((7,))


def test_without_a_leader_a_read_fails_at_once() -> None:
    assert Server().read(7) == effects(outputs=[ReadFailed((7,), "no leader is known")])
    assert follower().on(3, ReadRequest(NONCE, [5])) == NOTHING, "who does not lead says nothing"


def test_a_follower_bounds_what_it_asks() -> None:
    server = follower(config=msgspec.structs.replace(CONFIG, reads_pending_max=2))
    server.read(1, 2)
    assert server.read(3) == effects(outputs=[ReadFailed((3,), "too many reads")])


def test_a_read_whose_question_or_answer_was_lost_fails_and_makes_room() -> None:
    """The leader stays, so nothing else would ever take it out."""
    server = follower(leader=2, config=msgspec.structs.replace(CONFIG, reads_pending_max=2))
    server.read(1)
    server.now += 0.9
    server.on(2, Heartbeat(1, 0, 0))
    (send,) = server.read(2).early
    for _ in range(3):
        server.now += 0.4
        turn = server.on(2, Heartbeat(1, 0, 0))
    assert turn == effects(outputs=[ReadFailed((1,), "the leader did not answer")])
    assert server.on(2, ReadReply(send.message.nonce, [1], 0)) == NOTHING, "too late"
    assert server.read(3).early, "there is room again"
    assert server.on(2, ReadReply(send.message.nonce, [2], 0)).outputs == [ReadReady((2,))]
