"""Compaction: what of a log is kept in memory is bounded in bytes, whatever the size of an entry."""

import msgspec
import pytest

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.compaction import SNAPSHOT, Compactor
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES, Entry, Log, size_of
from quorate.parts.log.replicated import SnapshotInfo, TakeSnapshot

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import NOTHING, effects

CONFIG = LeaderConfig(log_bytes_max=10_000, keep_bytes=3000)
TAKE = effects(jobs=[(SNAPSHOT, TakeSnapshot(6, 1))])


class Node:
    """A log and its compactor; all that is appended is delivered at once."""

    def __init__(self, env: Env) -> None:
        self.log = Log()
        self.compactor = Compactor(env, CONFIG)

    def append(self, count: int, size_bytes: int) -> None:
        entries = [Entry(1, bytes(size_bytes))] * count
        self.log.append(entries)
        self.compactor.delivered(self.log.last_index, entries, size_of(entries))

    def taken(self, result: object) -> None:
        self.compactor.taken(result)

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


@pytest.mark.parametrize(
    ("size_bytes", "keep_entries", "kept"),
    [(1000, 5000, 2), (984, 5000, 3), (4000, 5000, 0), (10, 4, 4), (10, 5000, 10)],
)
def test_the_tail_that_stays_fits_both_limits(size_bytes: int, keep_entries: int, kept: int) -> None:
    config = msgspec.structs.replace(CONFIG, keep_entries=keep_entries)
    log = Log()
    log.append([Entry(1, bytes(size_bytes))] * 10)
    base, term = Alone(lambda env: Compactor(env, config)).part.base(log, 10)
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
    assert small.within(1 << 40) == small
