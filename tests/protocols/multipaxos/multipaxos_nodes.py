"""Builders for tests of one node of Multi-Paxos: a state reached by honest steps, then one step, its exact effects."""

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Received, Turn
from quorate.kernel.standing import LEADER
from quorate.parts.log.configuration import encode_change
from quorate.parts.log.entries import CONFIGURATION, NOOP, Entry
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.messages import (
    Accepted,
    Heartbeat,
    Poll,
    PollReply,
    Prepare,
    Promise,
    Promised,
    Run,
    Voted,
)

from tests.protocols.stepped import THREE, SteppedNode

CONFIG = MultiPaxosConfig(heartbeat_s=0.1, election_timeout_s_min=1.0, alpha=8)


def entry(round_: int, data: str) -> Entry:
    """A command."""
    return Entry(round_, data.encode())


def entries(round_: int, data: str) -> list[Entry]:
    """Commands, one a letter."""
    return [entry(round_, letter) for letter in data]


def noop(round_: int) -> Entry:
    """What fills a gap."""
    return Entry(round_, b"", NOOP)


def members(round_: int, *nodes: int) -> Entry:
    """A configuration."""
    return Entry(round_, encode_change(nodes), CONFIGURATION)


class Node(SteppedNode):
    """Number 1 unless told."""

    def __init__(
        self,
        node: int = 1,
        peers: tuple[int, ...] = THREE,
        *,
        records: Sequence[Any] = (),
        config: MultiPaxosConfig = CONFIG,
        make: type[MultiPaxos] = MultiPaxos,
        seed: int = 0,
        incarnation: bytes = b"",
    ) -> None:
        super().__init__(
            lambda env: make(env, config), node, peers, records=records, seed=seed, incarnation=incarnation
        )

    @property
    def log(self) -> list[Entry]:
        """The entries that the log holds."""
        log = self.core.acceptor.log
        return list(log.slice(log.base_index + 1, log.last_index))

    def time_out(self) -> Turn:
        """The longest election time-out passes without a word."""
        return self.fire("election", 2 * CONFIG.election_timeout_s_min)

    def beat(self, after_s: float = CONFIG.heartbeat_s) -> Turn:
        """The heartbeat timer runs out."""
        return self.fire("heartbeat", after_s)


def messages(turn: Turn) -> list[Any]:
    """What leaves, early or after the disk."""
    return [send.message for send in (*turn.early, *turn.sends)]


def records(turn: Turn) -> list[Any]:
    """What is written."""
    return [record.value for record in turn.records]


def polling(**given: Any) -> Node:
    """Has asked whether it could lead."""
    node = Node(**given)
    turn = node.time_out()
    assert Poll(1, node.core.acceptor.chosen_index) in messages(turn)
    return node


def preparing(**given: Any) -> Node:
    """Has asked for promises; its own has not come back yet."""
    node = polling(**given)
    core = node.core
    for peer in core.env.others:
        if core.role == "polling":
            node.on(peer, PollReply(core._serial, True, (0, 0)))
    assert core.role == "preparing"
    return node


def leader(*found: Promise, **given: Any) -> Node:
    """Leads; ``found`` is what the first other acceptor promised, in parts, else that it accepted nothing."""
    node = preparing(**given)
    core = node.core
    ballot, first = core.ballot, core.acceptor.chosen_index + 1
    first_other = core.env.others[0]
    turn = node.on(core.env.id, Prepare(ballot, first))
    node.on(core.env.id, *[send.message for send in turn.sends])
    for peer in core.env.others:
        if core.role != LEADER:
            node.on(peer, *(found if peer == first_other and found else [Promise(ballot, first, [], 0)]))
    assert core.role == LEADER
    return node


def agreed(node: Node, *nodes: int) -> Turn:
    """These, and the leader's own disk, accept all there is, in one step."""
    core = node.core
    answer = Accepted(core.ballot, core.acceptor.log.last_index)
    return node.step(*[Received(peer, answer) for peer in (core.env.id, *nodes)])


def follower(of: int = 2, *, ballot: tuple[int, int] | None = None, **given: Any) -> Node:
    """Follows a leader that it heard just now."""
    node = Node(**given)
    node.on(of, Heartbeat(ballot or (1, of), 0, 0))
    assert node.core.leader == of
    return node


def voted(ballot: tuple[int, int], first: int, data: str, chosen: int = 0, round_: int | None = None) -> Voted:
    """A record of votes, one letter a slot."""
    return Voted(ballot, first, entries(ballot[0] if round_ is None else round_, data), chosen)


def run(ballot: tuple[int, int], first: int, data: str, round_: int | None = None) -> Run:
    """A run of a promise, one letter a slot."""
    return Run(ballot, first, entries(ballot[0] if round_ is None else round_, data))


def promised(ballot: tuple[int, int], chosen: int = 0) -> Promised:
    """A record of a promise."""
    return Promised(ballot, chosen)
