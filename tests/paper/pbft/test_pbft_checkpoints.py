"""Checkpoints and catching up, one test a rule: OSDI 1999, §4.3; Castro's thesis (2001), §5.2 (status) and §5.3."""

import msgspec
import pytest

from quorate.kernel import Blame, Failed, Job, Turn
from quorate.kernel.inputs import Done
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import (
    Chunk,
    Decided,
    ReadPiece,
    Restored,
    SnapshotInfo,
    TakeCommonSnapshot,
    WriteChunk,
    Written,
)
from quorate.protocols.pbft.checkpoints import Diverged
from quorate.protocols.pbft.messages import (
    NO_HISTORY,
    BatchOf,
    Executed,
    FetchBatch,
    FetchImage,
    FetchLog,
    Image,
    LogOf,
    Stable,
    Status,
    Stored,
    Taken,
    digest_of,
)

from tests.protocols.effects import to, written
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    Node,
    X,
    Y,
    Z,
    checkpoint,
    commit,
    decided,
    image_piece,
    in_pieces,
    new_view,
    offer,
    piece,
    point,
    pre_prepare,
    prepare,
    prepared,
    stable,
    view_change,
)

XY = [(X,), (Y,)]
FOUR_BATCHES = [(X,), (Y,), (Z,), (X, Y)]
OTHERS = (1, 3, 4)


def executed(*batches: tuple[bytes, ...]) -> Node:
    """Node 2, which ordered and executed these; its checkpoints are not stable."""
    node = Node()
    for sequence, batch in enumerate(batches, 1):
        node.order(sequence, *batch)
    return node


FILE = b"a snapshot of 24 bytes.."


def image_at(*batches: tuple[bytes, ...]) -> Image:
    sequence, index, history = point(*batches)
    return in_pieces(Image(sequence, index, history, 0, b"d" * 32, FOUR), FILE)


def is_taken(image: Image) -> SnapshotInfo:
    """What the shell says of it."""
    return SnapshotInfo(image.index, 0, image.size_bytes, image.digest, image.root)


def behind(*batches: tuple[bytes, ...]) -> Node:
    """Node 2 at the beginning; the checkpoint after these is proven to it."""
    node = Node()
    node.on(1, Stable(stable(*batches)))
    return node


# --- section 4.3: garbage collection ---


def test_a_checkpoint_is_made_every_k_numbers() -> None:
    """§4.3: "when a request with a sequence number divisible by some constant is executed"."""
    node = executed((X,))
    assert node.order(2, Y).sends == [to(OTHERS, checkpoint(2, *point(*XY)))]
    assert node.order(3, Z).sends == ()


def test_2f_plus_1_checkpoints_are_the_proof_of_a_stable_one() -> None:
    """§4.3: its own among them; signed, and with the same history."""
    node = executed(*XY)
    assert node.on(3, checkpoint(3, *point(*XY))) == Turn()
    assert node.on(4, checkpoint(4, 2, 2, NO_HISTORY)) == Turn()
    assert node.core.history.low == 0
    turn = node.on(1, checkpoint(1, *point(*XY)))
    assert turn.records == written(Executed(stable(*XY, nodes=(1, 2, 3)), 1, tuple(map(digest_of, XY))))
    assert (node.core.history.low, node.core.history.high) == (2, 2 + CONFIG.window)


def test_at_a_stable_checkpoint_all_messages_up_to_it_go() -> None:
    """§4.3: "it discards all pre-prepare, prepare, and commit messages with sequence number less than or equal to n";
    "all earlier checkpoints". What is above stays."""
    node = executed(*XY, (Z,))
    node.on(1, Stable(stable(*XY)))
    core = node.core
    assert [sorted(table) for table in (core.log.slots, core.log.accepted, core.log.prepared, core.log.commits)] == [
        [3]
    ] * 4
    assert (core.checkpoints.collectors, core.checkpoints.points) == ({}, {})


def test_the_water_marks_move_with_the_stable_checkpoint() -> None:
    """§4.3: "the checkpoint protocol is used to advance the low and high water marks"."""
    node = executed(*XY)
    assert node.on(1, pre_prepare(5, X)) == Turn()
    node.on(1, Stable(stable(*XY)))
    assert node.on(1, pre_prepare(5, X)).sends
    assert node.on(1, pre_prepare(2, X)) == Turn()


def test_a_checkpoint_with_a_wrong_signature_counts_nothing() -> None:
    node = executed(*XY)
    bad = checkpoint(3, *point(*XY))
    assert node.on(4, bad).blames == [Blame(4, "makes a checkpoint with a signature that is wrong")]
    node.on(1, checkpoint(1, *point(*XY)))
    assert node.core.history.low == 0


