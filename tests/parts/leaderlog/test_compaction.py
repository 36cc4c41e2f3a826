"""Compaction: what of a log is kept in memory is bounded in bytes, whatever the size of an entry."""

import msgspec
import pytest

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.compaction import HELD_MAX, HELD_S, SNAPSHOT, Compactor
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers, Transfer
from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES, Entry, Log, size_of
from quorate.parts.log.replicated import SnapshotInfo, TakeSnapshot

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import NOTHING, effects

CONFIG = LeaderConfig(log_bytes_max=10_000, keep_bytes=3000)
TAKE = effects(jobs=[(SNAPSHOT, TakeSnapshot(6, 1))])


class Node:
    """A log and its compactor; all that is appended is delivered at once."""

    def __init__(self, env: Env, config: LeaderConfig = CONFIG) -> None:
        self.log = Log()
        self.compactor = Compactor(env, config)

    def append(self, count: int, size_bytes: int) -> None:
        entries = [Entry(1, bytes(size_bytes))] * count
        self.log.append(entries)
        self.compactor.delivered(self.log.last_index, entries, size_of(entries))

    def taken(self, result: object) -> None:
        self.compactor.taken(result)

    def take(self) -> None:
        self.compactor.delivered(self.log.last_index, [Entry(1)], CONFIG.log_bytes_max)

    @property
    def is_full(self) -> bool:
        return self.compactor.is_full(self.log)


@pytest.fixture
def node() -> Alone[Node]:
    return Alone(Node)


def test_a_snapshot_is_due_when_half_of_what_may_be_in_memory_has_come_though_entries_are_few(
    node: Alone[Node],
) -> None:
    assert node.do(node.part.append, 4, 1000) == NOTHING
    assert node.do(node.part.append, 2, 1000) == TAKE


def test_the_log_is_full_at_its_limit_while_a_snapshot_is_written_and_only_then(node: Alone[Node]) -> None:
    node.do(node.part.append, 6, 1000)
    assert not node.part.is_full
    node.do(node.part.append, 4, 1000)
    assert node.part.is_full
    node.do(node.part.taken, SnapshotInfo(6, 1, 100))
    assert not node.part.is_full, "nothing would ever empty it"


def test_after_a_snapshot_that_failed_the_next_entry_has_one_taken(node: Alone[Node]) -> None:
    node.do(node.part.append, 6, 1000)
    node.do(node.part.taken, Failed("no space"))
    assert node.do(node.part.append, 1, 10) == effects(jobs=[(SNAPSHOT, TakeSnapshot(7, 1))])


COUNTED = LeaderConfig(snapshot_entries=10, snapshot_bytes_min=1000, snapshot_bytes_max=4000)


@pytest.mark.parametrize(("last_bytes", "due_after"), [(100, 10), (1999, 10), (2000, 20), (3000, 30), (1 << 30, 40)])
def test_entries_are_counted_as_often_as_the_last_snapshot_was_large(last_bytes: int, due_after: int) -> None:
    """To write a large one for a log of few small entries is not worth it."""
    node = Alone(lambda env: Node(env, COUNTED))
    node.do(node.part.append, 10, 0)
    node.do(node.part.taken, SnapshotInfo(10, 1, last_bytes))
    for _ in range(due_after - 1):
        assert node.do(node.part.append, 1, 0) == NOTHING
    assert node.do(node.part.append, 1, 0) == effects(jobs=[(SNAPSHOT, TakeSnapshot(10 + due_after, 1))])


@pytest.mark.parametrize(
    ("size_bytes", "keep_entries", "kept"),
    [(1000, 5000, 2), (984, 5000, 3), (4000, 5000, 0), (10, 4, 4), (10, 5000, 10)],
)
def test_the_tail_that_stays_fits_both_limits(size_bytes: int, keep_entries: int, kept: int) -> None:
    config = msgspec.structs.replace(CONFIG, keep_entries=keep_entries)
    log = Log()
    log.append([Entry(1, bytes(size_bytes))] * 10)
    base, term = Alone(lambda env: Compactor(env, config)).part.base(log, 10, None)
    assert (10 - base, term) == (kept, 1 if kept < 10 else 0)


def test_a_tail_does_not_count_what_follows_the_snapshot() -> None:
    log = Log()
    log.append([Entry(1, bytes(1000 - ENTRY_OVERHEAD_BYTES))] * 10)
    assert log.tail(8, 5000, 3000) == 5
    log.compact(6, 1)
    assert log.tail(8, 5000, 3000) == 6, "what is gone cannot stay"


