"""What changes the view, what bounds the log and who votes, each part alone: view changes, new views, checkpoints,
snapshots, members."""

import msgspec
import pytest

from quorate.kernel import Blame, Meet, Part
from quorate.parts import requests
from quorate.parts.crypto.keys import Signer
from quorate.parts.log.configuration import Newcomer, encode_change
from quorate.parts.log.entries import COMMAND, CONFIGURATION
from quorate.parts.log.replicated import Leads, SnapshotInfo, TakeCommonSnapshot
from quorate.protocols.pbft.checkpoints import Diverged
from quorate.protocols.pbft.group import Group
from quorate.protocols.pbft.images import SNAPSHOT
from quorate.protocols.pbft.messages import (
    Changing,
    Checkpoint,
    Entered,
    Executed,
    FetchBatch,
    Image,
    NewView,
    Stable,
    Taken,
    ViewChange,
    digest_of,
)

from tests.protocols.effects import to, written
from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    X,
    Y,
    checkpoint,
    new_view,
    point,
    prepared,
    request,
    stable,
    view_change,
)

ADMIN = SCHEME.client(8)
ADMINISTERED = msgspec.structs.replace(CONFIG, admins=(ADMIN.public,))
OTHERS = (1, 3, 4)

# --- view changes ---


def wait(alone: Alone, value: bytes = X) -> None:
    """A request waits, for which a node may suspect its primary."""
    alone.waiting.pending[digest_of((value,))] = value


def test_who_suspects_the_primary_shows_what_prepared_above_its_checkpoint() -> None:
    alone = Alone()
    alone.do(alone.view_changes.suspect)
    assert alone.view.number == 0, "nothing waits"
    wait(alone)
    alone.log.prepared = {1: prepared(1, X), 3: prepared(3, X), 2: prepared(2, X)}
    alone.execute((X,))
    alone.do(alone.history.stabilize, stable((X,)))
    alone.log.slot(2)
    turn = alone.do(alone.view_changes.suspect)
    change = view_change(2, 1, prepared(2, X), prepared(3, X), stable=stable((X,)))
    assert turn.records == written(Changing(1))
    assert turn.sends == [to(OTHERS, change)]
    assert turn.outputs == [Leads(1, None)]
    assert (alone.log.slots, alone.view.changes) == ({}, {2: change})


@pytest.mark.parametrize("why", ["a full disk", "no member", "an earlier view"])
def test_a_view_is_not_left(why: str) -> None:
    alone = Alone()
    if why == "a full disk":
        alone.view.stalled = why
    elif why == "no member":
        alone.view.is_member = False
    turn = alone.do(alone.view_changes.leave, 0 if why == "an earlier view" else 1)
    assert (turn.records, turn.sends, alone.view.number) == ((), (), 0)


def test_f_plus_one_that_left_take_a_node_with_them() -> None:
    alone = Alone()
    alone.prove(alone.view_changes.on_view_change, 3, view_change(3, 5))
    assert alone.view.number == 0
    turn = alone.prove(alone.view_changes.on_view_change, 4, view_change(4, 2))
    assert (alone.view.number, alone.view.is_changing) == (2, True), "the smallest view that they name"
    assert [type(send.message) for send in turn.sends] == [ViewChange]


def test_a_view_change_that_proves_nothing_takes_no_place() -> None:
    alone = Alone()
    turn = alone.prove(alone.view_changes.on_view_change, 3, view_change(3, 1, prepared(1, X, nodes=(1, 3))))
    assert turn.blames == [Blame(3, "sends a view-change that lists orders that are not proven")]
    assert alone.view.changes == {}


def test_the_timer_for_the_new_view_starts_with_a_quorum() -> None:
    alone = Alone(4)
    for node in (1, 2):
        assert not alone.view.alarm.is_set
        alone.prove(alone.view_changes.on_view_change, node, view_change(node, 1))
    assert alone.view.alarm.is_set
    alone.do(alone.view_changes.is_late)
    assert (alone.view.number, alone.view.is_changing) == (2, True)


def test_who_asks_for_a_later_view_has_left_the_earlier_ones_too() -> None:
    """Its request for this one may have been lost. Else both would wait for each other, if one more node is dead."""
    alone = Alone(4)
    alone.do(alone.view_changes.leave, 1)
    alone.prove(alone.view_changes.on_view_change, 3, view_change(3, 1))
    assert not alone.view.alarm.is_set
    alone.prove(alone.view_changes.on_view_change, 2, view_change(2, 2))
    assert alone.view.alarm.is_set
    assert alone.view.number == 1
    alone.do(alone.view_changes.is_late)
    assert alone.view.number == 2


def test_a_view_is_made_of_view_changes_to_it_alone() -> None:
    alone = Alone()
    alone.do(alone.view_changes.leave, 1)
    alone.prove(alone.view_changes.on_view_change, 3, view_change(3, 1))
    alone.prove(alone.view_changes.on_view_change, 4, view_change(4, 5))
    assert (alone.view.number, alone.view.is_changing, alone.view.alarm.is_set) == (1, True, True)
    alone.prove(alone.view_changes.on_view_change, 1, view_change(1, 1))
    assert (alone.view.number, alone.view.is_changing) == (1, False)