def test_one_node_makes_one_checkpoint_at_a_number() -> None:
    node = executed(*XY)
    node.on(3, checkpoint(3, 2, 2, NO_HISTORY))
    assert node.on(3, checkpoint(3, *point(*XY))).blames == [Blame(3, "makes two checkpoints at one number")]


def test_a_checkpoint_that_is_not_proven_is_not_believed() -> None:
    node = executed(*XY)
    few = stable(*XY, nodes=(3, 4))
    assert node.on(3, Stable(few)) == Turn(blames=[Blame(3, "sends a checkpoint that is not proven")])
    assert node.on(3, Stable(prepared(1, Y, view=2))).blames == [Blame(3, "sends a checkpoint that is not proven")]


def test_a_node_whose_state_a_quorum_contradicts_stops() -> None:
    """More than f lie, or its data is not what it was: nothing it says can be right."""
    node = executed(*XY)
    with pytest.raises(Diverged, match="node 2 executed 2 requests up to batch 2, and a quorum proved 2"):
        node.on(1, Stable(stable((Y,), (X,))))


def test_f_liars_cannot_make_a_node_think_that_it_diverged() -> None:
    node = executed(*XY)
    for _ in range(3):
        node.on(4, checkpoint(4, *point((Y,), (X,))), Stable(stable((Y,), (X,), nodes=(4,))))
    assert node.core.history.low == 0


# --- snapshots ---


def test_a_snapshot_is_of_the_state_at_its_checkpoint() -> None:
    """What is decided after it is executed in a later step, so that the shell sees the state as it was."""
    node = executed(*FOUR_BATCHES[:2])
    node.on(1, Stable(stable(*XY)))
    node.order(3, Z)
    node.order(5, X)
    turn = node.order(4, X, Y)
    assert turn.jobs == [Job((), "snapshot", TakeCommonSnapshot(5, 0, 0, piece_bytes=CONFIG.chunk_bytes))]
    assert node.core.history.executed == 4
    assert node.fire("execute").outputs == [Decided(6, [Entry(0, X, COMMAND)])]


def test_a_snapshot_counts_when_it_is_durable() -> None:
    node = executed(*FOUR_BATCHES)
    assert node.core.history.images == []
    turn = node.step(Done("snapshot", is_taken(image_at(*FOUR_BATCHES))))
    assert turn.records == written(Taken(image_at(*FOUR_BATCHES)))
    assert executed(*FOUR_BATCHES).step(Done("snapshot", Failed("full"))) == Turn()


# --- thesis §5.2: status ---


def test_every_beat_a_node_says_how_far_it_is() -> None:
    node = executed(*XY)
    turn = node.fire("beat", 1)
    assert turn.sends == [to(OTHERS, Status(0, False, 2, 0))]
    assert turn.timers[0].at == node.now + CONFIG.beat_s


def test_whoever_lacks_a_stable_checkpoint_is_sent_it() -> None:
    node = executed(*XY)
    node.on(1, Stable(stable(*XY)))
    assert node.on(3, Status(0, False, 0, 0)).sends == [to(3, Stable(stable(*XY)))]
    node.now += 1
    assert node.on(3, Status(0, False, 2, 2)) == Turn()


def test_whoever_lacks_votes_is_sent_them_again() -> None:
    """This node's own: its prepare, its commit, its checkpoint. Nothing that is a moment old: it may be on its way."""
    node = executed(*XY)
    assert node.on(4, Status(0, False, 1, 0)).sends == [to(4, checkpoint(2, *point(*XY)))]
    node.now += 1
    assert node.on(4, Status(0, False, 1, 0)).sends == [
        to(4, checkpoint(2, *point(*XY))),
        to(4, prepare(2, pre_prepare(2, Y))),
        to(4, commit(2, pre_prepare(2, Y), (4,))),
        to(4, decided(2, 2, digest_of((Y,)), (4,))),
    ]


