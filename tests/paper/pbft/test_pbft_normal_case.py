"""The normal case, one test a rule: Castro and Liskov, OSDI 1999, §4, §4.1, §4.2, and reads of §5.1.3."""

import msgspec
import pytest

from quorate.kernel import Asked, Blame, Stalled, Timer, Turn
from quorate.parts import requests
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided, Dropped, ReadReady
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.pbft.messages import (
    Accepted,
    Forward,
    Prepare,
    Prepared,
    PrePrepare,
    Stored,
    digest_of,
)

from tests.protocols.effects import to, written
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    Node,
    X,
    Y,
    Z,
    commit,
    pre_prepare,
    prepare,
    prepared,
    view_change,
)

BACKUPS = (2, 3, 4)
OTHERS = (1, 3, 4)
"""Than node 2."""
FORGED = requests.sign(SCHEME.client(1), [b"forged"])[:-1] + b"\0"


def entries(*values: bytes) -> list[Entry]:
    return [Entry(0, value, COMMAND) for value in values]


def ordered(node: Node, *batch: bytes) -> Turn:
    """A backup that has the proposal and a quorum's prepares; the Turn of the last."""
    node.on(1, pre_prepare(1, *batch))
    return node.on(3, prepare(3, pre_prepare(1, *batch)))


# --- section 4: views and primaries ---


@pytest.mark.parametrize("size", [4, 7, 10, 13])
def test_the_primary_of_a_view_is_replica_v_mod_n(size: int) -> None:
    """§4: p = v mod |R|, where the paper counts from 0."""
    group = Node(1, tuple(range(1, size + 1))).core.view.group
    assert [group.primary(view) for view in range(size + 2)] == [*range(1, size + 1), 1, 2]


@pytest.mark.parametrize(("size", "faults", "quorum"), [(4, 1, 3), (7, 2, 5), (10, 3, 7), (13, 4, 9)])
def test_quorums_are_2f_plus_1_of_3f_plus_1(size: int, faults: int, quorum: int) -> None:
    """§4.2."""
    core = Node(1, tuple(range(1, size + 1))).core
    assert (core.view.group.quorum.size, core.view.group.quorum.weak.size) == (quorum, faults + 1)


# --- section 4.1: the client ---


def test_a_request_is_taken_only_if_its_client_signed_it() -> None:
    """§4.1: sigma_c. Nothing is kept of one that is not."""
    node = Node(1)
    assert node.submit(FORGED).outputs == [Dropped((FORGED,), "the request is not signed by its client")]
    assert node.submit(b"no request").outputs == [Dropped((b"no request",), "the request is not signed by its client")]
    assert (node.core.waiting.pending, node.core.log.accepted) == ({}, {})


def test_whoever_passes_on_a_forged_request_is_blamed() -> None:
    turn = Node(1).on(3, Forward((FORGED,)))
    assert turn.blames == [Blame(3, "passed on a request that its client did not sign")]


def test_a_request_that_comes_again_while_it_waits_is_one_request() -> None:
    """§4.1: clients send again. What was executed before comes to the sessions above, which answer and do nothing."""
    node = Node()
    node.submit(X)
    assert node.submit(X).jobs == ()
    assert list(node.core.waiting.pending.values()) == [X]


def test_a_backup_passes_requests_on_to_the_primary() -> None:
    """§4.2: what the primary may not have; it waits a beat, for the client sends to all."""
    node = Node()
    node.submit(X)
    first = [send.message for send in node.fire("beat", CONFIG.beat_s).sends]
    assert not any(isinstance(message, Forward) for message in first)
    assert to(1, Forward((X,))) in node.fire("beat", CONFIG.beat_s).sends


# --- section 4.2: pre-prepare ---


def test_the_primary_assigns_a_number_multicasts_and_logs() -> None:
    """§4.2: record first, then the pre-prepare with the requests, to all backups."""
    node = Node(1)
    turn = node.submit(X)
    proposed = pre_prepare(1, X)
    assert turn.records == written(Stored((X,)), Accepted(0, 1, proposed.digest, proposed.signature))
    assert turn.sends == [to(BACKUPS, proposed)]
    assert turn.early == ()


