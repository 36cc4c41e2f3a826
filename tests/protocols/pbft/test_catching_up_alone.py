"""What is sent again and fetched, each part alone: batches, the order up to a checkpoint, snapshots, the beat."""

from typing import Any

import msgspec
from msgspec.structs import replace

from quorate.kernel import Blame, Failed, Received, Timer
from quorate.parts.log.configuration import FOUNDERS_ALONE
from quorate.parts.log.replicated import ReadPiece, Restored, SnapshotInfo, WriteChunk, Written
from quorate.protocols.pbft.fetching import ANSWER_BYTES, FETCHED_MAX, SERVED_BATCHES
from quorate.protocols.pbft.messages import (
    BatchOf,
    Checkpoint,
    Commit,
    Decided,
    FetchBatch,
    FetchImage,
    FetchLog,
    Forward,
    Image,
    LogOf,
    Prepare,
    Stable,
    Status,
    Stored,
    digest_of,
)
from quorate.protocols.pbft.retransmission import BEAT
from quorate.protocols.pbft.transfer import INSTALL, PATIENCE_BEATS, SERVE

from tests.protocols.effects import to, written
from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    Node,
    X,
    Y,
    commit,
    image_piece,
    in_pieces,
    new_view,
    offer,
    piece,
    pre_prepare,
    prepare,
    prepared,
    stable,
    view_change,
)

FILE = bytes(range(40))
IMAGE = in_pieces(Image(8, 20, b"h" * 32, 40, b"d" * 32, FOUR), FILE)


def messages(turn: Any) -> list[Any]:
    """What is sent, to whomever."""
    return [send.message for send in turn.sends]


# --- batches ---


def test_a_batch_is_asked_for_once_a_beat_and_taken_once() -> None:
    alone = Alone()
    digest = digest_of((X,))
    assert messages(alone.do(alone.fetching.fetch, [digest])) == [FetchBatch(digest)]
    assert messages(alone.do(alone.fetching.fetch, [digest])) == []
    alone.now += 2 * CONFIG.beat_s
    assert messages(alone.do(alone.fetching.fetch, [digest])) == [FetchBatch(digest)]
    assert alone.do(alone.fetching.on_batch_of, 3, BatchOf((X,))).records == written(Stored((X,)))
    assert alone.do(alone.fetching.on_batch_of, 3, BatchOf((Y,))).records == (), "nobody asked"
    assert messages(alone.do(alone.fetching.fetch, [digest])) == []


def test_few_batches_are_asked_for_at_a_time() -> None:
    alone = Alone()
    digests = [digest_of((b"%d" % number,)) for number in range(FETCHED_MAX + 3)]
    assert len(messages(alone.do(alone.fetching.fetch, digests))) == FETCHED_MAX
    alone.now += 2 * CONFIG.beat_s
    assert len(messages(alone.do(alone.fetching.fetch, digests[-3:]))) == 3


def test_whoever_has_a_batch_answers() -> None:
    alone = Alone()
    alone.log.batches[digest_of((X,))] = (X,)
    assert alone.do(alone.fetching.on_fetch_batch, 3, FetchBatch(digest_of((X,)))).sends == [to(3, BatchOf((X,)))]
    assert alone.do(alone.fetching.on_fetch_batch, 3, FetchBatch(digest_of((Y,)))).sends == ()


# --- the order up to a checkpoint ---


def test_a_node_that_is_behind_asks_and_is_told_the_order_with_its_proof() -> None:
    ahead, behind = Alone(3), Alone()
    ahead.execute((X,), (Y,))
    ahead.do(ahead.history.stabilize, stable((X,), (Y,)))
    behind.history.look_ahead(stable((X,)))
    (asked,) = messages(behind.do(behind.catch_up.beat))
    assert asked == FetchLog(0)
    (told,) = messages(ahead.do(ahead.catch_up.on_fetch_log, 2, asked))
    assert told == LogOf(0, (digest_of((X,)), digest_of((Y,))), stable((X,), (Y,)))
    turn = behind.do(behind.catch_up.on_log_of, 3, told)
    assert messages(turn) == [FetchBatch(digest_of((X,))), FetchBatch(digest_of((Y,)))]
    assert behind.log.proven == {1: digest_of((X,)), 2: digest_of((Y,))}
    assert behind.history.ahead == stable((X,), (Y,))


def test_an_order_that_its_checkpoint_does_not_prove_is_a_lie() -> None:
    alone = Alone()
    lie = LogOf(0, (digest_of((Y,)), digest_of((X,))), stable((X,), (Y,)))
    turn = alone.do(alone.catch_up.on_log_of, 3, lie)
    assert turn.blames == [Blame(3, "sends a log that its checkpoint does not prove")]
    assert alone.log.proven == {}


