"""Transfers: whose turn it is to send a snapshot, and for how long; what a source reads, and how much at a time."""

from typing import Any

import msgspec
import pytest

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.compaction import Compactor
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.transfers import (
    PATIENCE_BEATS,
    PATIENCE_BEATS_MAX,
    SERVED_MAX,
    TRIES,
    Receiving,
    Serving,
    Transfers,
    Wanted,
)
from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import NOTHING, effects

ENTRIES = [Entry(1, b"%d" % index) for index in range(1, 10)]
LAGGARD = 5
FIVE = (1, 2, 3, 4, LAGGARD)
TURN = TRIES * PATIENCE_BEATS


def log_of(base_index: int) -> Log:
    log = Log()
    log.append(ENTRIES)
    log.compact(base_index, 1)
    return log


class Leader:
    """Node 1, with a log from 5 to 9, whose follower 5 lacks what is before; the others hold all."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.asked: list[tuple[int, Wanted]] = []
        self.followers = Followers(env.others, 1, 0.0)
        for node in (1, 2, 3, 4):
            self.followers.acknowledged(node, 9, 0.0)
        self.log = log_of(4)
        self.transfers = Transfers(env, self.log, lambda source, wanted: self.asked.append((source, wanted)))
        self.now = 0.0

    def begin(self) -> None:
        self.transfers.begin(LAGGARD, self.followers[LAGGARD])

    def beats(self, count: int, *, heard: bool = True) -> list[int]:
        """So many heartbeats, each answered by the laggard or not; who was asked for a piece."""
        self.asked.clear()
        for _ in range(count):
            self.now += 0.1
            if heard:
                self.followers[LAGGARD].active_at = self.now
            self.transfers.beat(LAGGARD, self.followers)
        return [source for source, _ in self.asked]

    def stored(self, index: int, next_offset: int, complete: bool = False) -> list[tuple[int, Wanted]]:
        """The laggard says so; what is asked for then."""
        self.asked.clear()
        self.transfers.progressed(LAGGARD, self.followers, index, next_offset, complete)
        return self.asked


@pytest.fixture
def leader() -> Leader:
    made = Alone(Leader, peers=FIVE)
    made.do(made.part.begin)
    assert made.part.asked == [(1, Wanted(LAGGARD, 0, 0, 4, 9))]
    return made.part


def test_a_source_is_asked_twice_and_then_the_next_and_turns_double_when_all_had_one(leader: Leader) -> None:
    assert leader.beats(TURN) == [1, 2]
    assert leader.beats(3 * TURN) == [2, 3, 3, 4, 4, 1]
    assert leader.beats(2 * TURN) == [1, 2], "twice as long"
    for _ in range(10):
        leader.beats(8 * PATIENCE_BEATS_MAX)
    transfer = leader.followers[LAGGARD].transfer
    assert transfer is not None
    assert transfer.patience_beats == PATIENCE_BEATS_MAX


def test_who_does_not_hold_what_the_leaders_log_goes_on_from_has_no_turn(leader: Leader) -> None:
    leader.followers.match.update({2: 3, 3: 4, 4: 0})
    assert leader.beats(2 * TURN) == [1, 3, 3, 1]
    leader.followers.match.update({3: 3})
    assert leader.beats(4 * TURN) == [1, 1, 1], "there is nobody else"


def test_progress_alone_prolongs_a_turn(leader: Leader) -> None:
    leader.beats(TURN - 1)
    assert leader.stored(7, 100) == [(1, Wanted(LAGGARD, 7, 100, 4, 9))]
    assert leader.beats(TURN - 1) == [1]
    for said in ((7, 100), (7, 0), (8, 0)):
        leader.stored(*said)
    assert leader.beats(1) == [2], "these were none"


def test_a_source_that_loses_what_came_is_asked_from_there(leader: Leader) -> None:
    leader.stored(7, 300)
    assert leader.stored(7, 100) == [(1, Wanted(LAGGARD, 7, 100, 4, 9))]
    assert leader.stored(8, 50) == [(1, Wanted(LAGGARD, 8, 50, 4, 9))], "another snapshot came in its place"


def test_the_turn_of_a_source_does_not_pass_while_the_follower_is_away(leader: Leader) -> None:
    leader.beats(1)
    assert leader.beats(5 * TURN, heard=False) == []
    assert leader.beats(PATIENCE_BEATS) == [1]


def test_one_that_the_log_cannot_follow_any_more_is_followed_by_a_newer_one(leader: Leader) -> None:
    leader.stored(5, 10)
    leader.log.compact(7, 1)
    assert leader.stored(5, 20, True) == [(1, Wanted(LAGGARD, 0, 0, 7, 9))]
    assert leader.followers[LAGGARD].transfer is not None


def test_a_snapshot_that_the_log_can_follow_ends_it_whoever_sent_it(leader: Leader) -> None:
    assert leader.stored(3, 10, True) == []
    assert leader.followers[LAGGARD].transfer is not None, "it is older than what is wanted"
    leader.stored(6, 10, True)
    progress = leader.followers[LAGGARD]
    assert (progress.transfer, progress.next_index, leader.followers.match[LAGGARD]) == (None, 7, 6)


class Node:
    """With a log from 5 to 9, and a newest snapshot at 6."""

    def __init__(self, env: Env) -> None:
        self.log = log_of(4)
        self.snapshot_index = 6
        self.compactor = Compactor(env, LeaderConfig(snapshot_entries=100))
        self.serving = Serving(env, self, self.compactor, 10)
        self.receiving = Receiving(env)

    def serve(self, wanted: Wanted, number: int = 1) -> None:
        self.serving.serve(number, wanted)


def serving(peers: tuple[int, ...] = FIVE) -> Alone[Node]:
    return Alone(Node, peers=peers)


def reads(index: int, offset: int, node: int = LAGGARD) -> Any:
    return effects(jobs=[(("chunk", node), ReadChunk(index, offset, 10))])


WANTED = Wanted(LAGGARD, 0, 0, 4, 9)
PIECE = Chunk(6, 1, 0, b"x" * 10, 25)


@pytest.mark.parametrize(
    ("wanted", "index", "offset"),
    [
        (WANTED, 6, 0),
        (msgspec.structs.replace(WANTED, index=5, offset=20), 5, 20),  # there may still be an older one
        (msgspec.structs.replace(WANTED, index=3, offset=20), 6, 0),  # which the leader's log cannot follow
        (msgspec.structs.replace(WANTED, index=8, offset=20), 6, 0),  # of another node
        (msgspec.structs.replace(WANTED, index=5), 6, 0),
    ],
)
def test_a_source_goes_on_with_what_the_follower_has_or_begins_with_its_newest(
    wanted: Wanted, index: int, offset: int
) -> None:
    node = serving()
    assert node.do(node.part.serve, wanted) == reads(index, offset)


def test_a_snapshot_beyond_the_leaders_log_is_not_sent() -> None:
    node = serving()
    assert node.do(node.part.serve, msgspec.structs.replace(WANTED, last_index=5)) == NOTHING


def test_what_is_read_is_for_the_leader_who_asked_last() -> None:
    node = serving()
    node.do(node.part.serve, WANTED, 1)
    assert node.do(node.part.serve, WANTED, 2) == NOTHING, "it is being read"
    node.do(node.part.serving.read, LAGGARD, PIECE)
    assert node.returned == (2, WANTED, PIECE)


def test_another_piece_that_is_asked_for_meanwhile_is_read_after_it() -> None:
    node = serving()
    node.do(node.part.serve, WANTED)
    later = msgspec.structs.replace(WANTED, index=6, offset=10)
    assert node.do(node.part.serve, later) == NOTHING
    assert node.do(node.part.serving.read, LAGGARD, PIECE) == reads(6, 10)
    assert node.returned is None


def test_a_snapshot_that_is_gone_is_replaced_by_the_newest_and_a_failed_read_by_nothing() -> None:
    node = serving()
    node.do(node.part.serve, msgspec.structs.replace(WANTED, index=5, offset=10))
    assert node.do(node.part.serving.read, LAGGARD, Failed("no snapshot at index 5")) == reads(6, 0)
    assert node.do(node.part.serving.read, LAGGARD, Failed("input/output error")) == NOTHING
    assert node.returned is None
    assert node.do(node.part.serve, WANTED) == reads(6, 0), "it is asked again, perhaps"


def test_who_begins_while_an_older_snapshot_travels_gets_that_one_as_well() -> None:
    node = serving()
    part = node.part
    node.do(part.serve, WANTED)
    part.snapshot_index = 8
    other = msgspec.structs.replace(WANTED, node=4)
    assert node.do(part.serve, other) == reads(6, 0, node=4)
    late = msgspec.structs.replace(WANTED, node=3, first_index=7)
    assert node.do(part.serve, late) == reads(8, 0, node=3), "the leader's log cannot follow it any more"


def test_a_snapshot_that_travels_and_cannot_be_read_is_held_no_more() -> None:
    node = serving()
    part = node.part
    node.do(part.serve, msgspec.structs.replace(WANTED, index=5, offset=10))
    assert part.compactor.held == (5,)
    assert node.do(part.serving.read, LAGGARD, Failed("no snapshot at index 5")) == reads(6, 0)
    assert part.compactor.held == (6,)


def test_reads_that_hang_are_as_many_as_there_may_be_and_one_a_node() -> None:
    nodes = range(2, SERVED_MAX + 4)
    node = serving((1, *nodes))
    begun = [bool(node.do(node.part.serve, msgspec.structs.replace(WANTED, node=n)).jobs) for n in nodes]
    assert begun == [True] * SERVED_MAX + [False] * (len(nodes) - SERVED_MAX)
    assert node.do(node.part.serve, msgspec.structs.replace(WANTED, node=2)) == NOTHING


def test_a_snapshot_is_taken_where_all_that_there_are_are_too_old() -> None:
    node = serving()
    part = node.part
    needed = msgspec.structs.replace(WANTED, first_index=8)
    assert node.do(part.serve, needed) == NOTHING
    assert node.do(part.compactor.settle) == NOTHING, "nothing was delivered"
    node.do(part.compactor.delivered, 7, ENTRIES[6:7], 10)
    assert node.do(part.compactor.settle) == NOTHING, "not far enough"
    node.do(part.compactor.delivered, 8, ENTRIES[7:8], 10)
    assert node.do(part.compactor.settle) == effects(jobs=[("snapshot", TakeSnapshot(8, 1))])
    assert node.do(part.compactor.settle) == NOTHING
    part.compactor.taken(SnapshotInfo(8, 1, 99))
    part.snapshot_index = 8
    assert node.do(part.serve, needed) == reads(8, 0)


def test_pieces_are_stored_one_at_a_time_whoever_sent_them() -> None:
    node = serving()
    part = node.part.receiving
    assert node.do(part.store, PIECE) == effects(jobs=[("install", WriteChunk(6, 1, 0, PIECE.data, 25))])
    assert node.do(part.store, PIECE) == NOTHING
    assert node.returned is False
    assert part.stored(Failed("no room")) is None
    assert node.do(part.store, PIECE).jobs
    assert part.stored(Written(6, 1, 10, False)) == Written(6, 1, 10, False)