def test_numbers_follow_each_other() -> None:
    node = Node(1)
    sent = [node.submit(value).sends[0].message for value in (X, Y, Z)]
    assert [message.sequence for message in sent] == [1, 2, 3]


def test_when_many_are_under_way_the_rest_goes_as_one_batch() -> None:
    """§5.1 (batching): at most ``inflight_batches`` are undecided."""
    node = Node(1, config=msgspec.structs.replace(CONFIG, inflight_batches=1))
    node.submit(X)
    assert [node.submit(value).sends for value in (Y, Z)] == [(), ()]
    node.on(2, prepare(2, pre_prepare(1, X)), commit(2, pre_prepare(1, X)))
    turn = node.on(3, prepare(3, pre_prepare(1, X)), commit(3, pre_prepare(1, X)))
    assert turn.outputs == [Decided(1, entries(X))]
    assert turn.sends[-1] == to(BACKUPS, pre_prepare(2, Y, Z))


def test_a_backup_accepts_stores_and_multicasts_a_prepare() -> None:
    """§4.2: it enters the prepare phase. Signed by itself, with the primary's signature beside it (deviation 2)."""
    turn = Node().on(1, pre_prepare(1, X))
    proposed = pre_prepare(1, X)
    assert turn.records == written(Stored((X,)), Accepted(0, 1, proposed.digest, proposed.signature))
    assert turn.sends == [to(OTHERS, prepare(2, proposed))]
    assert turn.blames == ()


def test_a_pre_prepare_counts_only_if_its_signature_is_right() -> None:
    """§4.2: "the signatures in the request and the pre-prepare message are correct"."""
    forged = pre_prepare(1, X, primary=3)
    turn = Node().on(1, forged)
    assert turn == Turn(blames=[Blame(1, "proposes with a signature that is wrong")])


def test_a_pre_prepare_counts_only_if_d_is_the_digest_of_m() -> None:
    """§4.2: "d is the digest for m"."""
    proposed = pre_prepare(1, X)
    other = PrePrepare(0, 1, proposed.digest, proposed.signature, (Y,))
    turn = Node().on(1, other)
    assert turn == Turn(blames=[Blame(1, "proposes a batch that is not what its digest says, or too large")])


def test_a_pre_prepare_counts_only_if_its_requests_are_signed() -> None:
    """§4.2: a primary cannot make up requests."""
    node = Node()
    turn = node.on(1, pre_prepare(1, X, FORGED))
    assert turn == Turn(blames=[Blame(1, "proposes a request that its client did not sign")], timers=turn.timers)
    assert node.core.log.accepted == {}


def test_the_digest_binds_the_number_and_the_view() -> None:
    """A vote for a batch at one number, or in one view, is none at another."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    for other in (pre_prepare(2, X), pre_prepare(1, X, view=4)):
        moved = Prepare(0, 1, other.digest, prepare(3, other).signature, pre_prepare(1, X).signature)
        assert node.on(3, moved).blames == [Blame(3, "prepares with a signature that is wrong")]
    assert node.core.log.prepared == {}


def test_a_pre_prepare_counts_only_in_its_view() -> None:
    """§4.2: "it is in view v". An earlier view's is dropped; a later one's waits."""
    node = Node()
    node.enter(2)
    assert node.on(1, pre_prepare(1, X)) == Turn()
    assert node.on(1, pre_prepare(1, X, view=4)) == Turn()
    assert len(node.core.normal.early) == 1


def test_a_pre_prepare_counts_only_from_the_primary() -> None:
    turn = Node().on(3, pre_prepare(1, X, primary=3))
    assert turn == Turn(blames=[Blame(3, "proposes in a view that it does not lead")])


def test_a_backup_accepts_one_digest_a_view_and_number() -> None:
    """§4.2: "it has not accepted a pre-prepare message for view v and sequence number n containing a different digest".
    Two, both signed, prove that the primary lies: its view ends at once (deviation 2)."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    turn = node.on(1, pre_prepare(1, Y))
    assert turn.blames == [Blame(1, "proposes two batches at one number")]
    assert (node.core.view.number, node.core.view.is_changing) == (1, True)
    assert node.core.log.accepted[1].digest == digest_of((X,))


