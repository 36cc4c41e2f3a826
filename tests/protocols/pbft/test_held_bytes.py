"""What a node of PBFT holds in memory has a bound in bytes, whoever sends it, and the order goes on within it."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Done, Failed, Fired, Received, Turn
from quorate.parts.log.replicated import Busy, TakeSnapshot
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.message_log import UNDECIDED_SHARE, MessageLog
from quorate.protocols.pbft.messages import BatchOf, FetchBatch, Forward, PrePrepare, Stored
from quorate.protocols.pbft.retransmission import BEAT

from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    Node,
    PbftCluster,
    X,
    digest_of,
    pre_prepare,
    request,
)

LOG_BYTES = 64 << 10
LIMITED = replace(
    CONFIG,
    checkpoint_batches=8,
    window=16,
    snapshot_batches=1024,
    snapshot_bytes=1 << 30,  # none is due by the order
    batch_count_max=64,
    batch_bytes_max=2048,
    log_bytes_max=LOG_BYTES,
    pending_bytes_max=16 << 10,
    chunk_bytes=4096,
    request_timeout_s=1.0,
    beat_s=0.1,
)
LARGEST = 2048
MANY = [request(f"{number:04}" + "x" * 600, client=number % 5) for number in range(1000)]
"""Ten times what the log may have."""


class Counting(MessageLog):
    """Planted: a budget that counts things."""

    size = staticmethod(lambda batch: 1)


class OfAll(MessageLog):
    """Planted: what nobody has decided has no bound of its own."""

    def has_room(self, size_bytes: int) -> bool:
        return self.size_bytes + size_bytes <= self._bytes_max


class NeverFull(MessageLog):
    """Planted: batches are taken in while the snapshot is written that is to let them go."""

    is_full = property(lambda self: False)  # type: ignore[assignment]

    def has_room(self, size_bytes: int) -> bool:
        return self._undecided_bytes + size_bytes <= self._bytes_max // UNDECIDED_SHARE


def made(kind: type[MessageLog]) -> Any:
    return type("Made", (Pbft,), {"log_class": kind})


def held_bytes(core: Pbft) -> int:
    """Of requests, counted here and not as the node does."""
    waiting = [slot.waiting for slot in core.log.slots.values() if slot.waiting is not None]
    early = [m for _, m in early_of(core) if isinstance(m, PrePrepare)]
    batches = [*core.log.batches.values(), *(m.batch for m in (*waiting, *early))]
    return sum(len(value) for batch in batches for value in batch) + sum(map(len, core.waiting.pending.values()))


def early_of(core: Pbft) -> list[Any]:
    return [(sender, m) for sender, kept in core.normal.early._kept.items() for m in kept]


class Group(PbftCluster):
    """Four nodes under a load that never ends; snapshots take as long as ``are_slow`` says."""

    def __init__(self, kind: type[MessageLog] = MessageLog, config: PbftConfig = LIMITED) -> None:
        self.are_slow = False
        self.most = 0
        self.refused = 0
        super().__init__(config=config, make=made(kind), delay_s=(0.001, 0.003))
        self.watch = self.look

    def look(self, node: int, turn: Turn) -> None:
        self.most = max(self.most, held_bytes(self[node].core))
        self.refused += sum(len(output.values) for output in turn.outputs if isinstance(output, Busy))

    def work(self, node: int) -> None:
        member = self[node]
        while ready := [job for job in member.jobs if not (self.are_slow and isinstance(job[0].work, TakeSnapshot))]:
            member.jobs.remove(ready[0])
            self.watch(node, member.step(member.do(*ready[0]), now=self.now))

    def load(self, seconds: float, values: list[bytes]) -> None:
        """Clients bring a few every 20 ms, to all nodes, those first that have waited longest."""
        end = self.now + seconds
        while self.now < end:
            done = set().union(*(self[node].applied for node in self.peers))
            values[:] = [value for value in values if value not in done]
            for node in self.peers:
                self.submit(node, *values[:16])
            self.run(0.02)

    def executed(self) -> list[int]:
        return [self[node].core.history.index for node in self.peers]


BOUND = LOG_BYTES + LIMITED.batch_bytes_max + LIMITED.pending_bytes_max + LOG_BYTES // 5


def test_ten_times_the_budget_is_ordered_within_it() -> None:
    group, values = Group(), list(MANY)
    for _ in range(60):
        group.load(0.5, values)
        if not values:
            break
    assert group.run(5.0, lambda: group.executed() == [len(MANY)] * 4)
    assert LOG_BYTES // 2 < group.most <= BOUND
    assert [group[node].core.view.number for node in group.peers] == [0] * 4, "nobody was suspected"


def test_a_budget_that_counts_things_is_seen() -> None:
    group, values = Group(Counting), list(MANY)
    group.load(5.0, values)
    assert group.most > BOUND


def test_while_the_snapshot_is_written_nothing_is_ordered_and_nobody_suspected() -> None:
    group, values = Group(), list(MANY)
    group.are_slow = True
    group.load(5.0, values)
    before = group.executed()
    group.load(5 * LIMITED.request_timeout_s, values)
    assert group.executed() == before, "all logs are full"
    assert group.most <= BOUND
    assert [group[node].core.view.number for node in group.peers] == [0] * 4
    flood = [request(f"{number}" + "y" * 600, client=6) for number in range(40)]
    group.submit(1, *flood)
    assert group.refused > 0, "clients were told to come again"
    group.are_slow = False
    for node in group.peers:
        group.work(node)
    for _ in range(60):
        group.load(0.5, values)
    assert not values


def test_a_log_that_is_never_full_is_seen() -> None:
    group, values = Group(NeverFull), list(MANY)
    group.are_slow = True
    group.load(15.0, values)
    assert group.most > BOUND


def test_a_node_whose_snapshot_is_slow_alone_comes_after() -> None:
    """The others go on; it takes what it missed when it has room, or fetches a snapshot of theirs."""
    group, values = Group(), list(MANY)
    group[3].jobs = held = Held()
    for _ in range(60):
        group.load(0.5, values)
    assert not values
    assert held.kept, "its snapshot was wanted"
    group[3].jobs = held.kept
    group.work(3)
    assert group.run(20.0, lambda: group.executed() == [len(MANY)] * 4)
    assert group.most <= BOUND


class Held(list[Any]):
    """Jobs of a node whose snapshots hang."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def append(self, job: Any) -> None:
        (self.kept if isinstance(job[0].work, TakeSnapshot) else super()).append(job)


