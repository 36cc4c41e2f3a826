"""LogReplication and LogFollower, each alone: what a leader sends and counts, what a follower takes."""

from quorate.kernel import Env
from quorate.parts.leaderlog.config import HEARTBEAT
from quorate.parts.leaderlog.reads import Reads
from quorate.parts.leaderlog.transfers import Transfers, Wanted
from quorate.parts.log.replicated import Busy
from quorate.parts.quorum import Majority
from quorate.protocols.raft.following import LogFollower
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Conflict,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    RaftConfig,
    SnapshotProgress,
    Snapshotted,
)
from quorate.protocols.raft.replication import LogReplication
from quorate.protocols.raft.state import ServerState

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import CONFIG, NOTHING, effects, entry, log_of, noop, snapshotted


class Leading(Alone[LogReplication]):
    """Leads term 2 from now on."""

    def __init__(self, *records: HardState | Entries | Snapshotted, config: RaftConfig = CONFIG) -> None:
        self.config = config
        super().__init__(self.build)
        for record in (*records, HardState(2, 1)):
            self.state.restore(record)
        self.do(self.state.start)
        self.do(self.part.lead)
        self.first = self.do(self.part.advance)

    def build(self, env: Env) -> LogReplication:
        self.state = ServerState(env, self.config)
        self.reads = Reads(env, 10, 1.0)
        self.asked: list[tuple[int, Wanted]] = []
        transfers = Transfers(env, self.state.log, lambda source, wanted: self.asked.append((source, wanted)))
        return LogReplication(env, self.config, self.state, Majority(env.peers), self.reads, transfers)


def test_a_leadership_opens_with_an_entry_of_its_term_which_goes_to_all() -> None:
    leading = Leading(Entries(1, log_of([1])))
    assert leading.state.log.slice(2, 2) == [noop(2)]
    sent = AppendEntries(2, 1, 1, [noop(2)], 0)
    assert leading.first == effects(early=[((2, 3), sent)], sends=[(1, Appended(2, 2))])


def test_an_entry_is_committed_when_a_quorum_holds_it_its_own_disk_among_them() -> None:
    leading = Leading()
    leading.do(leading.part.on_appended, 2, Appended(2, 1))
    assert leading.do(leading.part.advance) == NOTHING
    leading.do(leading.part.on_appended, 1, Appended(2, 1))
    assert leading.do(leading.part.advance) == effects(early=[(2, Heartbeat(2, 1, 0))])
    assert leading.state.commit_index == 1
    assert leading.part.followers.match == {1: 1, 2: 1, 3: 0}


def test_replicas_of_an_earlier_term_do_not_count() -> None:
    """§3.6.2, figure 3.7."""
    leading = Leading(Entries(1, log_of([1, 1])))
    for node in (1, 2, 3):
        leading.do(leading.part.on_appended, node, Appended(2, 2))
    leading.do(leading.part.advance)
    assert leading.state.commit_index == 0
    for node in (1, 3):
        leading.do(leading.part.on_appended, node, Appended(2, 3))
    leading.do(leading.part.advance)
    assert leading.state.commit_index == 3


def test_a_conflict_goes_back_to_where_the_logs_may_agree() -> None:
    leading = Leading(Entries(1, log_of([1, 1, 1])))
    leading.do(leading.part.on_conflict, 3, Conflict(2, 3, 1, 1))
    sent = AppendEntries(2, 1, 1, leading.state.log.slice(2, 4), 0)
    assert leading.do(leading.part.advance) == effects(early=[(3, sent)])


def test_a_follower_behind_the_log_gets_the_snapshot_and_then_what_follows_it() -> None:
    leading = Leading(*snapshotted(5))
    leading.do(leading.part.on_conflict, 3, Conflict(2, 5, 0, 0))
    assert leading.do(leading.part.advance) == NOTHING
    assert leading.asked == [(1, Wanted(3, 0, 0, 5, 6))], "of the leader itself"
    leading.do(leading.part.on_snapshot_progress, 3, SnapshotProgress(2, 5, 20, True))
    assert leading.part.followers.match[3] == 5
    assert leading.do(leading.part.advance) == effects(early=[(3, AppendEntries(2, 5, 1, [noop(2)], 5))])


def test_a_follower_whose_snapshot_is_all_there_is_is_told_what_is_committed() -> None:
    leading = Leading(*snapshotted(5))
    for node in (1, 2):
        leading.do(leading.part.on_appended, node, Appended(2, 6))
    leading.do(leading.part.advance)
    leading.do(leading.state.compact, 6, 2, 6, 2)
    leading.do(leading.part.on_conflict, 3, Conflict(2, 5, 0, 0))
    leading.do(leading.part.advance)
    leading.do(leading.part.on_snapshot_progress, 3, SnapshotProgress(2, 6, 20, True))
    assert leading.do(leading.part.advance) == effects(early=[(3, Heartbeat(2, 6, 0))])


