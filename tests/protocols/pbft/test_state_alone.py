"""What the parts share, each alone: the view, the log of messages, the history; and that no part holds the core."""

import gc
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import Any

import pytest

from quorate.kernel import Blame, Core, Env
from quorate.parts.log.configuration import FOUNDERS_ALONE
from quorate.parts.log.replicated import Leads
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.group import Group
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import (
    NULL,
    Accepted,
    Changing,
    Entered,
    Executed,
    Image,
    Prepared,
    Stored,
    Taken,
    digest_of,
)
from quorate.protocols.pbft.mutants import MUTANTS
from quorate.protocols.pbft.view import STEADY, CurrentView

from tests.protocols.effects import to, written
from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    Node,
    X,
    Y,
    Z,
    new_view,
    point,
    prepared,
    signed,
    stable,
    view_change,
)

# --- no part holds the core ---


def holds(part: Any, core: Pbft) -> bool:
    """Whether the core can be reached from a part; not through its Env, which leads to the Host, and not by classes."""
    seen: set[int] = set()
    ahead = [part]
    while ahead:
        one = ahead.pop()
        if one is core:
            return True
        if id(one) not in seen and not isinstance(one, Env | type | FunctionType | ModuleType):
            seen.add(id(one))
            ahead += gc.get_referents(one)
    return False


def test_no_part_holds_the_core() -> None:
    core = Node().core
    parts = {name: part for name, part in vars(core).items() if name != "env"}
    assert len(parts) >= 18
    assert [name for name, part in parts.items() if holds(part, core)] == []
    core.normal.planted = [core.on_commit]
    assert holds(core.retransmission, core), "through the normal case, and a method that is bound to the core"


def test_the_core_and_its_mutants_are_no_tower() -> None:
    for cls in (Pbft, *(mutant.core for mutant in MUTANTS if mutant.core)):
        assert len([base for base in cls.__mro__ if issubclass(base, Core)]) <= 3, "Core, and two below it"


# --- the others ---


def test_a_node_sends_to_the_others_and_blames_them_alone() -> None:
    alone = Alone()
    assert alone.do(alone.others.send, "word").sends == [to((1, 3, 4), "word")]
    assert alone.others.any_one() in (1, 3, 4)
    assert alone.do(alone.others.blame, 3, "lies").blames == [Blame(3, "lies")]
    assert alone.do(alone.others.blame, 2, "lies").blames == ()
    assert Alone(peers=(2,)).others.any_one() == 2


# --- the view ---


def test_a_view_that_is_left_is_recorded_and_told_above() -> None:
    alone = Alone()
    view = alone.view
    assert (view.primary, view.leader, view.is_primary, view.is_member) == (1, 1, False, True)
    turn = alone.do(view.leave, 1)
    assert (turn.records, turn.outputs) == (written(Changing(1)), [Leads(1, None)])
    assert (view.number, view.is_changing, view.primary, view.leader, view.is_primary) == (1, True, 2, None, False)


def test_a_view_that_is_entered_is_recorded_and_ends_the_view_changes_to_it() -> None:
    alone = Alone()
    view, changes = alone.view, {node: view_change(node, 1) for node in (1, 3, 4)}
    view.changes = {**changes, 4: view_change(4, 2)}
    message = new_view(changes, (X,))
    turn = alone.do(view.enter, message)
    assert turn.records == written(Entered(message))
    assert (view.number, view.is_changing, view.new_view, view.reach) == (1, False, message, 1)
    assert list(view.changes) == [4]


def test_views_get_longer_until_one_works() -> None:
    alone = Alone()
    waits = []
    for number in range(1, 9):
        alone.do(alone.view.leave, number)
        waits.append(alone.view.timeout_s)
    first, longest = CONFIG.request_timeout_s, CONFIG.view_timeout_s_max
    assert waits == [min(first * 2**times, longest) for times in range(1, 9)]
    alone.do(alone.view.enter, new_view({node: view_change(node, 8) for node in (1, 3, 4)}))
    alone.view.note_executed()
    alone.do(alone.view.leave, 9)
    assert alone.view.timeout_s == longest, "what it took over from the last view"
    alone.do(alone.view.enter, new_view({node: view_change(node, 9) for node in (1, 3, 4)}))
    alone.now += STEADY * longest
    alone.do(alone.view.note_executed)
    alone.do(alone.view.leave, 10)
    assert alone.view.timeout_s == first


def test_an_epoch_begins_with_its_first_view_unless_a_later_one_was_recorded() -> None:
    for before, after in ((7, 1 << 32), ((1 << 32) + 3, (1 << 32) + 3)):
        view = Alone().view
        view.restore(Changing(before))
        view.begin_epoch(Group((1, 2, 3), view.keys, 1, 4, FOUR))
        assert (view.number, view.is_changing) == (after, before == after)
        assert view.has_new_members


def test_a_view_is_as_its_records_say() -> None:
    message = new_view({node: view_change(node, 1) for node in (1, 3, 4)}, (X,))
    alone = Alone()
    for record in (Changing(1), Entered(message), Changing(2)):
        alone.view.restore(record)
    assert list(alone.view.records()) == [Entered(message), Changing(2)]
    again = CurrentView(alone.env, CONFIG, Group(FOUR, SCHEME.keys(2)))
    for record in alone.view.records():
        again.restore(record)
    again.take_up()
    assert (again.number, again.is_changing, again.new_view, again.reach) == (2, True, message, 1)


# --- the log ---


