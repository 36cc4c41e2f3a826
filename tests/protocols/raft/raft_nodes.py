"""Builders for tests of one Raft server: a state reached by honest steps, then one step, then its exact effects."""

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Blame, Job, Record, Send, Turn
from quorate.kernel import Timer as TimerEffect
from quorate.kernel.standing import LEADER
from quorate.parts.log.entries import NOOP, Entry
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.raft.messages import (
    Appended,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    RequestVote,
    Snapshotted,
    Vote,
)

from tests.protocols.stepped import THREE, SteppedNode

CONFIG = RaftConfig(heartbeat_s=0.1, election_timeout_s_min=1.0)


def entry(term: int, data: str = "") -> Entry:
    """A command."""
    return Entry(term, data.encode())


def noop(term: int) -> Entry:
    """What a new leader appends."""
    return Entry(term, b"", NOOP)


def log_of(terms: Sequence[int]) -> list[Entry]:
    """Entries of these terms; index and term give the command, so logs that should match do."""
    return [entry(term, f"{index}.{term}") for index, term in enumerate(terms, 1)]


class Server(SteppedNode):
    """Number 1 unless told."""

    def __init__(
        self,
        node: int = 1,
        peers: tuple[int, ...] = THREE,
        *,
        term: int = 0,
        vote: int | None = None,
        log: Sequence[int] = (),
        records: Sequence[Any] = (),
        config: RaftConfig = CONFIG,
        make: type[Raft] = Raft,
        seed: int = 0,
        incarnation: bytes = b"",
    ) -> None:
        begin = [HardState(term, vote)] if term else []
        held = [Entries(1, log_of(log))] if log else []
        super().__init__(
            lambda env: make(env, config),
            node,
            peers,
            records=[*begin, *held, *records],
            seed=seed,
            incarnation=incarnation,
        )

    @property
    def log(self) -> list[Entry]:
        """The entries that the log holds."""
        log = self.core.log
        return list(log.slice(log.base_index + 1, log.last_index))

    @property
    def terms(self) -> list[int]:
        """Their terms."""
        return [e.term for e in self.log]

    def time_out(self) -> Turn:
        """The longest election time-out passes without a word."""
        return self.fire("election", 2 * CONFIG.election_timeout_s_min)

    def beat(self, after_s: float = CONFIG.heartbeat_s) -> Turn:
        """The heartbeat timer runs out."""
        return self.fire("heartbeat", after_s)


def effects(
    *,
    records: Sequence[Any] = (),
    early: Sequence[tuple[int | tuple[int, ...], Any]] = (),
    sends: Sequence[tuple[int | tuple[int, ...], Any]] = (),
    outputs: Sequence[Any] = (),
    timers: Sequence[tuple[str, float | None]] = (),
    jobs: Sequence[tuple[Any, Any]] = (),
    blames: Sequence[tuple[int, str]] = (),
) -> Turn:
    """A Turn of exactly these effects of the root core."""
    turn = Turn()
    if early:
        turn.early = [Send((to,) if isinstance(to, int) else to, (), message) for to, message in early]
    if records:
        turn.records = [Record((), record) for record in records]
    if sends:
        turn.sends = [Send((to,) if isinstance(to, int) else to, (), message) for to, message in sends]
    if timers:
        turn.timers = [TimerEffect((), key, at) for key, at in timers]
    if jobs:
        turn.jobs = [Job((), key, job) for key, job in jobs]
    if outputs:
        turn.outputs = list(outputs)
    if blames:
        turn.blames = [Blame(node, why) for node, why in blames]
    return turn


NOTHING = Turn()


def follower(leader: int = 2, *, term: int = 1, **given: Any) -> Server:
    """Follows a leader that it heard just now."""
    server = Server(term=term, **given)
    server.on(leader, Heartbeat(term, 0, 0))
    assert server.core.leader == leader
    return server


def precandidate(**given: Any) -> Server:
    """Has asked whether it could win."""
    server = Server(**given)
    server.time_out()
    return server


def candidate(**given: Any) -> Server:
    """Has asked for votes in the term after the given one; its own has not come back yet."""
    server = precandidate(**given)
    core = server.core
    for peer in core.env.others[: len(core.env.peers) // 2]:
        server.on(peer, PreVoteReply(core.term + 1, True))
    assert core.role == "candidate"
    return server


def leader(**given: Any) -> Server:
    """Leads the term after the given one; its no-op is on its way and on no disk yet."""
    server = candidate(**given)
    core = server.core
    server.on(server.node, RequestVote(core.term, core.log.last_index, core.log.last_term))
    for peer in core.env.peers[: len(core.env.peers) // 2 + 1]:
        server.on(peer, Vote(core.term, True))
    assert core.role == LEADER
    return server


def held(server: Server, *nodes: int) -> Any:
    """These nodes hold all of the leader's log; the last step's effects."""
    turn: Any = None
    for node in nodes:
        turn = server.on(node, Appended(server.core.term, server.core.log.last_index))
    return turn


def settled_leader(**given: Any) -> Server:
    """Leads, and everybody holds and has heard all there is."""
    server = leader(**given)
    core = server.core
    for peer in core.env.peers:
        server.on(peer, Appended(core.term, core.log.last_index))
        if peer != server.node:
            server.on(peer, HeartbeatReply(core.term, 1))
    assert core.commit_index == core.log.last_index
    return server


def snapshotted(index: int, term: int = 1, base_index: int | None = None) -> list[Any]:
    """Records of a server whose log begins after a snapshot."""
    base = index if base_index is None else base_index
    return [Snapshotted(index, term, base, term if base else 0)]