def test_the_checkpoint_that_was_reached_becomes_stable() -> None:
    alone = Alone()
    alone.history.look_ahead(proof := stable((X,), (Y,)))
    alone.log.proven = {1: digest_of((X,)), 2: digest_of((Y,))}
    alone.do(alone.catch_up.look)
    assert alone.history.low == 0
    alone.execute((X,), (Y,))
    alone.do(alone.catch_up.look)
    assert (alone.history.stable, alone.history.ahead, alone.log.proven) == (proof, None, {})


def test_a_node_that_got_further_asks_for_nothing() -> None:
    alone = Alone()
    alone.history.look_ahead(stable((X,), (Y,)))
    alone.execute((X,))
    assert messages(alone.do(alone.catch_up.beat)) == []
    assert messages(alone.do(alone.catch_up.beat)) == [FetchLog(1)]


# --- snapshots ---


def transferring() -> Alone:
    """Nodes 3 and 4 named a snapshot, and 4 is asked for it."""
    alone = Alone()
    assert alone.do(alone.transfer.on_offer, 3, offer(3, IMAGE)).sends == [to((1, 4), FetchLog(0))], "do others, too?"
    assert alone.do(alone.transfer.on_offer, 4, offer(4, IMAGE)).sends == [to(4, FetchImage(20, 0))]
    assert alone.transfer.fetched == (IMAGE, FOUNDERS_ALONE)
    return alone


def got(alone: Alone, sender: int, offset: int) -> Any:
    """The right piece comes, and is stored."""
    turn = alone.do(alone.transfer.on_image_piece, sender, image_piece(IMAGE, FILE, offset))
    assert [job.key for job in turn.jobs] == [INSTALL]
    following = min(40, offset + 16)
    return alone.do(alone.transfer.written, Written(20, 0, following, following == 40))


def beats(alone: Alone, count: int) -> Any:
    """So many beats without an answer; the last one's Turn."""
    for _ in range(count):
        turn = alone.do(alone.transfer.beat)
    return turn


def test_a_snapshot_that_f_plus_one_name_is_fetched_piece_by_piece() -> None:
    alone = transferring()
    assert alone.do(alone.transfer.on_image_piece, 3, image_piece(IMAGE, FILE)).jobs == (), "it was not asked"
    turn = alone.do(alone.transfer.on_image_piece, 4, image_piece(IMAGE, FILE))
    assert [(job.key, job.work) for job in turn.jobs] == [
        (INSTALL, WriteChunk(20, 0, 0, FILE[:16], 40, IMAGE.digest)),
    ]
    assert alone.do(alone.transfer.written, Written(20, 0, 16, False)).sends == [to(4, FetchImage(20, 16))]
    assert got(alone, 4, 16).sends == [to(4, FetchImage(20, 32))]
    assert got(alone, 4, 32).outputs == [Restored(20, 0)]
    assert (alone.history.executed, alone.transfer.fetched, alone.transfer.offers) == (8, None, {})


def test_a_snapshot_whose_pieces_nobody_can_prove_is_not_fetched() -> None:
    """An earlier release took it."""
    alone = Alone()
    old = msgspec.structs.replace(IMAGE, root=b"", piece_bytes=0)
    for node in (3, 4):
        alone.do(alone.transfer.on_offer, node, offer(node, old))
    assert alone.transfer.fetched is None


def test_a_source_that_is_silent_is_suspected_after_its_turn_and_left() -> None:
    alone = transferring()
    assert beats(alone, PATIENCE_BEATS - 1).sends == [to(4, FetchImage(20, 0))], "the question may be lost"
    turn = beats(alone, 1)
    why = "sends little or nothing of a snapshot that it offers"
    assert turn.blames == [Blame(4, why, is_suspicion=True)]
    assert turn.sends == [to(3, FetchImage(20, 0))]
    assert beats(alone, PATIENCE_BEATS).blames == [Blame(3, why, is_suspicion=True)]
    assert alone.transfer.fetched is None, "nobody else offers it"


def test_what_a_source_sent_before_it_lied_stays_good() -> None:
    alone = transferring()
    got(alone, 4, 0)
    lie = image_piece(IMAGE, bytes(40), 16)
    turn = alone.do(alone.transfer.on_image_piece, 4, lie)
    assert turn.blames == [Blame(4, "sends a piece that is not in the snapshot")]
    assert turn.sends == [to(3, FetchImage(20, 16))], "the next one goes on from there"
    assert (got(alone, 3, 16).sends, got(alone, 3, 32).outputs) == ([to(3, FetchImage(20, 32))], [Restored(20, 0)])


