"""Any messages, in any order, from anybody: nothing raises, and what must never go back does not."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.kernel import Asked, Fired, HandOver, Input, Received, Stalled, Submitted
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.leaderlog.returns import Return
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import FOUNDERS_ALONE, Newcomer, Nodes, encode_change
from quorate.parts.log.entries import CONFIGURATION, NOOP, Entry
from quorate.parts.log.replicated import Chunk
from quorate.protocols.raft import RaftConfig
from quorate.protocols.raft.messages import (
    MESSAGES,
    Appended,
    AppendedAs,
    AppendEntries,
    AppendWithheld,
    Configured,
    Conflict,
    Entries,
    Forgot,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallCut,
    InstallSnapshot,
    InstallSnapshotAfter,
    InstallSnapshotAmong,
    PreVote,
    PreVoteReply,
    Propose,
    ReadReply,
    ReadRequest,
    RequestVote,
    RequestVoteWithLeave,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotPieceAfter,
    SnapshotPieceAmong,
    SnapshotProgress,
    TimeoutNow,
    Vote,
    Witness,
)
from quorate.protocols.raft.witnesses import withheld

from tests.protocols.any_order import HELPS, Watched, check_kept
from tests.protocols.every_message import assert_draws_all
from tests.protocols.raft.raft_nodes import Server, entry, log_of

CONFIG = RaftConfig(
    heartbeat_s=0.1,
    election_timeout_s_min=1.0,
    message_entries_max=3,
    message_bytes_max=64,
    inflight_messages_max=2,
    snapshot_entries=4,
    keep_entries=1,
    chunk_bytes=4,
    reads_pending_max=4,
    uncommitted_bytes_max=200,
)
SMALL = st.integers(0, 8)
NUMBER = st.one_of(SMALL, SMALL, SMALL, st.integers(0, 2**62 - 2))
TERM = st.one_of(SMALL, SMALL, SMALL, SMALL, st.integers(0, 2**40))
FOURTH = Newcomer(4, "n4:1")
CHANGES = [
    encode_change((1, 2), None),
    encode_change((2, 3), None),
    encode_change((3,), None),
    encode_change((1, 2, 3), None, [FOURTH]),
    encode_change((1, 4), None),
    encode_change((1, 2), None, [], [3]),
    encode_change((9,), None),
    encode_change((1, 2, 3), 7),
]
COMMANDS = st.builds(Entry, SMALL, st.just(b"v"), st.sampled_from([0, NOOP]))
CONFIGURATIONS = st.builds(Entry, SMALL, st.sampled_from([b"", b"?", *CHANGES]), st.just(CONFIGURATION))
ENTRIES = st.lists(st.one_of(COMMANDS, CONFIGURATIONS), max_size=5)
MEMBERS = st.sampled_from([(1, 2, 3), (2, 3), (1, 4), (4,), (9,), ()])
NODES = st.sampled_from(
    [FOUNDERS_ALONE, Nodes((FOURTH,)), Nodes((FOURTH,), (4,)), Nodes((), (2,)), Nodes((FOURTH, FOURTH))]
)
CONFIGURED = st.builds(Configured, SMALL, SMALL, MEMBERS, st.one_of(st.just(()), MEMBERS), NODES)
TOKENS = st.lists(NUMBER, max_size=3)
CHUNK = st.builds(Chunk, NUMBER, SMALL, NUMBER, st.just(b"data"), NUMBER)
WANTED = st.builds(Wanted, st.integers(0, 9), NUMBER, NUMBER, NUMBER, NUMBER)
INCARNATION = st.sampled_from([b"a", b"b"])
RETURNS = st.lists(st.builds(Return, st.integers(0, 4), INCARNATION, NUMBER), max_size=2).map(tuple)
MESSAGE = st.one_of(
    st.builds(PreVote, TERM, NUMBER, TERM),
    st.builds(PreVoteReply, TERM, st.booleans()),
    st.builds(RequestVote, TERM, NUMBER, TERM),
    st.builds(Vote, TERM, st.booleans()),
    st.builds(AppendEntries, TERM, SMALL, SMALL, ENTRIES, NUMBER),
    st.builds(AppendEntries, TERM, NUMBER, TERM, ENTRIES, NUMBER),
    st.builds(Appended, TERM, NUMBER),
    st.builds(Conflict, TERM, NUMBER, NUMBER, TERM),
    st.builds(Heartbeat, TERM, NUMBER, NUMBER),
    st.builds(HeartbeatReply, TERM, NUMBER),
    st.builds(InstallSnapshot, TERM, CHUNK),
    st.builds(SnapshotProgress, TERM, NUMBER, NUMBER, st.booleans()),
    st.builds(ServeSnapshot, TERM, WANTED),
    st.builds(SnapshotPiece, TERM, CHUNK),
    st.builds(Propose, st.lists(st.just(b"value"), max_size=3)),
    st.builds(ReadRequest, NUMBER, TOKENS),
    st.builds(ReadReply, NUMBER, TOKENS, NUMBER),
    st.builds(TimeoutNow, TERM),
    st.builds(RequestVoteWithLeave, TERM, NUMBER, TERM),
    st.builds(AppendedAs, TERM, NUMBER, INCARNATION, st.booleans()),
    st.builds(Forgot, TERM, INCARNATION, NUMBER),
    st.builds(InstallSnapshotAfter, TERM, CHUNK, RETURNS),
    st.builds(SnapshotPieceAfter, TERM, CHUNK, RETURNS),
    st.builds(InstallSnapshotAmong, TERM, CHUNK, RETURNS, CONFIGURED),
    st.builds(SnapshotPieceAmong, TERM, CHUNK, RETURNS, CONFIGURED),
    st.builds(NodesKnown, NODES),
    st.builds(AppendWithheld, TERM, SMALL, SMALL, ENTRIES, NUMBER),
    st.builds(InstallCut, TERM, NUMBER, TERM, RETURNS, CONFIGURED),
)
LOCAL: st.SearchStrategy[Input] = st.one_of(
    st.builds(Submitted, st.just((b"mine",))),
    st.builds(Submitted, st.tuples(st.sampled_from(CHANGES))),
    st.builds(Asked, st.tuples(SMALL)),
    st.sampled_from([Fired("heartbeat"), Fired("election"), Stalled("full"), Stalled(None), HandOver()]),
)
STEP = st.one_of(st.builds(Received, st.integers(0, 4), MESSAGE), LOCAL, st.sampled_from(HELPS))


class WatchedServer(Watched):
    """A server."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.voted: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}

    def agreement(self) -> list[Any]:
        core = self.node.core
        term = core.term
        return [
            PreVoteReply(term + 1, True),
            Vote(term + 1, True),
            Vote(term, True),
            Appended(term, core.log.last_index),
        ]

    def look(self) -> None:
        core, log = self.node.core, self.node.core.log
        self.only_forward(core.term, core.commit_index, core.state.delivered_index, log.base_index)
        assert core.state.delivered_index <= core.commit_index <= log.last_index
        if core.vote is not None:
            assert self.voted.setdefault(core.term, core.vote) == core.vote, "one vote a term"
        elif core.term in self.voted:
            raise AssertionError(f"the vote of term {core.term} is forgotten")
        check_kept(self.committed, log, core.commit_index)
        self.look_at_members(core)
        assert log.size_bytes == sum(e.size_bytes for e in log.slice(log.base_index + 1, log.last_index))

    def look_at_members(self, core: Any) -> None:
        """What it goes by is what its log and its snapshot say, however they came about."""
        log, configurations = core.log, core.state.configurations
        first = max(log.base_index, core.snapshot_index) + 1
        known = configurations.at(first - 1)
        for index, logged in enumerate(log.slice(first, log.last_index), first):
            if logged.kind == CONFIGURATION:
                known = known.after(index, logged, core.founders, 1)
        newest = configurations.newest
        assert (newest.index, newest.voters, newest.nodes) == (known.index, known.voters, known.nodes)
        assert configurations.committed is configurations.at(core.commit_index)
        assert {newcomer.node for newcomer in newest.nodes.joined} - set(newest.nodes.left) <= set(core.env.peers)