def test_what_f_plus_1_nodes_executed_is_decided() -> None:
    """One of them is correct. A commit of a liar may have completed the quorum there, and never come here."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    assert node.on(4, decided(4, 1, digest_of((Y,)))) == Turn()
    assert node.on(4, decided(4, 1, digest_of((X,)))).blames, "it said something else before"
    assert node.on(1, decided(1, 1, digest_of((X,)))) == Turn()
    assert node.on(3, decided(4, 1, digest_of((X,)))).blames, "a word of node 4 that node 3 brings"
    assert node.on(3, decided(3, 1, digest_of((X,)))).outputs == [Decided(1, [Entry(0, X, COMMAND)])]


def test_the_primary_sends_its_proposal_again() -> None:
    node = Node(1)
    node.submit(X)
    node.now += 1
    assert node.on(4, Status(0, False, 0, 0)).sends == [to(4, pre_prepare(1, X))]


def test_whoever_is_in_an_earlier_view_is_sent_the_new_view() -> None:
    """Thesis §5.2. It carries its proof, so anybody may pass it on."""
    node = Node()
    node.enter(2, prepared(1, X), batches=[(X,)])
    turn = node.on(1, Status(0, False, 0, 0))
    assert turn.sends[0] == to(1, node.core.view.new_view)


def test_whoever_waits_for_a_view_is_sent_the_view_change() -> None:
    node = Node()
    node.change(2)
    turn = node.on(4, Status(2, True, 0, 0))
    assert turn.sends == [to(4, view_change(2, 2))]


# --- thesis §5.3: state transfer ---


def test_whoever_is_left_behind_asks_for_the_log() -> None:
    """Not at once: a beat without progress first, for the votes may still come."""
    node = behind(*XY)
    assert node.core.history.ahead == stable(*XY)
    asked = [send.message for send in node.fire("beat", 1).sends]
    assert asked == [Status(0, False, 0, 0), FetchLog(0)]


def test_the_log_is_digests_that_the_checkpoint_proves() -> None:
    node = executed(*XY)
    node.on(1, Stable(stable(*XY)))
    turn = node.on(3, FetchLog(1))
    assert turn.sends == [to(3, LogOf(1, (digest_of((Y,)),), stable(*XY)))]
    assert node.on(3, FetchLog(2)) == Turn()


def test_a_log_that_its_checkpoint_does_not_prove_is_not_believed() -> None:
    node = behind(*XY)
    digests = tuple(map(digest_of, XY))
    for wrong in (
        LogOf(0, digests[::-1], stable(*XY)),
        LogOf(0, digests[:1], stable(*XY)),
        LogOf(0, digests, stable(*XY, nodes=(3, 4))),
    ):
        assert node.on(3, wrong) == Turn(blames=[Blame(3, "sends a log that its checkpoint does not prove")])


def test_what_is_proven_is_fetched_and_executed_without_a_vote() -> None:
    """Thesis §5.3. The checkpoint that proved it is then this node's own."""
    node = behind(*XY)
    digests = tuple(map(digest_of, XY))
    turn = node.on(3, LogOf(0, digests, stable(*XY)))
    assert [send.message for send in turn.sends] == [FetchBatch(digest) for digest in digests]
    assert node.on(3, BatchOf((Y,))).outputs == ()
    turn = node.on(3, BatchOf((X,)))
    assert turn.outputs == [Decided(1, [Entry(0, X, COMMAND), Entry(0, Y, COMMAND)])]
    assert turn.records == written(Stored((X,)), Executed(stable(*XY), 1, digests))
    assert (node.core.history.low, node.core.history.ahead, node.core.log.proven) == (2, None, {})


def test_a_batch_is_found_by_its_digest() -> None:
    node = executed((X,))
    assert node.on(3, FetchBatch(digest_of((X,)))).sends == [to(3, BatchOf((X,)))]
    assert node.on(3, FetchBatch(digest_of((Z,)))) == Turn()


def test_whoever_is_further_behind_than_the_log_is_offered_snapshots() -> None:
    node = executed(*FOUR_BATCHES)
    node.step(Done("snapshot", is_taken(image_at(*FOUR_BATCHES))))
    node.core.history.base = 4
    node.on(1, Stable(stable(*FOUR_BATCHES)))
    assert node.on(3, FetchLog(0)).sends == [to(3, offer(2, image_at(*FOUR_BATCHES), peers=(3,)))]


def test_a_snapshot_is_believed_if_f_plus_1_name_it() -> None:
    """One of them is correct. One alone may have made it up."""
    node = behind(*FOUR_BATCHES)
    image = image_at(*FOUR_BATCHES)
    lie = msgspec.structs.replace(image, history=NO_HISTORY)
    assert node.on(4, offer(4, lie)) == Turn(sends=[to((1, 3), FetchLog(0))]), "what do the others have?"
    assert node.on(1, offer(1, image)) == Turn()
    assert node.on(3, offer(3, image)).sends == [to(3, FetchImage(5, 0))]


def fetching() -> Node:
    node = behind(*FOUR_BATCHES)
    for sender in (1, 3):
        node.on(sender, offer(sender, image_at(*FOUR_BATCHES)))
    return node


