"""Compaction and snapshots (chapter 5), one step at a time, at both ends."""

import msgspec
import pytest

from quorate.kernel import Failed
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.replicated import (
    Busy,
    Chunk,
    Decided,
    Leads,
    ReadChunk,
    Restored,
    SnapshotInfo,
    TakeSnapshot,
    WriteChunk,
    Written,
)
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Conflict,
    Entries,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotProgress,
    Snapshotted,
)

from tests.protocols.raft.raft_nodes import (
    CONFIG,
    NOTHING,
    Server,
    effects,
    entry,
    follower,
    leader,
    log_of,
    settled_leader,
    snapshotted,
)

SMALL = msgspec.structs.replace(CONFIG, snapshot_entries=4, keep_entries=1, chunk_bytes=10)


def behind() -> Server:
    """A leader of term 2 with a snapshot at 5 and entries 6 and 7, whose follower 3 lacks what is in the snapshot."""
    server = leader(term=1, records=[*snapshotted(5), Entries(6, [entry(1, "x")])], config=SMALL)
    turn = server.on(3, Conflict(2, 6, 0, 0))
    assert turn == effects(jobs=[(("chunk", 3), ReadChunk(5, 0, 10))])
    return server


def chunk(offset: int, data: bytes = b"x" * 10, index: int = 5, total: int = 25) -> Chunk:
    return Chunk(index, 1, offset, data, total)


# --- taking one ---


def test_a_log_that_has_grown_is_snapshotted_and_keeps_a_tail() -> None:
    server = follower(term=1, log=[1] * 5, config=SMALL)
    turn = server.on(2, Heartbeat(1, 4, 0))
    assert turn == effects(outputs=[Decided(1, log_of([1] * 4))], jobs=[("snapshot", TakeSnapshot(4, 1))])
    assert server.terms == [1] * 5, "nothing goes before the snapshot is durable"
    assert server.done("snapshot", SnapshotInfo(4, 1, 100)) == effects(records=[Snapshotted(4, 1, 3, 1)])
    assert (server.core.log.base_index, server.core.log.last_index) == (3, 5)


def test_one_snapshot_at_a_time_and_a_failed_one_changes_nothing() -> None:
    server = follower(term=1, log=[1] * 12, config=SMALL)
    assert server.on(2, Heartbeat(1, 4, 0)).jobs
    assert server.on(2, Heartbeat(1, 9, 0)).jobs == ()
    assert server.done("snapshot", Failed("disk full")) == NOTHING
    assert server.core.log.base_index == 0
    assert server.on(2, Heartbeat(1, 10, 0)).jobs == effects(jobs=[("snapshot", TakeSnapshot(10, 1))]).jobs


def test_a_snapshot_that_was_overtaken_by_a_received_one_is_ignored() -> None:
    server = follower(term=1, log=[1] * 5, config=SMALL)
    server.on(2, Heartbeat(1, 4, 0))
    server.on(2, InstallSnapshot(1, chunk(0, index=9, total=10)))
    server.done("install", Written(9, 1, 10, True))
    assert server.done("snapshot", SnapshotInfo(4, 1, 100)) == NOTHING
    assert server.core.snapshot_index == 9


# --- sending one ---


def test_pieces_go_one_at_a_time_each_asked_for() -> None:
    server = behind()
    assert server.done(("chunk", 3), chunk(0)) == effects(early=[(3, InstallSnapshot(2, chunk(0)))])
    assert server.on(3, SnapshotProgress(2, 5, 10, False)) == effects(jobs=[(("chunk", 3), ReadChunk(5, 10, 10))])
    assert server.on(3, SnapshotProgress(2, 5, 10, False)) == NOTHING, "a duplicate"
    server.on(2, Appended(2, 7))
    assert [send.to for send in server.submit("x").early] == [(2,)], "nothing else goes to it meanwhile"


def test_a_transfer_resumes_where_the_follower_says() -> None:
    server = behind()
    server.done(("chunk", 3), chunk(0))
    assert (
        server.on(3, SnapshotProgress(2, 5, 20, False)).jobs
        == effects(jobs=[(("chunk", 3), ReadChunk(5, 20, 10))]).jobs
    )
    server.done(("chunk", 3), chunk(20))
    assert (
        server.on(3, SnapshotProgress(2, 5, 0, False)).jobs == effects(jobs=[(("chunk", 3), ReadChunk(5, 0, 10))]).jobs
    ), "it lost what it had"