def test_a_backup_accepts_only_between_the_water_marks() -> None:
    """§4.2: "a faulty primary cannot exhaust the space of sequence numbers by selecting a very large one"."""
    node = Node()
    assert node.on(1, pre_prepare(CONFIG.window + 1, X)) == Turn()
    assert node.on(1, pre_prepare(0, X)) == Turn()
    assert node.on(1, pre_prepare(CONFIG.window, X)).sends


def test_a_pre_prepare_that_comes_again_changes_nothing() -> None:
    node = Node()
    node.on(1, pre_prepare(1, X))
    assert node.on(1, pre_prepare(1, X)) == Turn()


# --- section 4.2: prepare ---


def test_prepared_takes_a_pre_prepare_and_2f_matching_prepares() -> None:
    """§4.2, the predicate prepared(m, v, n, i): record first, then the commit."""
    node = Node()
    assert node.on(1, pre_prepare(1, X)).sends == [to(OTHERS, prepare(2, pre_prepare(1, X)))]
    assert node.core.log.slots[1].prepared is None, "its own is one of 2f"
    turn = node.on(3, prepare(3, pre_prepare(1, X)))
    assert turn == Turn(
        records=written(Prepared(prepared(1, X))),
        sends=[to(OTHERS, commit(2, pre_prepare(1, X)))],
    )


def test_prepares_without_the_pre_prepare_prepare_nothing() -> None:
    """§4.2: the request must be in the log. It comes later, and all is there."""
    node = Node()
    for other in (3, 4):
        assert node.on(other, prepare(other, pre_prepare(1, X))) == Turn()
    turn = node.on(1, pre_prepare(1, X))
    assert [type(record.value) for record in turn.records] == [Stored, Accepted, Prepared]


def test_one_node_prepares_once() -> None:
    """§4.2: 2f prepares "from different backups"."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    fourth = prepare(2, pre_prepare(1, X))
    assert node.on(3, Prepare(0, 1, fourth.digest, b"bad", fourth.proposal)).blames
    node = Node(1)
    node.submit(X)
    for _ in range(3):
        assert node.on(3, prepare(3, pre_prepare(1, X))).records == ()


def test_whoever_prepares_two_batches_at_one_number_is_blamed() -> None:
    node = Node()
    node.on(3, prepare(3, pre_prepare(1, X)))
    turn = node.on(3, prepare(3, pre_prepare(1, Y)))
    assert turn.blames == [
        Blame(3, "prepares two batches at one number"),
        Blame(1, "proposes two batches at one number"),  # which it shows
    ]


def test_the_primary_sends_no_prepare() -> None:
    """§4.2: its pre-prepare is its vote; a prepare beside it would count it twice."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    assert node.on(1, prepare(1, pre_prepare(1, X))).blames == [Blame(1, "prepares, and is no backup")]


def test_a_prepare_that_names_another_proposal_of_the_primary_ends_the_view() -> None:
    """Deviation 2: who was told X hears from a backup that was told Y."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    turn = node.on(3, prepare(3, pre_prepare(1, Y)))
    assert turn.blames == [Blame(1, "proposes two batches at one number")]
    assert node.core.view.is_changing


def test_the_proof_that_the_primary_lied_counts_also_after_one_story_prepared() -> None:
    """Else whoever was told that story stays with the liar until a request has waited too long."""
    node = Node()
    ordered(node, X)
    turn = node.on(4, prepare(4, pre_prepare(1, Y)))
    assert turn.blames == [Blame(1, "proposes two batches at one number")]
    assert turn.sends == [to(OTHERS, view_change(2, 1, prepared(1, X)))]


# --- section 4.2: commit ---


def test_committed_local_takes_2f_plus_1_commits() -> None:
    """§4.2: its own among them. Then the batch is executed, and the replies go (above this core)."""
    node = Node()
    ordered(node, X, Y)
    assert node.on(3, commit(3, pre_prepare(1, X, Y))) == Turn()
    turn = node.on(4, commit(4, pre_prepare(1, X, Y)))
    assert turn == Turn(outputs=[Decided(1, entries(X, Y))])


def test_2f_plus_1_commits_of_others_decide_as_well() -> None:
    """Deviation 7: f + 1 of them are correct and prepared, which is what "committed" takes (§4.2)."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    for other in (1, 3):
        assert node.on(other, commit(other, pre_prepare(1, X))).outputs == ()
    assert node.on(4, commit(4, pre_prepare(1, X))).outputs == [Decided(1, entries(X))]