def test_a_snapshot_comes_in_pieces_each_asked_for_and_each_checked() -> None:
    """Thesis §5.3.2: each partition by its own digest, which the checkpoint's commits to."""
    node = fetching()
    image = image_at(*FOUR_BATCHES)
    turn = node.on(3, image_piece(image, FILE))
    assert turn.jobs == [Job((), "install", WriteChunk(5, 0, 0, FILE[:16], 24, b"d" * 32))]
    assert node.step(Done("install", Written(5, 0, 16, False))).sends == [to(3, FetchImage(5, 16))]
    turn = node.on(3, image_piece(image, FILE, 16))
    assert turn.jobs == [Job((), "install", WriteChunk(5, 0, 16, FILE[16:], 24, b"d" * 32))]
    turn = node.step(Done("install", Written(5, 0, 24, True)))
    assert turn.records[0] == written(Taken(image, fetched=True))[0]
    assert turn.outputs == [Restored(5, 0)]
    assert (node.core.history.executed, node.core.history.index, node.core.history.digest) == point(*FOUR_BATCHES)


def test_a_piece_that_was_not_asked_for_is_dropped() -> None:
    """It may be late, or come from a source that was left: that is no lie."""
    node = fetching()
    image = image_at(*FOUR_BATCHES)
    assert node.on(1, image_piece(image, FILE)) == Turn()
    assert node.on(3, image_piece(image, FILE, 16)) == Turn()
    assert node.on(3, image_piece(msgspec.structs.replace(image, index=6), FILE)) == Turn()


WRONG = {
    "empty": Chunk(5, 0, 0, b"", 24),
    "one byte": Chunk(5, 0, 0, FILE[:1], 24),
    "other bytes": Chunk(5, 0, 0, bytes(16), 24),
    "too many": Chunk(5, 0, 0, FILE[:17], 24),
    "of a larger file": Chunk(5, 0, 0, FILE[:16], 25),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_source_that_sends_anything_else_is_blamed_and_left_at_once(what: str) -> None:
    """Nothing of it is stored: whoever comes next begins where this one began."""
    node = fetching()
    right = image_piece(image_at(*FOUR_BATCHES), FILE)
    turn = node.on(3, msgspec.structs.replace(right, chunk=WRONG[what]))
    assert turn.blames == [Blame(3, "sends a piece that is not in the snapshot")]
    assert (turn.jobs, turn.sends) == ((), [to(1, FetchImage(5, 0))])


def test_a_piece_without_its_proof_is_no_piece() -> None:
    node = fetching()
    right = image_piece(image_at(*FOUR_BATCHES), FILE)
    assert node.on(3, msgspec.structs.replace(right, proof=())).blames != ()


def test_a_piece_is_read_for_whoever_asks_one_at_a_time() -> None:
    node = executed(*FOUR_BATCHES)
    image = image_at(*FOUR_BATCHES)
    node.step(Done("snapshot", is_taken(image)))
    turn = node.on(3, FetchImage(5, 16))
    assert turn.jobs == [Job((), ("serve", 3), ReadPiece(5, 16, CONFIG.chunk_bytes, image.root))]
    assert node.on(3, FetchImage(5, 16)) == Turn()
    turn = node.step(Done(("serve", 3), piece(image, FILE, 16)))
    assert turn.sends == [to(3, image_piece(image, FILE, 16))]


def test_who_has_a_snapshot_no_more_says_so() -> None:
    """Silence would cost the other its patience."""
    node = executed(*FOUR_BATCHES)
    image = image_at(*FOUR_BATCHES)
    node.step(Done("snapshot", is_taken(image)))
    assert node.on(3, FetchImage(4, 0)).sends == [to(3, offer(2, image, peers=(3,)))]
    node.on(3, FetchImage(5, 0))
    assert node.step(Done(("serve", 3), Failed("cannot be read"))).sends == [to(3, offer(2, peers=(3,)))]


def test_a_snapshot_leaves_no_request_waiting_that_it_may_hold() -> None:
    """Nobody can tell; a client that has no answer sends again. The timer is not to run for what was executed."""
    node = fetching()
    node.submit(X)
    node.on(3, image_piece(image_at(*FOUR_BATCHES), FILE))
    node.step(Done("install", Written(5, 0, 24, True)))
    assert node.core.waiting.pending == {}
    node.fire("request", CONFIG.request_timeout_s)
    assert not node.core.view.is_changing


def test_a_new_view_that_begins_ahead_leaves_a_node_behind() -> None:
    """§4.4: "it may need to obtain missing information from another replica, e.g. the checkpoint"."""
    node = Node()
    changes = {n: view_change(n, 2, stable=stable(*FOUR_BATCHES)) for n in OTHERS}
    node.on(3, new_view(changes))
    assert (node.core.view.number, node.core.view.is_changing, node.core.history.ahead) == (
        2,
        False,
        stable(*FOUR_BATCHES),
    )
