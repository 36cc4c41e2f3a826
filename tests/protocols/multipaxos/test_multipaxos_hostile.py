"""Any messages, in any order, from anybody: nothing raises, and what must never go back does not."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.kernel import Asked, Fired, HandOver, Input, Received, Stalled, Submitted
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.leaderlog.proposals import Propose
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest
from quorate.parts.leaderlog.returns import Return, return_entry
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import Newcomer, Nodes, encode_change
from quorate.parts.log.entries import CONFIGURATION, NOOP, RETURN, Entry
from quorate.parts.log.replicated import Chunk
from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.multipaxos.messages import (
    MESSAGES,
    Accept,
    Accepted,
    AcceptedAs,
    Behind,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotAfter,
    InstallSnapshotAmong,
    Membership,
    Nack,
    Poll,
    PollReply,
    Prepare,
    PrepareWithLeave,
    Promise,
    PromiseAs,
    Run,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotPieceAfter,
    SnapshotProgress,
    TakeOver,
)

from tests.protocols.any_order import HELPS, Watched, check_kept
from tests.protocols.every_message import assert_draws_all
from tests.protocols.multipaxos.multipaxos_nodes import Node, voted

CONFIG = MultiPaxosConfig(
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
    alpha=4,
)
SMALL = st.integers(0, 9)
NUMBER = st.one_of(SMALL, SMALL, SMALL, st.integers(0, 2**62 - 2))
BALLOT = st.tuples(st.one_of(SMALL, SMALL, SMALL, st.integers(0, 2**62 - 1)), st.integers(0, 4))
FOURTH = Newcomer(4, "n4:1")
COMING = [
    encode_change((1, 2, 3), None, [FOURTH]),
    encode_change((2, 3, 4), None, [FOURTH], [1]),
    encode_change((1, 2), None, [], [3]),
    encode_change((1, 2), None, [], [3, 4]),
    encode_change((1, 2, 4)),
]
NODES = st.sampled_from(
    [
        Nodes((FOURTH,)),
        Nodes((), (3,)),
        Nodes((FOURTH,), (1, 2)),
        Nodes((FOURTH, FOURTH), (4,)),
        Nodes((FOURTH,), (4, 9)),
    ]
)
ENTRY = st.one_of(
    st.builds(Entry, SMALL, st.sampled_from([b"v", b"w"]), st.sampled_from([0, NOOP, RETURN])),
    st.builds(return_entry, SMALL, st.integers(0, 4), st.sampled_from([b"a", b"b"])),
    st.builds(
        Entry,
        SMALL,
        st.sampled_from([encode_change((1, 2)), encode_change((2, 3)), encode_change((9,)), *COMING, b"?"]),
        st.just(CONFIGURATION),
    ),
)
ENTRIES = st.lists(ENTRY, max_size=5)
TOKENS = st.lists(NUMBER, max_size=3)
INCARNATION = st.sampled_from([b"a", b"b"])
RETURNS = st.lists(st.builds(Return, st.integers(0, 4), INCARNATION, NUMBER), max_size=2).map(tuple)
CHUNK = st.builds(Chunk, NUMBER, SMALL, NUMBER, st.just(b"data"), NUMBER)
MEMBERSHIPS = st.lists(st.builds(Membership, NUMBER, st.sampled_from([(1, 2, 3), (1,), (), (9,)])), max_size=2).map(
    tuple
)
WANTED = st.builds(Wanted, st.integers(0, 9), NUMBER, NUMBER, NUMBER, NUMBER)
MESSAGE = st.one_of(
    st.builds(Poll, NUMBER, NUMBER),
    st.builds(PollReply, SMALL, st.booleans(), BALLOT),
    st.builds(Prepare, BALLOT, NUMBER),
    st.builds(Promise, BALLOT, SMALL, st.lists(st.builds(Run, BALLOT, NUMBER, ENTRIES), max_size=3), NUMBER),
    st.builds(Nack, BALLOT, BALLOT),
    st.builds(Accept, BALLOT, NUMBER, ENTRIES, NUMBER),
    st.builds(Accepted, BALLOT, NUMBER),
    st.builds(Behind, BALLOT, NUMBER),
    st.builds(Heartbeat, BALLOT, NUMBER, NUMBER),
    st.builds(HeartbeatReply, BALLOT, NUMBER),
    st.builds(InstallSnapshot, BALLOT, CHUNK, MEMBERSHIPS),
    st.builds(InstallSnapshotAmong, BALLOT, CHUNK, MEMBERSHIPS, NODES),
    st.builds(SnapshotProgress, BALLOT, NUMBER, NUMBER, st.booleans()),
    st.builds(ServeSnapshot, BALLOT, WANTED),
    st.builds(SnapshotPiece, BALLOT, CHUNK, MEMBERSHIPS, NODES),
    st.builds(Propose, st.lists(st.just(b"value"), max_size=3)),
    st.builds(ReadRequest, NUMBER, TOKENS),
    st.builds(ReadReply, NUMBER, TOKENS, NUMBER),
    st.builds(TakeOver, BALLOT),
    st.builds(PrepareWithLeave, BALLOT, NUMBER, BALLOT),
    st.builds(
        PromiseAs, BALLOT, SMALL, st.lists(st.builds(Run, BALLOT, NUMBER, ENTRIES), max_size=3), NUMBER, INCARNATION
    ),
    st.builds(AcceptedAs, BALLOT, NUMBER, INCARNATION, st.booleans()),
    st.builds(InstallSnapshotAfter, BALLOT, CHUNK, MEMBERSHIPS, NODES, RETURNS),
    st.builds(SnapshotPieceAfter, BALLOT, CHUNK, MEMBERSHIPS, NODES, RETURNS),
    st.builds(
        NodesKnown, st.sampled_from([Nodes(), Nodes((FOURTH,)), Nodes((FOURTH, FOURTH)), Nodes((FOURTH,), (4,))])
    ),
)
LOCAL: st.SearchStrategy[Input] = st.one_of(
    st.builds(Submitted, st.sampled_from([(b"mine",), (encode_change((1, 2)),)])),
    st.builds(Asked, st.tuples(SMALL)),
    st.sampled_from([Fired("heartbeat"), Fired("election"), Stalled("full"), Stalled(None), HandOver()]),
)
STEP = st.one_of(st.builds(Received, st.integers(0, 4), MESSAGE), LOCAL, st.sampled_from(HELPS))


class WatchedAcceptor(Watched):
    """A node with votes in its log, and a gap before the last."""

    def __init__(self) -> None:
        super().__init__(Node(records=[voted((1, 2), 1, "abc", 0), voted((1, 2), 5, "e", 1)], config=CONFIG))
        self.chosen: dict[int, Entry] = {}

    def agreement(self) -> list[Any]:
        core = self.node.core
        first, last = core.acceptor.chosen_index + 1, core.acceptor.log.last_index
        return [
            PollReply(core._serial, True, (0, 0)),
            Promise(core.ballot, first, [], 0),
            Accepted(core.ballot, last),
        ]

    def look(self) -> None:
        core, acceptor = self.node.core, self.node.core.acceptor
        log = acceptor.log
        self.only_forward(
            acceptor.promised, acceptor.chosen_index, core.delivered_index, log.base_index, acceptor.snapshot_index
        )
        assert core.delivered_index <= acceptor.chosen_index <= log.last_index
        assert acceptor.ballot <= acceptor.promised
        check_kept(self.chosen, log, acceptor.chosen_index)
        assert all(slot > log.last_index for slot in acceptor.ahead)
        assert acceptor._ahead_bytes == sum(entry.size_bytes for _, entry in acceptor.ahead.values())
        assert acceptor._ahead_bytes <= 1000, "bounded"
        assert len(core._preparation.found) <= 40, "bounded"


@settings(max_examples=250, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_nothing_raises_and_nothing_goes_back(steps: list[Any]) -> None:
    watched = WatchedAcceptor()
    for step in steps:
        watched.take(step)


def test_every_message_is_among_them() -> None:
    assert_draws_all(MESSAGE, MESSAGES)


def test_a_sender_outside_the_group_is_blamed() -> None:
    turn = Node().on(9, Accept((9, 9), 1, [Entry(9, b"x")], 1))
    assert [blame.node for blame in turn.blames] == [9]
    assert turn.records == ()


def test_a_ballot_of_another_node_is_blamed() -> None:
    for message in (
        Prepare((1, 3), 1),
        Prepare((0, 2), 1),
        Accept((1, 3), 1, [], 0),
        Heartbeat((0, 2), 0, 0),
        InstallSnapshot((1, 3), Chunk(1, 1, 0, b"", 0), ()),
        Nack((1, 2), (2, 2)),
        Nack((1, 1), (1, 1)),
    ):
        node = Node()
        turn = node.on(2, message)
        assert [blame.node for blame in turn.blames] == [2], message
        assert turn.records == turn.sends == turn.outputs == ()


def test_rounds_end_somewhere() -> None:
    node = Node()
    node.on(2, Nack((1, 1), (2**62 - 1, 2)))
    node.time_out()
    assert node.on(3, PollReply(1, True, (0, 0))).records == ()