def test_commits_of_different_views_or_batches_do_not_add_up() -> None:
    node = Node()
    node.on(1, pre_prepare(1, X))
    node.on(1, commit(1, pre_prepare(1, X)))
    node.on(3, commit(3, pre_prepare(1, Y)))
    turn = node.on(4, commit(4, pre_prepare(1, X, view=4)))
    assert turn == Turn()
    assert node.core.log.commits[1].decided is None


def test_a_commit_whose_mac_is_wrong_counts_nothing() -> None:
    """§5.1.1 (authenticators): each node has a MAC of its own, and another's proves nothing to it."""
    node = Node()
    good = commit(3, pre_prepare(1, X))
    bad = type(good)(good.view, good.sequence, good.digest, (good.proofs[0], *good.proofs[2:]))
    assert node.on(3, bad).blames == [Blame(3, "commits without a vote, or with a proof that is wrong")]
    assert node.core.log.commits[1].known(3) == (-1, b"")


def test_execution_is_in_the_order_of_numbers() -> None:
    """§4.2: each replica executes a request after all with lower numbers."""
    node = Node()
    assert node.order(2, Y).outputs == ()
    assert node.order(1, X).outputs == [Decided(1, entries(X, Y))]


def test_a_batch_that_is_decided_is_executed_once() -> None:
    node = Node()
    node.order(1, X)
    for other in (1, 3, 4):
        assert node.on(other, commit(other, pre_prepare(1, X))) == Turn()
    assert node.core.history.index == 1


def test_a_full_disk_votes_for_nothing() -> None:
    """What cannot be recorded is not said."""
    node = Node()
    node.step(Stalled("full"))
    assert node.on(1, pre_prepare(1, X)) == Turn()
    assert node.submit(X).outputs == [Dropped((X,), "full")]
    node.step(Stalled(None))
    assert node.on(1, pre_prepare(1, X)).sends


# --- the log and messages to oneself ---


def test_no_message_leaves_before_the_disk() -> None:
    """A crash is only a crash: all rests on records, and nothing of PBFT is sent past the barrier."""
    node = Node()
    turns = [
        node.started,
        node.on(1, pre_prepare(1, X)),
        node.on(3, prepare(3, pre_prepare(1, X))),
        node.fire("beat", 1),
    ]
    assert all(turn.early == () for turn in turns)


def test_a_backup_that_gets_a_request_starts_its_timer() -> None:
    """§4.4: "a backup starts a timer when it receives a request and the timer is not already running"."""
    node = Node()
    timer = Timer((), "request", node.now + CONFIG.request_timeout_s)
    assert timer in node.submit(X).timers
    assert timer not in node.submit(Y).timers
    assert Node(1).submit(X).timers == (), "the primary waits for nobody"


# --- section 5.1.3: reads ---


def test_a_read_is_answered_at_once_where_nothing_has_prepared() -> None:
    assert Node().step(Asked((1, 2))).outputs == [ReadReady((1, 2))]


def test_a_read_waits_until_what_prepared_before_it_is_executed() -> None:
    """§5.1.3: "all requests reflected in the tentative state have committed"; here what prepared may have an answer."""
    node = Node()
    ordered(node, X)
    assert node.step(Asked((7,))).outputs == ()
    node.on(3, commit(3, pre_prepare(1, X)))
    assert node.on(4, commit(4, pre_prepare(1, X))).outputs == [Decided(1, entries(X)), ReadReady((7,))]


def test_a_read_does_not_wait_for_what_prepares_after_it() -> None:
    node = Node()
    node.on(1, pre_prepare(1, X))
    assert node.step(Asked((7,))).outputs == [ReadReady((7,))]


def test_nodes_that_are_members_are_all_there_are() -> None:
    """Learners follow, and vote for nothing."""
    node = Node(5, (*FOUR, 5), config=PbftConfig(members=FOUR))
    turn = node.on(1, pre_prepare(1, X))
    assert turn.sends == ()
    assert node.core.standing().role == "learner"