def test_a_budget_lowers_what_is_larger_and_raises_nothing() -> None:
    config = LeaderConfig(keep_bytes=100)
    small = config.within(64 << 20)
    assert (small.log_bytes_max, small.keep_bytes) == (64 << 20, 100)
    assert (small.uncommitted_bytes_max, small.inflight_bytes_max) == (16 << 20, 8 << 20)
    assert small.hold_bytes_max == 16 << 20
    assert small.within(1 << 40) == small


# --- what transfers need ---


def based(followers: Followers, hold_bytes_max: int = 5000) -> int:
    """Up to where a snapshot at 10 lets go of a log from 3 to 12, of which each entry has 1000 bytes."""
    log = Log()
    log.append([Entry(1, bytes(1000 - ENTRY_OVERHEAD_BYTES))] * 12)
    log.compact(2, 1)
    config = LeaderConfig(keep_entries=1, hold_bytes_max=hold_bytes_max)
    return Alone(lambda env: Compactor(env, config)).part.base(log, 10, followers)[0]


def sent_to(index: int, first_index: int = 2) -> Followers:
    """Node 2 holds all, and node 3 has a part of the snapshot at an index (0: of none yet)."""
    followers = Followers((2, 3), 13, 100.0)
    followers.acknowledged(2, 12, 100.0)
    transfer = followers[3].transfer = Transfer(1, first_index, 10, 100.0)
    transfer.index = index
    return followers


def test_the_log_behind_a_snapshot_that_travels_stays() -> None:
    assert based(Followers((2, 3), 13, 0.0)) == 9, "nobody needs more than the tail"
    assert based(sent_to(7)) == 7
    assert based(sent_to(0, first_index=8)) == 8, "of whatever snapshot it will be"
    assert based(sent_to(11)) == 9


def test_no_more_log_is_held_than_there_may_be() -> None:
    assert based(sent_to(7), hold_bytes_max=5000) == 7
    assert based(sent_to(6), hold_bytes_max=5000) == 9, "it begins again with a newer one"
    assert based(sent_to(7), hold_bytes_max=0) == 9


def test_nothing_is_held_for_a_snapshot_that_the_log_does_not_follow_any_more() -> None:
    assert based(sent_to(1), hold_bytes_max=1 << 20) == 9


def test_nothing_is_held_for_a_follower_that_is_silent() -> None:
    followers = sent_to(7)
    followers[3].active_at = 100.0 - HELD_S
    assert based(followers) == 9
    followers[3].active_at = 100.1 - HELD_S
    assert based(followers) == 7
    followers = sent_to(0, first_index=8)
    followers[3].active_at = 99.9
    assert based(followers) == 9, "it was not heard since the transfer began"


def test_a_follower_that_got_a_snapshot_needs_the_log_until_it_has_caught_up() -> None:
    followers = sent_to(7)
    followers[3].transfer = None
    followers.installed(3, 7)
    assert based(followers) == 7
    followers.acknowledged(3, 8, 100.0)
    assert based(followers) == 8
    followers.acknowledged(3, 9, 100.0)
    assert based(followers) == 9
    followers.match[3] = 8
    assert based(followers) == 9, "from then on it is like others"


def held_by(node: Alone[Node]) -> tuple[int, ...]:
    """What the next snapshot spares."""
    job = node.do(node.part.take).jobs[0].work
    node.do(node.part.taken, Failed("again"))
    assert isinstance(job, TakeSnapshot)
    return job.held or ()


def test_a_snapshot_spares_the_files_that_travel_for_as_long_as_they_are_asked_for(node: Alone[Node]) -> None:
    node.do(node.part.append, 1, 10)
    assert held_by(node) == ()
    node.do(node.part.compactor.hold, 5, 1)
    assert held_by(node) == (5,)
    node.now += HELD_S - 1
    node.do(node.part.compactor.hold, 5, 1)
    node.now += HELD_S - 1
    assert held_by(node) == (5,)
    node.now += 1
    assert held_by(node) == ()


def test_only_so_many_files_are_held(node: Alone[Node]) -> None:
    node.do(node.part.append, 1, 10)
    for index in range(1, HELD_MAX + 2):
        node.do(node.part.compactor.hold, index, 1)
    assert held_by(node) == tuple(range(1, HELD_MAX + 1))
    node.do(node.part.compactor.release, 1)
    node.do(node.part.compactor.hold, HELD_MAX + 1, 1)
    assert held_by(node) == tuple(range(2, HELD_MAX + 2))
    node.do(node.part.compactor.hold, HELD_MAX + 5, HELD_MAX + 1)
    assert held_by(node) == (HELD_MAX + 1, HELD_MAX + 5), "no log follows the others"