def test_who_lied_once_is_asked_for_nothing_more() -> None:
    alone = transferring()
    alone.do(alone.transfer.on_image_piece, 4, image_piece(IMAGE, bytes(40)))
    beats(alone, PATIENCE_BEATS)
    assert alone.transfer.fetched is None
    alone.do(alone.transfer.on_offer, 3, offer(3, IMAGE))
    assert alone.do(alone.transfer.on_offer, 4, offer(4, IMAGE)).sends == [to(3, FetchImage(20, 0))]


def test_a_slow_source_is_left_for_a_faster_one() -> None:
    """Each has a turn; then the one that did most in its last. No answer prolongs a turn."""
    alone = transferring()
    alone.do(alone.transfer.on_offer, 1, offer(1, IMAGE))
    transfer = alone.transfer
    asked = [transfer.source]
    for stored in (1, 9, 4, 2, 7):
        for _ in range(PATIENCE_BEATS):
            transfer._stored = stored
            alone.do(transfer.beat)
        asked.append(transfer.source)
    assert asked == [4, 1, 3, 1, 3, 3], "4 did 1, 1 did 9, 3 did 4, 1 did 2, 3 did 7"


NEWER = msgspec.structs.replace(IMAGE, sequence=16, index=30)


def alone_with_one_source() -> Alone:
    """Node 4 is left with what it offers; the others have a newer snapshot."""
    alone = transferring()
    for node in (1, 3):
        assert alone.do(alone.transfer.on_offer, node, offer(node, NEWER)).sends == ()
    return alone


def test_an_idle_source_with_which_nobody_can_be_compared_is_left_for_another_snapshot() -> None:
    alone = alone_with_one_source()
    got(alone, 4, 0)
    turn = beats(alone, PATIENCE_BEATS)
    assert turn.blames == [Blame(4, "sends little or nothing of a snapshot that it offers", is_suspicion=True)]
    assert turn.sends == [to(1, FetchImage(30, 0))]
    for _ in range(3):  # they all are so: it goes on with what it has
        alone.transfer._stored = 1
        turn = beats(alone, PATIENCE_BEATS)
        assert (alone.transfer.fetched, alone.transfer.source in (1, 3)) == ((NEWER, FOUNDERS_ALONE), True)


def test_where_all_are_idle_nothing_is_begun_again() -> None:
    """Theirs are the other snapshots too, and what is stored of this one would be lost."""
    alone = transferring()
    for node in (3, 4):
        alone.do(alone.transfer.on_offer, node, offer(node, IMAGE, NEWER))
    for _ in range(4):
        alone.transfer._stored = 1
        beats(alone, PATIENCE_BEATS)
        assert alone.transfer.fetched == (IMAGE, FOUNDERS_ALONE)


def test_a_source_that_is_not_idle_is_kept_though_others_have_a_newer_snapshot() -> None:
    """Or a transfer of some length would never end under load."""
    alone = alone_with_one_source()
    for stored in (1, 2, 3, 4, 5):
        alone.transfer._stored = stored
        alone.do(alone.transfer.beat)
    assert (alone.transfer.fetched, alone.transfer.source) == ((IMAGE, FOUNDERS_ALONE), 4)


def test_an_idle_source_is_kept_where_nobody_has_another_snapshot() -> None:
    alone = transferring()
    alone.do(alone.transfer.on_offer, 1, offer(1, NEWER))
    alone.do(alone.transfer.on_offer, 3, offer(3))
    got(alone, 4, 0)
    beats(alone, PATIENCE_BEATS)
    assert (alone.transfer.fetched, alone.transfer.source) == ((IMAGE, FOUNDERS_ALONE), 4)


def test_the_nodes_own_disk_is_no_ones_fault() -> None:
    alone = transferring()
    alone.do(alone.transfer.on_image_piece, 4, image_piece(IMAGE, FILE))
    turn = beats(alone, PATIENCE_BEATS)
    assert (turn.blames, turn.sends, alone.transfer.source) == ((), (), 4), "it is being stored"
    assert alone.do(alone.transfer.written, Failed("full")).sends == ()
    assert beats(alone, 1).sends == [to(4, FetchImage(20, 0))]


def test_a_source_that_has_the_snapshot_no_more_is_left_at_once() -> None:
    alone = transferring()
    newer = msgspec.structs.replace(IMAGE, sequence=16, index=30)
    turn = alone.do(alone.transfer.on_offer, 4, offer(4, newer))
    assert (turn.blames, turn.sends) == ((), [to(3, FetchImage(20, 0))])


