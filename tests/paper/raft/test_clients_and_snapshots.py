"""Rules of compaction and of clients, one test a rule: dissertation, chapter 5, §6.2 to 6.4."""

import msgspec

from quorate.parts.log.replicated import (
    Chunk,
    Decided,
    Dropped,
    ReadChunk,
    ReadFailed,
    ReadReady,
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
    Propose,
    ReadReply,
    ReadRequest,
    RequestVote,
    SnapshotProgress,
    Snapshotted,
    Vote,
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

SMALL = msgspec.structs.replace(CONFIG, snapshot_entries=3, keep_entries=0, chunk_bytes=8)


# --- chapter 5: compaction ---


def test_each_server_snapshots_its_own_committed_entries() -> None:
    """§5.1: followers too, and never what is not committed."""
    server = follower(term=1, log=[1] * 5, config=SMALL)
    assert server.on(2, Heartbeat(1, 3, 0)).jobs == effects(jobs=[("snapshot", TakeSnapshot(3, 1))]).jobs


def test_the_log_goes_only_once_the_snapshot_is_durable() -> None:
    """§5.1: until then it is what the state is made of."""
    server = follower(term=1, log=[1] * 5, config=SMALL)
    server.on(2, Heartbeat(1, 3, 0))
    assert len(server.log) == 5
    server.done("snapshot", SnapshotInfo(3, 1, 9))
    assert len(server.log) == 2


def test_index_and_term_of_the_last_entry_replaced_are_kept() -> None:
    """§5.1: the first entry after the snapshot is compared with them, and so are votes."""
    server = Server(term=2, records=snapshotted(5, term=2))
    assert server.on(2, RequestVote(2, 5, 1)).sends == effects(sends=[(2, Vote(2, False))]).sends
    assert server.on(2, AppendEntries(2, 5, 2, [entry(2)], 6)).outputs[-1] == Decided(6, [entry(2)])


def test_after_a_restart_the_state_is_the_snapshot_and_the_log_goes_on_from_there() -> None:
    """§5.1."""
    server = Server(term=2, records=[*snapshotted(5), Entries(6, log_of([2]))])
    assert server.started.outputs[0] == Restored(5, 1)
    assert server.core.commit_index == 5


def test_a_follower_that_needs_what_is_gone_gets_the_snapshot() -> None:
    """§5.3 (figure 5.3): instead of entries."""
    server = leader(term=1, records=snapshotted(5), config=SMALL)
    assert server.on(2, Conflict(2, 5, 0, 0)).jobs == effects(jobs=[(("chunk", 2), ReadChunk(5, 0, 8))]).jobs


def test_pieces_are_stored_and_answered_in_turn() -> None:
    """§5.3 (figure 5.3): here each answer asks for the next offset."""
    server = follower(term=2)
    piece = Chunk(5, 1, 0, b"12345678", 10)
    assert (
        server.on(2, InstallSnapshot(2, piece)).jobs
        == effects(jobs=[("install", WriteChunk(5, 1, 0, b"12345678", 10))]).jobs
    )
    assert (
        server.done("install", Written(5, 1, 8, False)).sends
        == effects(sends=[(2, SnapshotProgress(2, 5, 8, False))]).sends
    )


def test_a_snapshot_of_an_earlier_term_is_refused() -> None:
    """Figure 5.3 (receiver 1)."""
    assert follower(term=4).on(3, InstallSnapshot(3, Chunk(5, 1, 0, b"", 0))).jobs == ()


def test_a_whole_snapshot_replaces_a_log_that_does_not_know_its_last_entry() -> None:
    """Figure 5.3 (receiver 6, 7, 8)."""
    server = follower(term=2, log=[1, 1, 1])
    server.on(2, InstallSnapshot(2, Chunk(5, 2, 0, b"x", 1)))
    turn = server.done("install", Written(5, 2, 1, True))
    assert turn.records == effects(records=[Snapshotted(5, 2, 5, 2)]).records
    assert turn.outputs == [Restored(5, 2)]
    assert server.log == []


def test_entries_after_a_snapshot_that_the_log_agrees_with_are_kept() -> None:
    """Figure 5.3 (receiver 6)."""
    server = follower(term=2, log=[1, 1, 1])
    server.on(2, InstallSnapshot(2, Chunk(2, 1, 0, b"x", 1)))
    server.done("install", Written(2, 1, 1, True))
    assert server.log == log_of([1, 1, 1])[2:]


# --- section 6.2: finding the leader ---


def test_whoever_does_not_lead_passes_requests_to_the_one_that_does() -> None:
    """§6.2."""
    assert follower(leader=3).submit("x") == effects(early=[(3, Propose([b"x"]))])


def test_where_no_leader_is_known_a_request_is_refused() -> None:
    """§6.2: so that the client may try elsewhere."""
    assert Server().submit("x") == effects(outputs=[Dropped((b"x",), "no leader is known")])


def test_a_leader_without_a_quorum_for_an_election_time_out_steps_down() -> None:
    """§6.2: its clients should look for another. We allow two of the shortest time-outs, the longest by default."""
    server = settled_leader()
    assert server.beat(1.9).early
    server.beat(0.2)
    assert server.core.role == "follower"


# --- section 6.4: reads ---


def test_a_read_waits_for_an_entry_of_the_leaders_own_term() -> None:
    """§6.4, step 1."""
    server = leader(term=1, log=[1])
    assert server.read(7) == NOTHING
    server.on(1, Appended(2, 2))
    assert [s.message for s in server.on(2, Appended(2, 2)).early if s.to == (2,)][-1] == Heartbeat(2, 2, 2)


def test_a_read_is_served_only_after_a_round_that_began_after_it_came() -> None:
    """§6.4, steps 2 and 3."""
    server = settled_leader()
    server.read(7)
    assert server.on(2, HeartbeatReply(1, 1)) == NOTHING, "an earlier round"
    assert server.on(2, HeartbeatReply(1, 2)).outputs == [ReadReady((7,))]


def test_a_read_waits_until_what_was_committed_is_applied() -> None:
    """§6.4, step 4: at a follower that has the leader's index."""
    server = follower(term=3)
    nonce = server.read(7).early[0].message.nonce
    assert server.on(2, ReadReply(nonce, [7], 1)) == NOTHING
    assert server.on(2, AppendEntries(3, 0, 0, [entry(3)], 1)).outputs == [Decided(1, [entry(3)]), ReadReady((7,))]


def test_reads_of_followers_cost_the_leader_one_round_together() -> None:
    """§6.4: it says an index, they serve the data."""
    server = settled_leader()
    turn = server.on(2, ReadRequest(1, [1, 2, 3]), ReadRequest(2, [4]))
    assert turn == effects(early=[(2, Heartbeat(1, 1, 2)), (3, Heartbeat(1, 1, 2))])


def test_a_deposed_leader_serves_no_read() -> None:
    """§6.4: nobody confirms its round."""
    server = settled_leader()
    server.read(7)
    turn = server.on(2, HeartbeatReply(2, 0))
    assert ReadFailed((7,), "leadership was lost") in turn.outputs
    assert not [output for output in turn.outputs if isinstance(output, ReadReady)]