def test_what_a_heartbeat_told_is_not_told_again() -> None:
    leading = Leading()
    for node in (1, 2, 3):
        leading.do(leading.part.on_appended, node, Appended(2, 1))
    leading.state.commit(1)
    leading.do(leading.part.beat)
    assert leading.do(leading.part.advance) == NOTHING


def test_heartbeats_go_while_a_quorum_answers() -> None:
    leading = Leading()
    leading.now += 1.9
    turn = leading.do(leading.part.beat)
    assert leading.returned
    assert turn.early == effects(early=[(2, Heartbeat(2, 0, 1)), (3, Heartbeat(2, 0, 1))]).early
    leading.do(leading.part.on_heartbeat_reply, 3, HeartbeatReply(2, 1))
    leading.now += 1.9
    leading.do(leading.part.beat)
    assert leading.returned
    leading.now += 0.2
    assert leading.do(leading.part.beat) == NOTHING
    assert not leading.returned


def test_what_a_follower_owes_is_sent_again_after_two_heartbeats_without_progress() -> None:
    leading = Leading()
    leading.do(leading.part.beat)
    again = leading.do(leading.part.advance)
    assert again == effects(early=[((2, 3), AppendEntries(2, 0, 0, [noop(2)], 0))])


def test_too_much_without_a_quorum_is_refused_until_some_is_delivered() -> None:
    leading = Leading(config=RaftConfig(heartbeat_s=0.1, election_timeout_s_min=1.0, uncommitted_bytes_max=30))
    leading.do(leading.part.propose, [b"x" * 20])
    assert leading.do(leading.part.propose, [b"y"]).outputs == [Busy((b"y",), "too much is waiting for a quorum")]
    leading.do(leading.part.delivered, 36)
    assert leading.do(leading.part.propose, [b"y"]).records == effects(records=[Entries(3, [entry(2, "y")])]).records


def test_a_leadership_that_ends_stops_its_timer_and_forgets_its_followers() -> None:
    leading = Leading()
    assert leading.do(leading.part.resign) == effects(timers=[(HEARTBEAT, None)])
    assert not leading.part.followers


def following(*records: Entries | Snapshotted) -> tuple[Alone[LogFollower], ServerState]:
    states = []

    def build(env: Env) -> LogFollower:
        states.append(ServerState(env, CONFIG))
        return LogFollower(env, states[0])

    made = Alone(build)
    for record in (HardState(2, None), *records):
        states[0].restore(record)
    return made, states[0]


def test_a_follower_writes_then_acknowledges_once() -> None:
    made, state = following()
    turn = made.do(made.part.on_append_entries, 2, AppendEntries(2, 0, 0, [entry(2, "a"), entry(2, "b")], 1))
    assert turn == effects(records=[Entries(1, [entry(2, "a"), entry(2, "b")])])
    assert state.commit_index == 1
    assert made.do(made.part.settle, 2) == effects(sends=[(2, Appended(2, 2))])
    assert made.do(made.part.settle, 2) == NOTHING


def test_a_follower_commits_no_further_than_what_was_compared() -> None:
    made, state = following(Entries(1, log_of([1, 1])))
    made.do(made.part.on_append_entries, 2, AppendEntries(2, 0, 0, log_of([1]), 2))
    assert state.commit_index == 1


def test_a_follower_that_begins_to_follow_another_owes_it_nothing() -> None:
    made, _ = following()
    made.do(made.part.on_append_entries, 2, AppendEntries(2, 0, 0, [entry(2, "a")], 0))
    made.do(made.part.begin)
    assert made.do(made.part.settle, 3) == NOTHING


def test_a_follower_cuts_what_conflicts_and_refuses_what_does_not_join() -> None:
    made, state = following(Entries(1, log_of([1, 1])))
    assert made.do(made.part.on_append_entries, 2, AppendEntries(2, 4, 2, [], 0)) == effects(
        sends=[(2, Conflict(2, 4, 2, 1))]
    )
    turn = made.do(made.part.on_append_entries, 2, AppendEntries(2, 1, 1, [entry(2, "c")], 0))
    assert turn == effects(records=[Entries(2, [entry(2, "c")])])
    state.commit(2)
    turn = made.do(made.part.on_append_entries, 2, AppendEntries(2, 1, 1, [entry(1, "d")], 0))
    assert [blame.node for blame in turn.blames] == [2], "what is committed stays"