def test_the_primary_of_the_view_makes_it_from_a_quorum() -> None:
    alone = Alone()
    changes = {node: view_change(node, 1, prepared(1, X)) for node in (3, 4)}
    for node, change in changes.items():
        turn = alone.prove(alone.view_changes.on_view_change, node, change)
    changes[2] = view_change(2, 1)
    message = new_view(changes, (X,))
    assert turn.sends[-1] == to(OTHERS, message)
    assert [record.value for record in turn.records][:2] == [Changing(1), Entered(message)]


# --- new views ---


def test_a_backup_enters_a_view_that_follows_from_its_view_changes() -> None:
    alone = Alone()
    message = new_view({node: view_change(node, 2, prepared(1, X)) for node in OTHERS}, (X,))
    turn = alone.prove(alone.new_views.on_new_view, 3, message)
    assert (alone.view.number, alone.view.is_changing, alone.log.next_sequence) == (2, False, 2)
    assert alone.log.accepted[1].digest == digest_of((X,))
    assert turn.outputs == [Leads(2, 3)]
    assert FetchBatch(digest_of((X,))) in [send.message for send in turn.sends]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (new_view({n: view_change(n, 2) for n in (1, 3)}), "has no quorum of view-changes"),
        (new_view({n: view_change(n, 2) for n in OTHERS}, (X,)), "proposes what does not follow"),
        (
            new_view({1: view_change(1, 2), 3: view_change(3, 2), 4: view_change(4, 3)}),
            "rests on view-changes to another",
        ),
    ],
    ids=["no quorum", "another proposal", "another view"],
)
def test_a_new_view_that_does_not_follow_is_blamed_on_its_primary(message: NewView, why: str) -> None:
    alone = Alone()
    turn = alone.prove(alone.new_views.on_new_view, 4, message)
    (blame,) = turn.blames
    assert (blame.node, why in blame.why) == (3, True)
    assert (alone.view.number, turn.records) == (0, ())


def test_the_first_view_of_an_epoch_is_announced_once() -> None:
    alone = Alone()
    assert alone.do(alone.new_views.begin_epoch).outputs == ()
    alone.view.begin_epoch(Group((1, 2, 3), alone.view.keys, 1, 4, FOUR))
    first = 1 << 32
    assert alone.do(alone.new_views.begin_epoch).outputs == [Leads(first, alone.view.group.primary(first))]
    assert alone.do(alone.new_views.begin_epoch).outputs == ()


# --- checkpoints ---


def test_a_node_signs_how_far_it_is_and_a_quorum_makes_it_stable() -> None:
    alone = Alone()
    alone.execute((X,), (Y,))
    here = point((X,), (Y,))
    assert alone.do(alone.checkpoints.make).sends == [to(OTHERS, checkpoint(2, *here))]
    alone.log.accept(0, 2, digest_of((Y,)), b"")
    alone.do(alone.checkpoints.on_checkpoint, 3, checkpoint(3, *here))
    assert alone.history.low == 0
    turn = alone.do(alone.checkpoints.on_checkpoint, 4, checkpoint(4, *here))
    proof = stable((X,), (Y,), nodes=(2, 3, 4))
    assert turn.records == written(Executed(proof, 1, (digest_of((X,)), digest_of((Y,)))))
    assert (alone.history.low, alone.log.accepted, alone.checkpoints.points) == (2, {}, {})


def test_two_checkpoints_of_one_node_at_one_number_are_a_lie() -> None:
    alone = Alone()
    alone.do(alone.checkpoints.on_checkpoint, 3, checkpoint(3, *point((X,), (Y,))))
    turn = alone.do(alone.checkpoints.on_checkpoint, 3, checkpoint(3, *point((Y,), (X,))))
    assert turn.blames == [Blame(3, "makes two checkpoints at one number")]


def test_a_proof_of_another_state_stops_the_node() -> None:
    alone = Alone()
    alone.execute((X,), (Y,))
    alone.do(alone.checkpoints.make)
    with pytest.raises(Diverged, match="node 2 executed 2 requests up to batch 2"):
        alone.do(alone.checkpoints.on_stable, 3, Stable(stable((Y,), (X,))))


def test_a_checkpoint_that_is_not_reached_is_kept_as_what_is_ahead() -> None:
    alone = Alone()
    turn = alone.do(alone.checkpoints.on_stable, 3, Stable(stable((X,), (Y,))))
    assert (turn.records, alone.history.ahead, alone.history.low) == ((), stable((X,), (Y,)), 0)


def test_own_checkpoints_are_sent_again_to_who_lacks_them() -> None:
    alone = Alone()
    alone.execute((X,), (Y,))
    alone.do(alone.checkpoints.make)
    (send,) = alone.do(alone.checkpoints.resend, 4, 0).sends
    assert (send.to, type(send.message)) == ((4,), Checkpoint)
    assert alone.do(alone.checkpoints.resend, 4, 2).sends == ()