# --- liars ---


def largest(number: int) -> bytes:
    """As large as a batch may be."""
    return request(f"{number:04}".ljust(LARGEST - 200, "z"), client=7)


def flooded(kind: type[MessageLog] = MessageLog, views: int = 1) -> Node:
    """A backup to which the primary of each view has proposed whole windows that nobody else hears of."""
    node = Node(config=LIMITED, make=made(kind))
    for at in range(views):
        view = 4 * at
        if view:
            node.change(view)
            node.enter(view)
        for sequence in range(1, LIMITED.window + 1):
            node.on(1, pre_prepare(sequence, *[largest(100 * view + sequence)] * 1, view=view))
    return node


def undecided_bytes(node: Node) -> int:
    return sum(len(value) for batch in node.core.log.batches.values() for value in batch)


def test_a_primary_that_lies_fills_a_quarter_of_the_log() -> None:
    config = replace(LIMITED, checkpoint_batches=32, window=64)
    node = Node(config=config)
    for sequence in range(1, 65):
        node.on(1, pre_prepare(sequence, largest(sequence)))
    assert LOG_BYTES // 5 < undecided_bytes(node) <= LOG_BYTES // UNDECIDED_SHARE
    refused = node.core.log.accepted_to + 1
    turn = node.on(1, pre_prepare(refused, largest(refused)))
    assert not turn.sends
    assert not turn.blames, "an honest one may have more room"
    assert node.on(1, pre_prepare(refused)).sends, "a null batch takes none"


@pytest.mark.parametrize("kind", [MessageLog, OfAll])
def test_lies_of_several_views_add_up_to_no_more(kind: type[MessageLog]) -> None:
    node = flooded(kind, views=4)
    is_bounded = undecided_bytes(node) <= LOG_BYTES // UNDECIDED_SHARE
    assert is_bounded is (kind is MessageLog)


def test_batches_under_check_count() -> None:
    """Their requests are unknown here, and the checks of their signatures have not come back."""
    node = Node(config=replace(LIMITED, checkpoint_batches=32, window=64))
    for sequence in range(1, 65):
        node.host.step([Received(1, pre_prepare(sequence, largest(sequence)))], node.now)
    waiting = [slot.waiting for slot in node.core.log.slots.values() if slot.waiting is not None]
    assert 0 < sum(len(value) for m in waiting for value in m.batch) <= LOG_BYTES // UNDECIDED_SHARE


def test_what_is_passed_on_has_the_room_of_what_waits() -> None:
    node = Node(config=LIMITED)
    for number in range(100):
        node.on(3, Forward((largest(number),)))
    assert 0 < sum(map(len, node.core.waiting.pending.values())) <= LIMITED.pending_bytes_max


def test_early_messages_have_a_share() -> None:
    node = Node(config=LIMITED)
    for sender in (1, 3, 4):
        for sequence in range(1, LIMITED.window + 1):
            node.on(sender, pre_prepare(sequence, largest(sequence), view=1, primary=2))
    assert 0 < held_bytes(node.core) <= LOG_BYTES // 5