def test_a_snapshot_that_is_not_needed_any_more_is_not_waited_for() -> None:
    alone = transferring()
    alone.history.executed = IMAGE.sequence
    beats(alone, 1)
    assert alone.transfer.fetched is None


def test_a_snapshot_within_the_water_marks_is_taken() -> None:
    """Who offers it has dropped the batches before it: an idle group makes no later one."""
    alone = Alone()
    image = msgspec.structs.replace(IMAGE, sequence=alone.history.high)
    alone.do(alone.transfer.on_offer, 3, offer(3, image))
    alone.do(alone.transfer.on_offer, 4, offer(4, image))
    assert alone.transfer.fetched == (image, FOUNDERS_ALONE)


def test_a_snapshot_is_served_a_piece_at_a_time() -> None:
    alone = Alone()
    alone.do(lambda: alone.history.record_image(IMAGE, FOUNDERS_ALONE, fetched=True))
    turn = alone.do(alone.transfer.on_fetch_image, 3, FetchImage(20, 0))
    assert [(job.key, job.work) for job in turn.jobs] == [
        ((SERVE, 3), ReadPiece(20, 0, CONFIG.chunk_bytes, IMAGE.root)),
    ]
    assert alone.do(alone.transfer.on_fetch_image, 3, FetchImage(20, 16)).jobs == ()
    assert alone.do(alone.transfer.read, 3, piece(IMAGE, FILE)).sends == [to(3, image_piece(IMAGE, FILE))]
    assert alone.transfer.serving == {}
    (sent,) = messages(alone.do(alone.transfer.on_fetch_image, 3, FetchImage(19, 0)))
    assert sent.images == (IMAGE,), "it has another"


def standing_still() -> Alone:
    """A node with a stable checkpoint, and a proposal behind it with which nothing happens."""
    alone = Alone()
    alone.execute((X,), (Y,))
    alone.do(alone.history.stabilize, stable((X,), (Y,)))
    alone.history.base = 1
    alone.do(alone.log.accept, 0, 3, digest_of((X,)), b"")
    stand(alone)
    return alone


def stand(alone: Alone) -> None:
    """For long."""
    for _ in range(PATIENCE_BEATS + 1):
        alone.do(alone.catch_up.beat)


def cannot_go_on(alone: Alone, node: int) -> Any:
    """It asks for a log that is not here: what that step does at its end."""
    assert alone.do(alone.catch_up.on_fetch_log, node, FetchLog(0)).jobs == (), "more may be executed in this step"
    return alone.do(alone.catch_up.look)


def test_where_the_order_stands_still_one_more_snapshot_is_taken_for_who_cannot_go_on() -> None:
    """Those that nodes have may differ, where some could not be taken; here they all stand."""
    alone = standing_still()
    (job,) = cannot_go_on(alone, 3).jobs
    assert (job.work.index, job.work.piece_bytes) == (2, CONFIG.chunk_bytes)
    assert cannot_go_on(alone, 4).jobs == (), "one at a time"
    alone.do(alone.images.taken, SnapshotInfo(2, 0, 10, b"d" * 32, b"r" * 32))
    turn = alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(0))
    assert [image.sequence for image in messages(turn)[0].images] == [2]
    assert alone.do(alone.catch_up.look).jobs == (), "and one of each state"


def test_no_snapshot_is_taken_for_a_node_while_the_order_goes_on_or_there_is_nothing_to_order() -> None:
    alone = standing_still()
    alone.execute((Y,))
    alone.do(alone.catch_up.beat)
    assert cannot_go_on(alone, 3).jobs == ()
    stand(alone)
    assert cannot_go_on(alone, 3).jobs == (), "all that was accepted is executed"


def test_such_a_snapshot_is_of_all_that_the_step_executes() -> None:
    """It was asked for first, and then commits came that the others had waited for."""
    node = Node()
    for sequence, batch in enumerate(((X,), (Y,)), 1):
        node.order(sequence, *batch)
    node.on(3, Stable(stable((X,), (Y,))))
    node.core.history.base = 1
    for proposed in (third := pre_prepare(3, X, Y), pre_prepare(4, Y, X)):
        node.on(1, proposed)
        node.on(3, prepare(3, proposed))
    node.on(1, commit(1, third))
    node.core.catch_up._still_beats = PATIENCE_BEATS
    turn = node.step(Received(4, FetchLog(0)), Received(3, commit(3, third)))
    (job,) = turn.jobs
    assert [(output.first_index, len(output.entries)) for output in turn.outputs] == [(3, 2)]
    assert job.work.index == 4