@settings(max_examples=250, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_nothing_raises_and_nothing_goes_back(steps: list[Any]) -> None:
    watched = WatchedServer(Server(term=2, log=[1, 1, 2], config=CONFIG))
    for step in steps:
        watched.take(step)


class WatchedWitness(WatchedServer):
    """The same of a server without state."""

    def look(self) -> None:
        super().look()
        core, log = self.node.core, self.node.core.log
        entries = log.slice(log.base_index + 1, log.last_index)
        assert core.role == "follower"
        assert withheld(entries) == entries
        assert not self.jobs


@settings(max_examples=100, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_a_witness_stays_one_whatever_comes(steps: list[Any]) -> None:
    records = [HardState(2, None), Witness(), Entries(1, withheld(log_of([1, 1, 2])))]
    watched = WatchedWitness(Server(node=3, records=records, config=CONFIG.but(founders=(1, 2))))
    for step in steps:
        watched.take(step)


def test_every_message_is_among_them() -> None:
    assert_draws_all(MESSAGE, MESSAGES)


def test_a_sender_outside_the_group_is_blamed() -> None:
    server = Server()
    turn = server.on(9, AppendEntries(9, 0, 0, [entry(9)], 1))
    assert [blame.node for blame in turn.blames] == [9]
    assert (server.core.term, server.log) == (0, [])
