"""LogCompaction alone: snapshots taken, sent and received."""

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.replicated import Chunk, ReadChunk, Restored, SnapshotInfo, TakeSnapshot, WriteChunk, Written
from quorate.protocols.raft.messages import (
    Entries,
    InstallSnapshot,
    RaftConfig,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotProgress,
    Snapshotted,
)
from quorate.protocols.raft.snapshots import LogCompaction
from quorate.protocols.raft.state import ServerState

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import NOTHING, effects, log_of

SMALL = RaftConfig(snapshot_entries=3, keep_entries=1, chunk_bytes=10)
PIECE = Chunk(5, 1, 0, b"state", 10)
OFFERED = InstallSnapshot(0, PIECE)
NOBODY = Followers((), 0, 0.0)


class Stage(Alone[LogCompaction]):
    """Over a log of three committed entries of term 1."""

    def __init__(self) -> None:
        super().__init__(self.build)
        self.state.restore(Entries(1, log_of([1, 1, 1])))
        self.state.commit(3)

    def build(self, env: Env) -> LogCompaction:
        self.state = ServerState(env, SMALL)
        return LogCompaction(env, SMALL, self.state)


def test_a_snapshot_is_taken_when_enough_was_delivered_and_one_at_a_time() -> None:
    stage = Stage()
    entries = stage.state.log.slice(1, 3)
    assert stage.do(stage.part.delivered, 2, entries[:2], 50) == NOTHING
    assert stage.do(stage.part.delivered, 3, entries[2:], 50) == effects(jobs=[("snapshot", TakeSnapshot(3, 1))])
    assert stage.do(stage.part.delivered, 6, entries, 50) == NOTHING, "one is being taken"


def test_what_a_snapshot_from_elsewhere_stands_for_counts_no_more() -> None:
    stage = Stage()
    entries = stage.state.log.slice(1, 3)
    stage.do(stage.part.delivered, 2, entries[:2], 50)
    stage.do(stage.part.stored, Written(5, 1, 10, True), 2)
    assert stage.do(stage.part.delivered, 6, entries[:1], 50) == NOTHING


def test_the_log_goes_when_the_snapshot_is_durable_but_for_a_tail() -> None:
    stage = Stage()
    assert stage.do(stage.part.taken, Failed("no room"), NOBODY) == NOTHING
    assert stage.do(stage.part.taken, SnapshotInfo(3, 1, 99), NOBODY) == effects(records=[Snapshotted(3, 1, 2, 1)])
    assert (stage.state.log.base_index, stage.state.log.last_index) == (2, 3)
    assert stage.do(stage.part.taken, SnapshotInfo(3, 1, 99), NOBODY) == NOTHING, "an old one"


def test_a_piece_goes_to_a_follower_for_which_it_is_the_leaders_turn() -> None:
    stage = Stage()
    stage.do(stage.part.taken, SnapshotInfo(3, 1, 99), NOBODY)
    followers = Followers((2, 3), 1, 0.0)
    piece = Chunk(3, 1, 0, b"state", 10)
    read = effects(jobs=[(("chunk", 3), ReadChunk(3, 0, 10))])
    assert stage.do(stage.part.transfers.begin, 3, followers[3]) == read
    sent = effects(early=[(3, InstallSnapshot(0, piece))])
    assert stage.do(stage.part.send_piece, 3, piece, 1, followers) == sent
    assert stage.do(stage.part.transfers.begin, 3, followers[3]) == read
    followers[3].transfer.source = 2
    assert stage.do(stage.part.send_piece, 3, piece, 1, followers) == NOTHING


def test_a_piece_for_the_leader_goes_in_its_term_alone() -> None:
    stage = Stage()
    stage.do(stage.part.taken, SnapshotInfo(3, 1, 99), NOBODY)
    piece = Chunk(3, 1, 0, b"state", 10)
    asked = ServeSnapshot(0, Wanted(3, 0, 0, 2, 9))
    for term, leader, sent in (
        (0, 2, effects(early=[(3, SnapshotPiece(0, piece))])),
        (0, None, NOTHING),
        (1, 2, NOTHING),
    ):
        assert stage.do(stage.part.on_serve_snapshot, asked).jobs
        stage.state.term = term
        assert stage.do(stage.part.send_piece, 3, piece, leader, Followers((), 0, 0.0)) == sent
        stage.state.term = 0


def test_pieces_are_stored_and_the_last_replaces_log_and_state() -> None:
    stage = Stage()
    store = effects(jobs=[("install", WriteChunk(5, 1, 0, b"state", 10))])
    assert stage.do(stage.part.take_piece, 2, 2, OFFERED) == store
    assert stage.do(stage.part.take_piece, 2, 2, OFFERED) == NOTHING, "one is being stored"
    asked = effects(sends=[(2, SnapshotProgress(0, 5, 5, False))])
    assert stage.do(stage.part.stored, Written(5, 1, 5, False), 2) == asked
    assert stage.do(stage.part.stored, Written(5, 1, 10, True), None) == effects(
        records=[Snapshotted(5, 1, 5, 1)], outputs=[Restored(5, 1)]
    )
    done = effects(sends=[(2, SnapshotProgress(0, 5, 10, True))])
    assert stage.do(stage.part.take_piece, 2, 2, OFFERED) == done, "it has that"
