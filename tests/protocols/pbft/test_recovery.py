"""What a restart gives back, in every state that a crash can meet; and that a compacted journal says the same."""

from typing import Any

import pytest

from quorate.kernel import Turn
from quorate.kernel.inputs import Done
from quorate.parts.log.replicated import Decided, Leads, Restored, SnapshotInfo, Written
from quorate.protocols.pbft.messages import (
    Accepted,
    BatchOf,
    Checkpoint,
    Executed,
    FetchBatch,
    Image,
    LogOf,
    NewView,
    Prepare,
    Prepared,
    Stable,
    Status,
    Stored,
    digest_of,
)

from tests.protocols.effects import to, written
from tests.protocols.pbft.pbft_nodes import (
    FOUR,
    Node,
    PbftCluster,
    X,
    Y,
    Z,
    checkpoint,
    commit,
    image_piece,
    in_pieces,
    new_view,
    offer,
    point,
    pre_prepare,
    prepare,
    prepared,
    request,
    stable,
    view_change,
)

DURABLE = {
    "view": ("number", "is_changing", "new_view"),
    "log": ("accepted", "prepared"),
    "history": ("stable", "images", "base"),
}
XS = [(X,), (Y,), (Z,), (X, Y)]


class Life(Node):
    """A Node that keeps what it wrote."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.wrote: list[Any] = list(options.get("records", ()))
        super().__init__(*args, **options)
        self.wrote += [record.value for record in self.started.records]

    def step(self, *inputs: Any) -> Turn:
        turn = super().step(*inputs)
        self.wrote += [record.value for record in turn.records]
        return turn

    def again(self) -> "Life":
        """The next life, from all records; that of a compacted journal has the same durable state."""
        whole, compact = Life(self.host.node, records=self.wrote), Node(self.host.node, records=self.records)
        assert durable(whole) == durable(compact)
        assert effects(whole.started) == effects(compact.started)
        return whole


def durable(node: Node) -> list[Any]:
    """What must be the same. Of batches and of the order, what the stable checkpoint and votes need."""
    core = node.core
    needed = {vote.digest for vote in core.log.accepted.values()} | set(core.history.digests.values())
    kept = {digest: core.log.batches.get(digest) for digest in sorted(needed)}
    log = {sequence: digest for sequence, digest in core.history.digests.items() if sequence <= core.history.low}
    return [
        *(getattr(getattr(core, part), name) for part, names in DURABLE.items() for name in names),
        kept,
        log,
        core.history.executed,
        core.history.index,
        core.history.digest,
    ]


def effects(turn: Turn) -> Any:
    return turn.records, turn.sends, turn.outputs


def accepted() -> Life:
    node = Life()
    node.on(1, pre_prepare(1, X))
    return node


def prepared_one() -> Life:
    node = accepted()
    node.on(3, prepare(3, pre_prepare(1, X)))
    return node


def changing() -> Life:
    node = prepared_one()
    node.change(2)
    return node


def entered() -> Life:
    node = changing()
    node.enter(2, prepared(1, X), batches=[(X,)])
    return node


def at_checkpoint() -> Life:
    node = Life()
    for sequence, batch in enumerate(XS[:2], 1):
        node.order(sequence, *batch)
    node.on(1, Stable(stable(*XS[:2])))
    return node


def with_snapshot() -> Life:
    """At 4, where a snapshot was taken; the checkpoint there is not stable."""
    node = at_checkpoint()
    for sequence, batch in enumerate(XS[2:], 3):
        node.order(sequence, *batch)
        node.fire("execute")
    node.step(Done("snapshot", SnapshotInfo(point(*XS)[1], 0, 40, b"s" * 32)))
    assert [image.sequence for image in node.core.history.images] == [4]
    return node


def with_two_snapshots() -> Life:
    """At 4, where a second snapshot was taken; the checkpoint there is not stable. The first is at 2."""
    node = at_checkpoint()
    node.core.images.take()
    node.step(Done("snapshot", SnapshotInfo(point(*XS[:2])[1], 0, 40, b"r" * 32)))
    for sequence, batch in enumerate(XS[2:], 3):
        node.order(sequence, *batch)
        node.fire("execute")
    node.step(Done("snapshot", SnapshotInfo(point(*XS)[1], 0, 40, b"s" * 32)))
    assert [image.sequence for image in node.core.history.images] == [2, 4]
    return node


def fetched() -> Life:
    """From 0 to a snapshot at 4, by the word of two, and then up to the checkpoint there."""
    node = Life()
    sequence, index, history = point(*XS)
    image = in_pieces(Image(sequence, index, history, 4, b"d" * 32, FOUR), b"data")
    node.on(1, Stable(stable(*XS)))
    node.on(1, offer(1, image))
    node.on(3, offer(3, image))
    node.on(3, image_piece(image, b"data"))
    node.step(Done("install", Written(index, 0, 4, True)))
    assert (node.core.history.executed, node.core.history.low) == (4, 4)
    return node


STATES = [accepted, prepared_one, changing, entered, at_checkpoint, with_snapshot, with_two_snapshots, fetched]


@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__)
def test_all_records_and_a_compacted_journal_give_the_same_state(make: Any) -> None:
    node = make()
    again = node.again()
    for part in ("view", "log"):
        for name in DURABLE[part]:
            assert getattr(getattr(again.core, part), name) == getattr(getattr(node.core, part), name), name
    assert again.core.history.stable == node.core.history.stable
    assert (again.core.history.executed, again.core.history.low) == (
        max(again.core.history.low, _image(node)),
        node.core.history.low,
    )
    assert durable(again.again()) == durable(again), "and once more"


def _image(node: Node) -> int:
    return max((image.sequence for image in node.core.history.images), default=0)


def test_after_a_vote_the_next_life_votes_for_nothing_else() -> None:
    """It was recorded; another proposal for the number shows that the primary told two stories."""
    node = accepted().again()
    turn = node.on(1, pre_prepare(1, Y))
    assert [blame.why for blame in turn.blames] == ["proposes two batches at one number"]
    assert not any(isinstance(send.message, Prepare) for send in turn.sends)


def test_after_a_vote_the_next_life_repeats_it_to_those_who_lack_it() -> None:
    node = accepted().again()
    node.now += 1
    turn = node.on(3, Status(0, False, 0, 0))
    assert turn.sends == [to(3, prepare(2, pre_prepare(1, X)))]
    assert node.on(3, prepare(3, pre_prepare(1, X))).records == written(Prepared(prepared(1, X)))


def test_what_prepared_is_committed_again_on_demand() -> None:
    node = prepared_one().again()
    node.now += 1
    turn = node.on(3, Status(0, False, 0, 0))
    assert turn.sends == [to(3, prepare(2, pre_prepare(1, X))), to(3, commit(2, pre_prepare(1, X), (3,)))]
    node.on(3, commit(3, pre_prepare(1, X)))
    turn = node.on(4, commit(4, pre_prepare(1, X)))
    assert [type(output) for output in turn.outputs] == [Decided], "its own commit counts, from the record"


def test_who_was_changing_views_asks_again() -> None:
    node = changing().again()
    assert (node.core.view.number, node.core.view.is_changing) == (2, True)
    assert to((1, 3, 4), view_change(2, 2, prepared(1, X))) in node.started.sends
    assert node.started.outputs == [Leads(2, None)]
    assert node.on(1, pre_prepare(2, Y)).sends == (), "it left view 0"


def test_who_was_in_a_view_goes_on_in_it() -> None:
    node = entered().again()
    assert node.started.outputs == [Leads(2, 3)]
    turn = node.on(1, prepare(1, pre_prepare(1, X, view=2)))
    assert [type(record.value) for record in turn.records] == [Prepared]


def test_who_was_at_a_checkpoint_executes_up_to_it_again() -> None:
    node = at_checkpoint().again()
    sequence, index, history = point(*XS[:2])
    assert (node.core.history.executed, node.core.history.index, node.core.history.digest) == (sequence, index, history)
    assert [type(output) for output in node.started.outputs] == [Decided, Leads]


def test_a_snapshot_newer_than_the_checkpoint_is_where_it_begins() -> None:
    node = with_snapshot().again()
    assert node.started.outputs == [Restored(point(*XS)[1], 0), Leads(0, 1)]
    assert (node.core.history.executed, node.core.history.low) == (4, 2)


def test_the_snapshot_before_a_newer_one_is_still_offered() -> None:
    """The order between them is not in the journal, but it may be the only one that others have, too."""
    node = with_two_snapshots()
    for _ in range(2):
        node = node.again()
        assert [image.sequence for image in node.core.history.images] == [4]
        assert [image.sequence for image in node.core.transfer.offer(3).images] == [2, 4]
        assert node.core.history.kept_after == 4


def test_the_checkpoint_at_a_newer_snapshot_is_said_again() -> None:
    """Else, after a crash of all, with the window used up, none could become stable and no batch get a number."""
    node = with_snapshot().again()
    turn = node.on(3, Status(0, False, 4, 2))
    assert to(3, checkpoint(2, *point(*XS))) in turn.sends


def test_whoever_fetched_a_snapshot_says_its_checkpoint() -> None:
    """The others may wait for that: with one silent liar they are no quorum without this node."""
    node = Life()
    sequence, index, history = point(*XS)
    image = in_pieces(Image(sequence, index, history, 4, b"d" * 32, FOUR), b"data")
    node.on(1, Stable(stable(*XS[:2])))
    node.on(1, offer(1, image))
    node.on(3, offer(3, image))
    node.on(3, image_piece(image, b"data"))
    turn = node.step(Done("install", Written(index, 0, 4, True)))
    assert to((1, 3, 4), checkpoint(2, sequence, index, history)) in turn.sends
    node.on(1, checkpoint(1, sequence, index, history))
    node.on(3, checkpoint(3, sequence, index, history))
    assert node.core.history.low == 4


def test_a_journal_that_lacks_a_batch_is_an_error() -> None:
    records = [Executed(stable(*XS[:2]), 1, tuple(digest_of(batch) for batch in XS[:2])), Stored((X,))]
    with pytest.raises(ValueError, match="the journal lacks batch 2, below its checkpoint at 2"):
        Node(records=records)


def test_a_journal_of_other_batches_than_its_checkpoint_proves_is_an_error() -> None:
    digests = tuple(digest_of(batch) for batch in ((Y,), (X,)))
    with pytest.raises(ValueError, match="the journal's batches are not those of its checkpoint at 2"):
        Node(records=[Stored((X,)), Stored((Y,)), Executed(stable(*XS[:2]), 1, digests)])


# --- a primary whose view reaches further than its window ---


def far_view(first: int = 3) -> NewView:
    """View 1, of node 2: from the checkpoint at 2, with batches up to 6. Node 2 is at 0, and its window ends at 4."""
    proofs = [prepared(sequence, Z, nodes=(1, 3, 4)) for sequence in range(first, 7)]
    changes = {node: view_change(node, 1, *proofs, stable=stable(*XS[:2])) for node in (1, 3, 4)}
    return new_view(changes, *[(Z,)] * (7 - first), first=first)


def test_a_restarted_primary_gives_no_number_twice() -> None:
    """It proposed up to 6 in its new view, of which its window held 3 and 4. The next free number is 7, in any life."""
    node = Life()
    for sender, change in far_view().changes:
        node.on(sender, change)
    assert (node.core.view.number, node.core.view.is_primary, node.core.history.high) == (1, True, 4)
    assert sorted(node.core.log.accepted) == [3, 4, 5, 6]
    assert node.core.log.next_sequence == 7
    assert node.again().core.log.next_sequence == 7


def test_what_a_new_view_proposes_is_accepted_once_a_node_has_a_checkpoint_of_its_members() -> None:
    """A primary that goes on from a snapshot would else never vote for it, and with one silent liar nobody could."""
    node = Life()
    node.core.history.began_at = 2
    for sender, change in far_view().changes:
        node.on(sender, change)
    node.on(3, LogOf(0, tuple(map(digest_of, XS[:2])), stable(*XS[:2])))
    turn = node.on(3, *map(BatchOf, XS[:2]))
    assert (node.core.history.executed, node.core.history.low) == (2, 2)
    assert [r.value.sequence for r in turn.records if isinstance(r.value, Accepted)] == [3, 4, 5, 6]


def test_a_batch_that_was_accepted_is_there_while_a_later_view_may_need_it() -> None:
    """A liar may hold the proof that it prepared. Were it gone, it could be decided, and nobody could execute it."""
    node = Life()
    node.on(1, pre_prepare(3, Z))
    node.change(2, prepared(4, X))
    node.enter(2, prepared(4, X), batches=[(), (), (), (X,)])
    assert node.core.log.accepted[3].digest == digest_of(())
    for sequence in (1, 2):
        for sender in (1, 3, 4):
            node.on(sender, commit(sender, pre_prepare(sequence, view=2)))
    node.on(1, Stable(stable((), ())))
    assert node.core.history.low == 2
    for life in (node, node.again()):
        turn = life.on(4, FetchBatch(digest_of((Z,))))
        assert [type(send.message).__name__ for send in turn.sends] == ["BatchOf"]


def test_a_batch_of_an_old_view_goes_with_the_checkpoint_that_passes_it() -> None:
    node = Life()
    node.on(1, pre_prepare(1, Z))
    node.enter(2, prepared(2, X), batches=[(), (X,)])
    for sequence, batch in enumerate([(), (X,)], 1):
        for sender in (1, 3, 4):
            node.on(sender, commit(sender, pre_prepare(sequence, *batch, view=2)))
    node.on(3, BatchOf((X,)))
    assert node.core.history.executed == 2
    assert digest_of((Z,)) in node.core.log.batches
    node.on(1, Stable(stable((), (X,))))
    assert digest_of((Z,)) not in node.core.log.batches


# --- groups ---


def test_a_group_that_crashed_at_the_end_of_its_window_goes_on() -> None:
    """Executed to the high water mark, a snapshot there, and no checkpoint stable yet, when the power goes."""
    cluster = PbftCluster()
    cluster.loses = lambda flight: isinstance(flight.message, Checkpoint | Stable)
    for sequence in range(4):
        cluster.submit(1, request(f"r{sequence}"))
        cluster.run(1.0)
    assert {member.core.history.executed for member in cluster.members.values()} == {4}
    assert {member.core.history.low for member in cluster.members.values()} == {0}
    for node in cluster.peers:
        cluster.crash(node)
    cluster.loses = lambda flight: False
    for node in cluster.peers:
        cluster.restart(node)
    cluster.submit(1, request("r9"))
    assert cluster.run(5.0, lambda: all(len(m.applied) == 5 for m in cluster.members.values()))


def test_a_new_view_whose_checkpoint_ends_its_epoch_leaves_nothing_of_it() -> None:
    """The checkpoint that comes with it is where other members begin: the next number is theirs."""
    node = Life()
    for sequence, batch in enumerate(XS, 1):
        node.order(sequence, *batch)
        node.fire("execute")
    node.core.history.next_members, node.core.history.switch_at = FOUR, 4
    changes = {other: view_change(other, 2, stable=stable(*XS)) for other in (1, 3, 4)}
    node.on(3, new_view(changes))
    assert (node.core.view.group.epoch, node.core.view.number, node.core.view.is_changing) == (1, 1 << 32, False)
    assert node.core.log.next_sequence == 5