# --- what others fetch ---


def test_a_node_that_only_asks_is_sent_so_many_bytes_a_beat() -> None:
    alone = Alone(config=replace(CONFIG, batch_bytes_max=len(X) + ANSWER_BYTES))
    alone.do(alone.log.keep_batch, digest := digest_of((X,)), (X,))
    for _ in range(2):
        answers = [alone.do(alone.fetching.on_fetch_batch, 3, FetchBatch(digest)).sends for _ in range(20)]
        assert [bool(sends) for sends in answers] == [True] * SERVED_BATCHES + [False] * (20 - SERVED_BATCHES)
        assert messages(alone.do(alone.fetching.on_fetch_batch, 4, FetchBatch(digest))) == [BatchOf((X,))], "others may"
        alone.now += CONFIG.beat_s


def test_one_answer_is_given_however_large_it_is() -> None:
    alone = Alone(config=replace(CONFIG, batch_bytes_max=1))
    alone.do(alone.log.keep_batch, digest := digest_of((X, Y)), (X, Y))
    assert messages(alone.do(alone.fetching.on_fetch_batch, 3, FetchBatch(digest))) == [BatchOf((X, Y))]
    assert alone.do(alone.fetching.on_fetch_batch, 3, FetchBatch(digest)).sends == ()
    assert alone.do(alone.fetching.on_fetch_batch, 3, FetchBatch(bytes(32))).sends == (), "nor is one that is not here"


def test_digests_of_batches_come_out_of_the_same_allowance() -> None:
    alone = Alone(config=replace(CONFIG, batch_bytes_max=1))
    alone.execute((X,), (Y,))
    alone.do(alone.history.stabilize, proof := stable((X,), (Y,)))
    digests = (digest_of((X,)), digest_of((Y,)))
    assert messages(alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(0))) == [LogOf(0, digests, proof)]
    assert alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(0)).sends == ()


# --- the beat ---


def test_a_beat_says_how_far_the_node_is() -> None:
    alone = Alone()
    alone.execute((X,))
    turn = alone.do(alone.retransmission.beat)
    assert turn.sends == [to((1, 3, 4), Status(0, False, 1, 0))]
    assert turn.timers == [Timer((), BEAT, alone.now + CONFIG.beat_s)]
    alone.waiting.pending[b"digest"] = X
    alone.history.look_ahead(stable((X,), (Y,)))
    for _ in range(2):
        turn = alone.do(alone.retransmission.beat)
    assert messages(turn) == [Status(0, False, 1, 0), Forward((X,)), FetchLog(1)], "and goes after what it lacks"
    alone.view.stalled = "full"
    assert alone.do(alone.retransmission.beat).sends == ()


def test_whoever_is_behind_is_sent_what_it_lacks_once_a_beat() -> None:
    alone = Alone()
    alone.do(alone.view.enter, message := new_view({node: view_change(node, 1) for node in (1, 3, 4)}))
    alone.execute((X,), (Y,))
    alone.do(alone.checkpoints.make)
    alone.do(alone.checkpoints.on_stable, 3, Stable(proof := stable((X,), (Y,))))
    alone.execute((X,), (Y,))
    alone.do(alone.checkpoints.make)
    turn = alone.do(alone.retransmission.on_status, 4, Status(0, False, 0, 0))
    assert {send.to for send in turn.sends} == {(4,)}
    assert messages(turn)[:2] == [message, Stable(proof)]
    assert [type(sent) for sent in messages(turn)[2:]] == [Checkpoint, Decided, Decided]
    assert alone.do(alone.retransmission.on_status, 4, Status(0, False, 0, 0)).sends == (), "it was told just now"


def test_own_votes_are_sent_again_to_who_is_in_the_same_view() -> None:
    alone = Alone()
    proposed = pre_prepare(1, X)
    alone.do(alone.log.accept, 0, 1, proposed.digest, proposed.signature)
    alone.log.prepared[1] = prepared(1, X)
    assert alone.do(alone.retransmission.on_status, 4, Status(0, False, 0, 0)).sends == (), "they may be on their way"
    alone.now += 2 * CONFIG.beat_s
    turn = alone.do(alone.retransmission.on_status, 4, Status(0, False, 0, 0))
    assert [type(sent) for sent in messages(turn)] == [Prepare, Commit]


def test_who_waits_for_a_view_is_shown_it_or_what_this_node_wants() -> None:
    alone = Alone()
    alone.do(alone.view_changes.leave, 1)
    turn = alone.do(alone.retransmission.on_status, 4, Status(0, False, 0, 0))
    assert turn.sends == [to(4, view_change(2, 1))]