def test_when_it_is_complete_entries_follow() -> None:
    server = behind()
    turn = server.on(3, SnapshotProgress(2, 5, 25, True))
    assert turn == effects(early=[(3, AppendEntries(2, 5, 1, server.log, 5))])
    assert server.core.replication.followers.match[3] == 5


def test_a_piece_without_an_answer_goes_again_after_some_heartbeats() -> None:
    server = behind()
    server.done(("chunk", 3), chunk(0))
    jobs = []
    for _ in range(10):
        server.on(2, HeartbeatReply(2, 0))
        assert server.beat().jobs == (), "it may be the follower that is away"
    for _ in range(10):
        server.on(3, HeartbeatReply(2, 0))
        jobs += list(server.beat().jobs)
    assert jobs == effects(jobs=[(("chunk", 3), ReadChunk(5, 0, 10))]).jobs


def test_a_snapshot_that_was_replaced_begins_again_with_the_new_one() -> None:
    server = behind()
    server.done(("chunk", 3), chunk(0))
    server.on(3, SnapshotProgress(2, 5, 10, False))
    server.core.state.snapshot_index = 6
    again = effects(jobs=[(("chunk", 3), ReadChunk(6, 0, 10))])
    assert server.done(("chunk", 3), Failed("no snapshot at index 5")) == again
    new = chunk(0, index=6)
    assert server.done(("chunk", 3), new) == effects(early=[(3, InstallSnapshot(2, new))])


def test_what_is_asked_for_while_a_piece_is_read_is_read_after_it() -> None:
    server = behind()
    assert server.on(3, SnapshotProgress(2, 5, 10, False)) == NOTHING
    after = effects(jobs=[(("chunk", 3), ReadChunk(5, 10, 10))])
    assert server.done(("chunk", 3), chunk(0)) == after, "and that piece is there already"


def test_a_source_that_gives_nothing_is_left_for_another_and_then_asked_again() -> None:
    server = behind()
    server.done(("chunk", 3), Failed("input/output error"))
    server.on(2, Appended(2, 7))
    asked = []
    for _ in range(100):
        server.on(2, HeartbeatReply(2, 0))
        server.on(3, HeartbeatReply(2, 0))
        turn = server.beat()
        asked += [send.message for send in turn.early if isinstance(send.message, ServeSnapshot)]
        for _job in turn.jobs:
            asked.append("self")
            server.done(("chunk", 3), Failed("input/output error"))
    wanted = ServeSnapshot(2, Wanted(3, 0, 0, 5, 7))
    assert asked == ["self", wanted, wanted, "self", "self", wanted, wanted], "in turns of 20 and 40 beats"


def test_the_leader_has_another_send_on_what_came_of_it() -> None:
    server = behind()
    server.core.replication.followers[3].transfer.source = 2
    turn = server.on(3, SnapshotProgress(2, 6, 10, False))
    assert turn == effects(early=[(2, ServeSnapshot(2, Wanted(3, 6, 10, 5, 7)))])
    turn = server.on(3, SnapshotProgress(2, 6, 25, True))
    assert turn == effects(early=[(3, AppendEntries(2, 6, 1, server.log[1:], 5))])


def test_a_snapshot_beyond_the_leaders_log_is_blamed() -> None:
    assert [blame.node for blame in behind().on(3, SnapshotProgress(2, 8, 10, True)).blames] == [3]


@pytest.mark.parametrize(
    "stale", [SnapshotProgress(1, 5, 10, False), SnapshotProgress(2, 4, 10, True), SnapshotProgress(2, 6, 0, False)]
)
def test_progress_of_another_term_or_snapshot_is_ignored(stale: SnapshotProgress) -> None:
    assert behind().on(3, stale) == NOTHING


def test_progress_without_a_transfer_is_ignored() -> None:
    assert settled_leader().on(3, SnapshotProgress(1, 1, 10, True)) == NOTHING


