"""Catching up across a change of members: proofs count if those gave them who vote there.

The founders are 1 to 4; then 1, 2, 3, 5 vote, then 1, 2, 3, 6. So three of the founders make a quorum in every epoch,
and what they sign for a later one a newcomer could mistake for a proof in its own. Node 1 lies by sending true messages
too early.
"""

from typing import Any

import msgspec
import pytest

from quorate.kernel import Received
from quorate.parts import requests
from quorate.parts.log.configuration import FOUNDERS_ALONE, encode_change
from quorate.protocols.pbft.group import Group, point_of
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    BatchOf,
    Executed,
    FetchLog,
    Image,
    LogOf,
    Stable,
    Taken,
    ViewChange,
    checkpoint_statement,
)

from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    PbftCluster,
    X,
    Y,
    Z,
    checkpoint,
    request,
    signed,
    stable,
)

ADMIN = SCHEME.client(8)
CHANGING = msgspec.structs.replace(
    CONFIG, members=(1, 2, 3, 4), admins=(ADMIN.public,), snapshot_batches=64, request_timeout_s=1.0, beat_s=0.1
)
LIAR, NEWCOMER = 1, 6


def change(*members: int, epoch: int) -> bytes:
    """A signed change."""
    return requests.sign(ADMIN, [encode_change(members, epoch)])


class Late:
    """A group in its third epoch, and a node of it that has not seen anything yet."""

    def __init__(self) -> None:
        self.group = group = PbftCluster(6, config=CHANGING)
        group[NEWCOMER].up = False
        self.digests: dict[int, bytes] = {}
        self.batches: dict[bytes, tuple[bytes, ...]] = {}
        group.watch = self.remember
        for value in (change(1, 2, 3, 5, epoch=0), X, change(1, 2, 3, 6, epoch=1), *map(request, "abcdefgh")):
            group.submit(LIAR, value)
            assert group.run(3.0, until=lambda value=value: self.is_executed(value))  # type: ignore[misc]
            group.run(0.5)
        group.restart(NEWCOMER)
        assert (self.core.view.group.epoch, group[LIAR].core.view.group.epoch) == (0, 2)

    def is_executed(self, value: bytes) -> bool:
        """Whether the founders that stay have executed it."""
        return all(value in batch_of(self.group[node].core) for node in (1, 2, 3))

    def remember(self, node: int, turn: Any) -> None:
        if node == LIAR:
            core = self.group[node].core
            self.digests.update(core.history.digests)
            self.batches.update(core.log.batches)

    @property
    def core(self) -> Any:
        """The newcomer's."""
        return self.group[NEWCOMER].core

    def tell(self, message: Any) -> None:
        """The liar sends the newcomer a message, and every batch that it wants."""
        self.group.step(NEWCOMER, Received(LIAR, message))
        for _ in range(4):
            self.group.step(NEWCOMER, *[Received(LIAR, BatchOf(batch)) for batch in self.batches.values()])
            if "execute" in self.group[NEWCOMER].timers:
                self.group.fire(NEWCOMER, "execute")

    def catches_up(self) -> None:
        """Whatever the liar said, the others bring the newcomer along; and it is needed: 2, 3 and 6 decide alone."""
        group = self.group
        group[LIAR].up = False
        assert group.run(20.0, until=lambda: self.core.view.group.epoch == 2)
        group.submit(2, Y, Z)
        group.submit(3, Y, Z)
        assert group.run(60.0, until=lambda: all(Z in group[node].applied for node in (2, 3, NEWCOMER)))


def batch_of(core: Any) -> set[bytes]:
    """All that a node has executed and kept."""
    return {value for digest in core.history.digests.values() for value in core.log.batches[digest]}


def test_a_log_beyond_the_next_change_of_members_leads_up_to_it() -> None:
    late = Late()
    proof = late.group[LIAR].core.history.stable
    last = point_of(proof)[0]
    late.tell(LogOf(0, tuple(late.digests[sequence] for sequence in range(1, last + 1)), proof))
    history = late.core.history
    assert 0 < history.switch_at < last
    assert history.executed == history.switch_at, "it executes what the founders settled, and not a batch more"
    assert (late.core.view.group.epoch, history.ahead, late.core.log.proven) == (0, None, {})
    late.catches_up()


def test_a_checkpoint_of_a_later_epoch_is_no_proof_of_the_change() -> None:
    late = Late()
    late.tell(Stable(late.group[LIAR].core.history.stable))
    late.catches_up()
    assert all(sequence == point_of(proof)[0] for sequence, proof in late.core.history.switches.items())


@pytest.mark.parametrize("first", ["log", "checkpoint"])
def test_a_checkpoint_of_a_later_epoch_that_comes_while_others_are_to_vote_is_not_taken(first: str) -> None:
    late = Late()
    history = late.group[LIAR].core.history
    proof, switch = history.stable, min(history.switches)
    late.tell(LogOf(0, tuple(late.digests[sequence] for sequence in range(1, switch + 1)), history.switches[switch]))
    assert late.core.view.group.epoch == 1
    late.core.history.change_members((1, 2, 3, 6), late.core.history.executed)  # as if the second were under way
    after, last = late.core.history.executed, point_of(proof)[0]
    digests = tuple(late.digests[sequence] for sequence in range(after + 1, last + 1))
    late.tell(Stable(proof) if first == "checkpoint" else LogOf(after, digests, proof))
    assert (late.core.history.ahead, late.core.history.executed) == (None, after)