def test_a_vote_is_recorded_with_its_batch_which_is_recorded_once() -> None:
    alone = Alone()
    log, digest = alone.log, digest_of((X,))
    assert alone.do(log.keep_batch, digest, (X,)).records == written(Stored((X,)))
    assert alone.do(log.keep_batch, digest, (X,)).records == ()
    assert alone.do(log.accept, 0, 1, digest, b"proposal").records == written(Accepted(0, 1, digest, b"proposal"))
    assert (log.slots[1].digest, log.slots[1].sent_at) == (digest, alone.now)
    assert [log.numbered(after) for after in (0, 1)] == [{sha256(X).digest()}, set()]
    proof = prepared(1, X)
    assert alone.do(log.prepare, log.slots[1], proof).records == written(Prepared(proof))
    assert log.prepared == {1: proof}
    records = [*log.batch_records(), *log.vote_records()]
    assert records == [Stored(()), Stored((X,)), log.accepted[1], Prepared(proof)]
    again = MessageLog(alone.env, alone.config)
    for record in records:
        again.restore(record)
    assert (again.batches, again.accepted, again.prepared) == (log.batches, log.accepted, log.prepared)


def test_a_certificate_that_proves_no_order_is_not_restored() -> None:
    with pytest.raises(ValueError, match="proves no order"):
        Alone().log.restore(Prepared(signed("any", b"thing", (1, 2, 3))))


def test_what_a_checkpoint_proves_is_decided_like_what_a_quorum_committed() -> None:
    alone = Alone()
    log, quorum = alone.log, alone.view.group.quorum
    assert log.decided(1) is None
    for node in (1, 3, 4):
        assert log.decided(1) is None
        log.commits_at(1, quorum).add(node, 0, b"x")
    log.proven = {2: b"y", 3: b"z"}
    assert (log.decided(1), log.decided(2)) == (b"x", b"y")
    log.drop_proven(2)
    assert (log.decided(2), log.decided(3)) == (None, b"z")


def test_below_a_checkpoint_no_order_is_kept_and_batches_as_long_as_a_view_may_need_them() -> None:
    alone = Alone()
    log = alone.log
    for sequence, batch in enumerate([(X,), (Y,), (Z,)], 1):
        log.keep_batch(digest_of(batch), batch)
        log.accept(0, sequence, digest_of(batch), b"")
        log.commits_at(sequence, alone.view.group.quorum)
    log.accept(1, 3, NULL, b"")
    log.drop_ordered(2)
    assert [list(table) for table in (log.accepted, log.slots, log.commits)] == [[3], [3], [3]]
    log.drop_batches(2, [digest_of((Y,))])
    assert list(log.batches) == [NULL, digest_of((Y,)), digest_of((Z,))], "Z may have prepared in view 0 elsewhere"
    log.drop_batches(3, [])
    assert list(log.batches) == [NULL]


# --- the history ---


def test_a_stable_checkpoint_is_recorded_with_the_order_since_the_last() -> None:
    alone = Alone()
    history = alone.history
    alone.execute((X,), (Y,))
    assert history.point == point((X,), (Y,))
    proof = stable((X,), (Y,))
    turn = alone.do(history.stabilize, proof)
    assert turn.records == written(Executed(proof, 1, (digest_of((X,)), digest_of((Y,)))))
    assert (history.low, history.high) == (2, 2 + CONFIG.window)
    alone.execute((Z,), ())
    turn = alone.do(history.stabilize, later := stable((X,), (Y,), (Z,), ()))
    assert turn.records == written(Executed(later, 3, (digest_of((Z,)), NULL)))
    assert list(history.order_records()) == [Executed(later, 1, tuple(history.digests.values()))]


def test_of_two_snapshots_the_batches_after_the_older_are_kept() -> None:
    alone = Alone()
    history = alone.history
    images = []
    for batch in ((X,), (Y,), (Z,)):
        alone.execute(batch)
        images.append(Image(*history.point, 9, bytes(32), FOUR))
        turn = alone.do(lambda: history.record_image(images[-1], FOUNDERS_ALONE, fetched=False))
        assert turn.records == written(Taken(images[-1]))
    assert (history.images, history.base, list(history.digests)) == (images[1:], 2, [3])
    again = History(alone.env, CONFIG.window)
    for record in history.image_records():
        again.restore(record)
    assert (again.images, again.base) == (images[1:], 2)


def test_a_fetched_snapshot_stands_for_all_before_it() -> None:
    alone = Alone()
    alone.execute((X,))
    image = Image(4, 4, bytes(32), 9, bytes(32), FOUR)
    alone.history.stand_on(image)
    turn = alone.do(lambda: alone.history.record_image(image, FOUNDERS_ALONE, fetched=True))
    assert turn.records == written(Taken(image, True))
    history = alone.history
    assert (history.images, history.base, history.recorded, history.digests) == ([image], 4, 4, {})


def test_new_members_bound_the_high_water_mark() -> None:
    history = Alone().history
    history.change_members((1, 2, 3), 2)
    assert (history.high, history.is_switching) == (2, False)
    history.advance(NULL, 0)
    history.advance(NULL, 0)
    assert history.is_switching
    history.change_members((), 0)
    assert (history.high, history.is_switching) == (CONFIG.window, False)


def test_the_furthest_checkpoint_is_ahead_until_it_is_reached() -> None:
    history = Alone().history
    near, far = stable((X,)), stable((X,), (Y,))
    for proof in (near, far, near):
        history.look_ahead(proof)
    history.advance(digest_of((X,)), 1)
    assert (history.reached(), history.ahead) == (None, far)
    history.advance(digest_of((Y,)), 1)
    assert (history.reached(), history.ahead) == (far, None)


def test_a_journal_whose_batches_are_not_those_of_its_checkpoint_is_refused() -> None:
    alone = Alone()
    alone.history.restore(Executed(stable((X,)), 1, (digest_of((Y,)),)))
    alone.execute((Y,))
    with pytest.raises(ValueError, match="batches are not those of its checkpoint at 1"):
        alone.history.recovered()