def test_progress_of_a_later_term_deposes() -> None:
    server = behind()
    assert server.on(3, SnapshotProgress(7, 5, 10, False)).outputs == [Leads(7, None)]
    assert server.done(("chunk", 3), chunk(0)) == NOTHING


# --- receiving one ---


def test_a_piece_is_stored_before_the_next_is_asked_for() -> None:
    server = follower(term=2)
    assert server.on(2, InstallSnapshot(2, chunk(0))) == effects(jobs=[("install", WriteChunk(5, 1, 0, b"x" * 10, 25))])
    assert server.on(2, InstallSnapshot(2, chunk(10))) == NOTHING, "one at a time"
    assert server.done("install", Written(5, 1, 10, False)) == effects(sends=[(2, SnapshotProgress(2, 5, 10, False))])
    assert server.on(2, InstallSnapshot(2, chunk(20))).jobs, "out of order: the store says what it wants"


def test_the_last_piece_replaces_state_and_log() -> None:
    server = follower(term=2, log=[1, 1])
    server.on(2, InstallSnapshot(2, chunk(20)))
    assert server.done("install", Written(5, 1, 25, True)) == effects(
        records=[Snapshotted(5, 1, 5, 1)],
        sends=[(2, SnapshotProgress(2, 5, 25, True))],
        outputs=[Restored(5, 1)],
    )
    core = server.core
    assert (core.commit_index, core.state.delivered_index, core.log.base_index, core.log.last_index) == (5, 5, 5, 5)
    assert server.on(2, AppendEntries(2, 5, 1, [entry(2)], 6)).outputs == [Decided(6, [entry(2)])]


@pytest.mark.parametrize(("log", "kept"), [([1] * 7, [1, 1]), ([1, 1, 1, 1, 2, 2, 2], [])])
def test_entries_after_it_stay_only_where_the_log_agrees_with_it(log: list[int], kept: list[int]) -> None:
    server = follower(term=2, log=log)
    server.on(2, InstallSnapshot(2, chunk(20)))
    server.done("install", Written(5, 1, 25, True))
    assert server.terms == kept


def test_a_follower_that_has_committed_as_much_answers_that_it_is_complete() -> None:
    server = follower(term=2, log=[1] * 6)
    server.on(2, Heartbeat(2, 6, 0))
    assert server.on(2, InstallSnapshot(2, chunk(0))) == effects(sends=[(2, SnapshotProgress(2, 5, 25, True))])


def test_what_was_committed_while_it_arrived_is_not_taken_back() -> None:
    server = follower(term=2, log=[1] * 8)
    server.on(2, InstallSnapshot(2, chunk(20)))
    server.on(2, Heartbeat(2, 7, 0))
    assert server.done("install", Written(5, 1, 25, True)) == effects(sends=[(2, SnapshotProgress(2, 5, 25, True))])
    assert (server.core.commit_index, server.terms) == (7, [1] * 8)


def test_a_piece_that_could_not_be_stored_is_not_acknowledged_and_may_come_again() -> None:
    server = follower(term=2)
    server.on(2, InstallSnapshot(2, chunk(0)))
    assert server.done("install", Failed("disk full")) == NOTHING
    assert server.on(2, InstallSnapshot(2, chunk(0))).jobs


def test_a_piece_of_a_deposed_leader_is_refused() -> None:
    server = follower(leader=2, term=5)
    turn = server.on(3, InstallSnapshot(4, chunk(0)))
    assert turn.jobs == ()
    assert turn.sends


# --- of another server than the leader ---


def source() -> Server:
    """A follower of term 2 with a snapshot at 5, and 6 and 7 committed."""
    server = follower(term=2, records=[*snapshotted(5), Entries(6, log_of([1, 1]))], config=SMALL)
    server.on(2, Heartbeat(2, 7, 0))
    return server


def test_a_follower_sends_of_its_own_snapshot_when_the_leader_says_so() -> None:
    server = source()
    turn = server.on(2, ServeSnapshot(2, Wanted(3, 4, 10, 5, 9)))
    assert turn == effects(jobs=[(("chunk", 3), ReadChunk(5, 0, 10))]), "that at 4 is of no use"
    assert server.done(("chunk", 3), chunk(0)) == effects(early=[(3, SnapshotPiece(2, chunk(0)))])
    turn = server.on(2, ServeSnapshot(2, Wanted(3, 5, 10, 5, 9)))
    assert turn == effects(jobs=[(("chunk", 3), ReadChunk(5, 10, 10))])