# --- snapshots ---


def test_snapshots_are_due_by_the_order_alone() -> None:
    alone = Alone()
    due = []
    for number in range(1, 9):
        alone.execute((request(f"{number}"),))
        due.append(alone.images.is_due(1))
    assert due == [number % CONFIG.snapshot_batches == 0 for number in range(1, 9)]
    large = Alone()
    large.execute((X,), (Y,))
    assert large.images.is_due(CONFIG.snapshot_bytes)
    switch = Alone()
    switch.history.change_members((1, 2, 3), 2)
    switch.execute((X,), (Y,))
    assert switch.images.is_due(1), "who is behind learns from it who votes"


def test_a_snapshot_that_is_durable_is_recorded_and_one_that_failed_is_not() -> None:
    alone = Alone()
    alone.execute((X,), (Y,))
    turn = alone.do(alone.images.take)
    assert [(job.key, job.work) for job in turn.jobs] == [
        (SNAPSHOT, TakeCommonSnapshot(2, 0, 0, piece_bytes=CONFIG.chunk_bytes))
    ]
    assert alone.do(alone.images.take).jobs == (), "one at a time"
    turn = alone.do(alone.images.taken, SnapshotInfo(2, 0, 10, b"d" * 32, b"r" * 32))
    image = Image(*point((X,), (Y,)), 10, b"d" * 32, FOUR, root=b"r" * 32, piece_bytes=CONFIG.chunk_bytes)
    assert (turn.records, alone.history.images) == (written(Taken(image)), [image])
    alone.execute((X,), (Y,))
    alone.do(alone.images.take)
    assert alone.do(alone.images.taken, SnapshotInfo(2, 0, 10, b"d" * 32)).records == (), "of another state"


# --- members ---


def change(*members: int, key: Signer = ADMIN, epoch: int = 0) -> bytes:
    """A signed change of members."""
    return requests.sign(key, [encode_change(members, epoch)])


def test_a_change_counts_from_a_checkpoint_that_is_a_window_later() -> None:
    alone = Alone(config=ADMINISTERED)
    alone.execute((X,))
    assert alone.members.kind_of(change(1, 2, 3)) == CONFIGURATION
    assert (alone.history.next_members, alone.history.switch_at) == ((1, 2, 3), 6)
    alone.execute((X,), (Y,))
    assert alone.members.kind_of(change(1, 2, 3, 4)) == CONFIGURATION
    assert (alone.history.next_members, alone.history.switch_at) == (FOUR, 6), "the last one holds"


@pytest.mark.parametrize(
    "value", [X, change(1, 2, 3, key=SCHEME.client(9)), change(1, 2, 3, epoch=1)], ids=["command", "nobody's", "early"]
)
def test_what_changes_nothing_is_a_command(value: bytes) -> None:
    alone = Alone(config=ADMINISTERED)
    assert alone.members.kind_of(value) == COMMAND
    assert alone.history.switch_at == 0


def test_an_epoch_begins_when_its_checkpoint_is_stable() -> None:
    alone = Alone()
    alone.history.change_members((1, 2, 3), 2)
    alone.log.slot(1)
    alone.execute((X,), (Y,))
    alone.members.switch_if_stable()
    assert alone.view.group.epoch == 0
    alone.do(alone.history.stabilize, stable((X,), (Y,)))
    alone.members.switch_if_stable()
    group = alone.view.group
    assert (group.epoch, group.members, group.began_at, group.past_members) == (1, (1, 2, 3), 2, FOUR)
    assert (alone.view.number, alone.log.slots, alone.log.next_sequence) == (1 << 32, {}, 3)
    assert alone.history.switches == {2: stable((X,), (Y,))}


def test_whoever_joins_is_met_and_whoever_left_is_parted_from_once_it_does_not_vote() -> None:
    alone = Alone(config=ADMINISTERED)
    key = SCHEME.signer(9).public
    value = requests.sign(ADMIN, [encode_change((1, 2, 3), 0, [Newcomer(9, "n9:1", key)], [4])])
    assert alone.do(alone.members.kind_of, value).roster == [Meet("n9:1", key, 9)]
    assert alone.view.keys.keyring.public(9) == key
    turn = alone.do(alone.members.begin_epoch, Group((1, 2, 3), alone.view.keys, 1, 4, FOUR))
    assert turn.roster == [Part(4, "it has left the cluster")]


def test_the_members_of_a_snapshot_are_taken_over() -> None:
    alone = Alone()
    image = Image(8, 8, bytes(32), 9, bytes(32), (1, 2, 3), 2, FOUR, 12, 6, (1, 2, 3, 4))
    alone.members.take_over(image, alone.history.nodes)
    assert (alone.view.group.epoch, alone.view.group.members, alone.view.number) == (2, (1, 2, 3), 2 << 32)
    assert (alone.history.next_members, alone.history.switch_at) == (FOUR, 12)