# --- one node ---


def test_a_node_without_room_asks_for_the_next_batch_alone() -> None:
    alone = Alone(config=LIMITED)
    batches = [(largest(number),) for number in range(20)]
    missing = [digest_of(batch) for batch in batches]
    for batch in batches[:8]:
        alone.log.keep_batch(digest_of(batch), batch)
    turn = alone.do(alone.fetching.fetch, missing[8:])
    assert [send.message for send in turn.sends] == [FetchBatch(missing[8])]
    turn = alone.do(alone.fetching.on_batch_of, 3, BatchOf(batches[8]))
    assert [record.value for record in turn.records] == [Stored(batches[8])]
    alone.log.is_making_room = True
    for batch in batches[9:]:
        alone.log.keep_batch(digest_of(batch), batch)
    alone.log.size_bytes = LOG_BYTES
    assert not alone.do(alone.fetching.fetch, [digest_of((X,))]).sends, "it is full until the snapshot is written"


def test_a_snapshot_that_finds_the_log_full_stands_alone() -> None:
    """The batches before it go at once; a restart goes on from it."""
    group, values = Group(), list(MANY)
    group.are_slow = True
    group.load(5.0, values)
    core = group[2].core
    assert core.log.is_full
    group.are_slow = False
    group.work(2)
    assert core.images.is_alone
    assert [image.sequence for image in core.history.images] == [core.history.base]
    assert not core.log.is_making_room
    assert core.log.size_bytes < LOG_BYTES // 2
    group.crash(2)
    group.restart(2)
    assert group[2].core.history.executed >= core.history.base
    for node in group.peers:
        group.work(node)
    while values:
        group.load(0.5, values)
    assert group.run(20.0, lambda: group.executed() == [len(MANY)] * 4)


def test_nodes_that_have_no_snapshot_in_common_take_one_where_they_stand() -> None:
    """Each has one alone, at another number, and no client asks for anything; a node that was away comes after."""
    group = Group()
    group.cut((4,), (1, 2, 3))
    for node in (1, 2, 3):
        group.load(0.5, MANY[15 * node : 15 * node + 15])
        core = group[node].core
        core.log._bytes_max, bytes_max = 0, core.log._bytes_max
        core.images.take()
        group.step(node, Fired(BEAT))
        core.log._bytes_max = bytes_max
        assert core.images.is_alone
    assert len({group[node].core.history.images[-1].sequence for node in (1, 2, 3)}) == 3
    group.heal()
    assert group.run(20.0, lambda: group.executed() == [45] * 4)


def test_what_was_executed_before_a_snapshot_is_executed_after_a_restart() -> None:
    """It is kept for others, and takes none of the room of what nobody has decided."""
    group, values = Group(config=replace(LIMITED, snapshot_bytes=8192)), list(MANY)
    group.load(1.0, values)
    group.crash(2)
    group.restart(2)
    core = group[2].core
    kept = set(core.history.digests.values())
    assert any(sequence < core.history.images[-1].sequence for sequence in core.history.digests)
    assert not kept & core.log._undecided.keys()
    assert core.log.size_bytes > 0


def test_a_primary_whose_snapshots_fail_is_left_and_holds_no_more() -> None:
    """It does not go on with null batches for ever."""
    group, values = Group(), list(MANY)
    done = group[1].do
    group[1].do = lambda job, state: (  # type: ignore[method-assign]
        Done(job.key, Failed("no"), job.path) if isinstance(job.work, TakeSnapshot) else done(job, state)
    )
    for _ in range(120):
        group.load(0.5, values)
        if not values:
            break
    assert group.run(10.0, lambda: len(group[2].applied) == len(group[3].applied) == len(group[4].applied))
    assert {len(group[node].applied) for node in (2, 3, 4)} == {len(MANY)}
    assert group[2].core.view.number > 0
    assert group.most <= BOUND
    assert group[2].core.history.executed < 100 * LIMITED.window


def test_options_must_leave_room_for_some_batches() -> None:
    with pytest.raises(ValueError, match="log_bytes_max is 2048: it must have room for 32 batches"):
        replace(LIMITED, log_bytes_max=2048)
    within = PbftConfig().within(64 << 20)
    assert (within.log_bytes_max, within.pending_bytes_max) == (40 << 20, 16 << 20)
    assert within.snapshot_bytes == 8 << 20
    assert PbftConfig().within(512 << 20).snapshot_bytes == PbftConfig().snapshot_bytes, "with the default budget"
    assert replace(PbftConfig(), batch_bytes_max=8 << 20).within(64 << 20).log_bytes_max == 256 << 20