def test_one_whose_snapshot_is_too_old_takes_another() -> None:
    server = source()
    asked = ServeSnapshot(2, Wanted(3, 0, 0, 6, 9))
    assert server.on(2, asked) == effects(jobs=[("snapshot", TakeSnapshot(7, 1))])
    assert server.on(2, asked) == NOTHING, "one at a time"
    server.done("snapshot", SnapshotInfo(7, 1, 25))
    assert server.on(2, asked) == effects(jobs=[(("chunk", 3), ReadChunk(7, 0, 10))])


def test_one_that_is_behind_itself_takes_a_snapshot_when_it_has_what_is_wanted() -> None:
    server = source()
    assert server.on(2, ServeSnapshot(2, Wanted(3, 0, 0, 8, 9))) == NOTHING
    turn = server.on(2, AppendEntries(2, 7, 1, [entry(2)], 8))
    assert turn.jobs == effects(jobs=[("snapshot", TakeSnapshot(8, 2))]).jobs


def test_only_the_leader_may_ask_and_only_for_another_server() -> None:
    server = source()
    assert server.on(3, ServeSnapshot(1, Wanted(3, 0, 0, 5, 9))).jobs == (), "it led an earlier term"
    assert server.on(3, ServeSnapshot(2, Wanted(3, 0, 0, 5, 9))).blames
    for nobody in (1, 9):
        assert server.on(2, ServeSnapshot(2, Wanted(nobody, 0, 0, 5, 9))) == NOTHING


def test_a_piece_of_another_server_is_stored_and_the_leader_is_told() -> None:
    server = follower(term=2)
    turn = server.on(3, SnapshotPiece(2, chunk(0)))
    assert turn == effects(jobs=[("install", WriteChunk(5, 1, 0, b"x" * 10, 25))])
    assert server.done("install", Written(5, 1, 10, False)) == effects(sends=[(2, SnapshotProgress(2, 5, 10, False))])
    assert server.on(3, SnapshotPiece(1, chunk(10))) == server.on(3, SnapshotPiece(3, chunk(10))) == NOTHING
    assert server.core.term == 2, "it is no word of a leader"
    server.time_out()
    assert server.on(3, SnapshotPiece(2, chunk(10))) == NOTHING, "nobody leads"


def test_whoever_stopped_following_meanwhile_keeps_the_snapshot_and_tells_nobody() -> None:
    server = follower(term=2)
    server.on(2, InstallSnapshot(2, chunk(20)))
    server.time_out()
    turn = server.done("install", Written(5, 1, 25, True))
    assert turn.outputs == [Restored(5, 1)]
    assert turn.sends == ()


# --- a log that is full ---

FULL = msgspec.structs.replace(CONFIG, log_bytes_max=2000)


def test_a_follower_whose_log_is_full_takes_nothing_until_its_snapshot_is_written() -> None:
    server = follower(term=1, log=[1], config=FULL)
    large = [entry(1, "x" * 600)] * 3
    assert server.on(2, AppendEntries(1, 1, 1, large, 4)).jobs == effects(jobs=[("snapshot", TakeSnapshot(4, 1))]).jobs
    server.on(2, AppendEntries(1, 4, 1, large[:1], 4))
    more = AppendEntries(1, 5, 1, large[:1], 5)
    assert server.on(2, more) == NOTHING
    server.on(2, Heartbeat(1, 5, 0))
    server.done("snapshot", SnapshotInfo(4, 1, 100))
    assert server.on(2, more).records == effects(records=[Entries(6, large[:1])]).records


def test_a_leader_whose_log_is_full_refuses_commands_and_they_are_in_no_log() -> None:
    server = settled_leader(term=1, config=FULL)
    for _ in range(4):
        server.submit("x" * 600)
    last = server.core.log.last_index
    server.on(server.node, Appended(server.core.term, last))
    assert server.on(2, Appended(server.core.term, last)).jobs
    turn = server.submit("y")
    assert turn == effects(outputs=[Busy((b"y",), "the log in memory is full until a snapshot is written")])
    assert server.core.log.last_index == last