# --- a node that goes on from a snapshot of a later epoch ---


def from_a_snapshot_of_a_later_epoch() -> Alone:
    """Node 2 voted with 1, 2, 3, 5 up to checkpoint 2; it goes on from a snapshot at 8, where 1 to 4 vote since 6."""
    alone = Alone()
    alone.view.group = Group((1, 2, 3, 5), SCHEME.keys(2))
    alone.execute((X,), (Y,))
    alone.history.recorded = 2
    alone.do(alone.history.stabilize, stable((X,), (Y,), nodes=(1, 3, 5)))
    image = Image(8, 20, b"h" * 32, 32, b"d" * 32, FOUR, 1, (), 0, 6, (1, 2, 3, 5))
    alone.do(alone.execution.install, image, FOUNDERS_ALONE)
    return alone


def test_it_neither_votes_nor_changes_views_before_it_can_prove_a_checkpoint() -> None:
    alone = from_a_snapshot_of_a_later_epoch()
    history, view = alone.history, alone.view
    assert (history.low, history.began_at, history.high, history.is_founded) == (2, 6, 2, False)
    assert alone.do(alone.view_changes.leave, view.number + 1).sends == ()
    assert alone.do(alone.view_changes.ask_late).sends == ()
    first = signed(CHECKPOINT, checkpoint_statement(6, 12, b"g" * 32), (1, 3, 5))
    assert alone.do(alone.checkpoints.on_stable, 3, Stable(first)).blames == ()
    assert (history.low, history.high, history.is_founded) == (6, 6 + CONFIG.window, True)
    assert [type(send.message) for send in alone.do(alone.view_changes.ask_late).sends] == [ViewChange]
    assert alone.do(alone.view_changes.ask_late).sends == (), "once"


def test_a_checkpoint_of_earlier_members_that_comes_late_is_no_lie_and_no_proof() -> None:
    alone = from_a_snapshot_of_a_later_epoch()
    earlier = signed(CHECKPOINT, checkpoint_statement(4, 8, b"f" * 32), (1, 3, 5))
    turn = alone.do(alone.checkpoints.on_stable, 3, Stable(earlier))
    assert (turn.blames, turn.records, alone.history.low) == ((), (), 2)


def test_votes_for_a_checkpoint_do_not_count_across_epochs() -> None:
    """What earlier members said is not counted with what the present ones say."""
    alone = Alone()
    point_at_4 = (4, 8, b"f" * 32)
    for node in (3, 4):
        alone.do(alone.checkpoints.on_checkpoint, node, checkpoint(node, *point_at_4))
    assert alone.checkpoints.collectors[4]
    alone.do(alone.members.begin_epoch, Group((1, 2, 3, 5), SCHEME.keys(2), 1, 0, FOUR))
    alone.do(alone.checkpoints.on_checkpoint, 1, checkpoint(1, *point_at_4))
    (collector,) = alone.checkpoints.collectors[4].values()
    assert collector.nodes() == (1,)


# --- which proofs a node gives ---


def test_a_node_that_lacks_the_proof_of_a_change_offers_snapshots_in_place_of_the_log() -> None:
    alone = Alone()
    history = alone.history
    alone.execute(*((request(str(number)),) for number in range(4)))
    history.began_at = 2
    history.recorded = 4
    history._set_stable(proof := signed(CHECKPOINT, checkpoint_statement(4, *history.point[1:]), (1, 3, 4)))
    assert (history.proof_for(0, 0), history.proof_for(0, 1)) == (None, None)
    assert history.proof_for(2, 2) == proof, "it knows who votes"
    assert alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(1)).sends == (), "there is no snapshot"
    image = Image(4, 4, history.digest, 32, b"d" * 32, FOUR, 1, (), 0, 2, FOUR)
    history.images = [image]
    history.nodes_at[4] = FOUNDERS_ALONE
    (send,) = alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(1)).sends
    assert send.message.images == (image,)
    (send,) = alone.do(alone.catch_up.on_fetch_log, 3, FetchLog(2)).sends
    assert send.message.certificate == proof


def test_a_node_that_restarts_remembers_the_proof_of_the_change_before_its_snapshot() -> None:
    alone = Alone()
    history = alone.history
    first = signed(CHECKPOINT, checkpoint_statement(2, 2, b"2" * 32), FOUR)
    history.restore(Executed(first, 1, (b"1" * 32, b"2" * 32)))
    history.restore(Taken(Image(4, 4, b"4" * 32, 32, b"d" * 32, FOUR, 1, (), 0, 2, FOUR)))
    history.restore(
        Executed(signed(CHECKPOINT, checkpoint_statement(4, 4, b"4" * 32), FOUR), 3, (b"3" * 32, b"4" * 32))
    )
    history.began_at = 2
    history.take_up_image()
    assert history.proof_for(0, 0) == first
