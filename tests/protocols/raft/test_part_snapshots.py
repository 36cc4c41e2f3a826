"""LogCompaction alone: snapshots taken, sent and received."""

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.compaction import Transfers
from quorate.parts.leaderlog.followers import Followers, Transfer
from quorate.parts.log.replicated import Chunk, Restored, SnapshotInfo, TakeSnapshot, WriteChunk, Written
from quorate.protocols.raft.messages import Entries, InstallSnapshot, RaftConfig, SnapshotProgress, Snapshotted
from quorate.protocols.raft.snapshots import LogCompaction
from quorate.protocols.raft.state import ServerState

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import NOTHING, effects, log_of

SMALL = RaftConfig(snapshot_entries=3, keep_entries=1)
PIECE = Chunk(5, 1, 0, b"state", 10)


class Stage(Alone[LogCompaction]):
    """Over a log of three committed entries of term 1."""

    def __init__(self) -> None:
        super().__init__(self.build)
        self.state.restore(Entries(1, log_of([1, 1, 1])))
        self.state.commit(3)

    def build(self, env: Env) -> LogCompaction:
        self.state = ServerState(env, SMALL)
        self.transfers = Transfers(env, 10)
        return LogCompaction(env, SMALL, self.state, self.transfers)


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
    assert stage.do(stage.part.taken, Failed("no room")) == NOTHING
    assert stage.do(stage.part.taken, SnapshotInfo(3, 1, 99)) == effects(records=[Snapshotted(3, 1, 2, 1)])
    assert (stage.state.log.base_index, stage.state.log.last_index) == (2, 3)
    assert stage.do(stage.part.taken, SnapshotInfo(3, 1, 99)) == NOTHING, "an old one"


def test_a_piece_goes_to_a_follower_that_is_waiting_for_it() -> None:
    stage = Stage()
    followers = Followers((2, 3), 1, 0.0)
    assert stage.do(stage.part.send_piece, 3, PIECE, followers) == NOTHING
    followers[3].transfer = Transfer(5)
    assert stage.do(stage.part.send_piece, 3, PIECE, followers) == effects(early=[(3, InstallSnapshot(0, PIECE))])


def test_pieces_are_stored_and_the_last_replaces_log_and_state() -> None:
    stage = Stage()
    store = effects(jobs=[("install", WriteChunk(5, 1, 0, b"state", 10))])
    assert stage.do(stage.part.on_install_snapshot, 2, InstallSnapshot(0, PIECE)) == store
    assert stage.do(stage.part.on_install_snapshot, 2, InstallSnapshot(0, PIECE)) == NOTHING, "one is being stored"
    asked = effects(sends=[(2, SnapshotProgress(0, 5, 5, False))])
    assert stage.do(stage.part.stored, Written(5, 1, 5, False), 2) == asked
    assert stage.do(stage.part.stored, Written(5, 1, 10, True), None) == effects(
        records=[Snapshotted(5, 1, 5, 1)], outputs=[Restored(5, 1)]
    )
    done = effects(sends=[(2, SnapshotProgress(0, 5, 10, True))])
    assert stage.do(stage.part.on_install_snapshot, 2, InstallSnapshot(0, PIECE)) == done, "it has that"
