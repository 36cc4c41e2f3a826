"""Asking: a toy log whose values its App makes and judges. It shows all that a core may ask of an App.

How it works. Values are decided one after the other, by height. Each height is tried in rounds, and each round has a
proposer, the nodes in turn. A node that enters a round joins it: it votes in no earlier one, and tells of its last yes.
When a majority has joined, the proposer proposes the value of the latest yes among them, or else asks its App to build
one. Every node asks its App to judge the proposal, and votes. A majority of yes decides, a majority of no or a timeout
ends the round: single-decree Paxos (Lamport 2001, "Paxos made simple") with a judge in front of each acceptor.
What is decided the App runs, in order with the questions, so that a question finds the state that it is about.

Durable: the decided values, the round that this node has joined, its last yes. A question is as volatile as its answer:
the next round asks again.
"""

from collections.abc import Iterator
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import Core, Env, Failed, Key
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided
from quorate.parts.quorum import Majority, QuorumSystem
from quorate.parts.votes.tally import Tally
from quorate.parts.wire import Natural

ROUND_S = 0.3
VALUE_BYTES_MAX = 65_536

Value: TypeAlias = Annotated[bytes, Meta(max_length=VALUE_BYTES_MAX)]
Yes: TypeAlias = tuple[Natural, Value]
"""A round and the value that a node accepted in it."""
NEVER: Yes = (0, b"")
Decided: TypeAlias = Decided
"""What the core delivers."""

# --- what the core asks of its App ---


class Build(msgspec.Struct, frozen=True):
    """Make the value for this height. Result: bytes."""

    height: int


class Judge(msgspec.Struct, frozen=True):
    """Whether this may be the value of this height. Result: bool."""

    height: int
    value: bytes


class Run(msgspec.Struct, frozen=True):
    """These are decided, from this height on: let them take effect. Result: None."""

    height: int
    values: tuple[bytes, ...]


# --- messages and records ---


class Join(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I vote in no earlier round of this height; this was my last yes."""

    height: Natural
    round: Natural
    voted: Yes


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    height: Natural
    round: Natural
    value: Value


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    height: Natural
    round: Natural
    value: Value
    yes: bool


class Chosen(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The value of this height is decided. Message and record."""

    height: Natural
    value: Value


class Entered(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: of the present height, this round was joined."""

    round: Natural


class Voted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: of the present height, this was voted on."""

    round: Natural
    value: Value
    yes: bool


class Asking(Core):
    """One node."""

    messages = (Join, Proposal, Vote, Chosen)
    records = (Chosen, Entered, Voted)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.quorum: QuorumSystem = Majority(env.peers)
        self.log: list[bytes] = []  # durable (Chosen)
        self.round = 0  # durable (Entered)
        self.voted = NEVER  # durable (Voted)
        self.joins = Tally(self.quorum)
        self.latest = NEVER  # yes of those that joined
        self.votes: dict[tuple[int, bool], Tally] = {}
        self.question: Build | Judge | None = None
        self.asked = 0

    @property
    def height(self) -> int:
        return len(self.log) + 1

    def restore(self, record: Chosen | Entered | Voted) -> None:
        if isinstance(record, Chosen):
            self.log.append(record.value)
            self.round, self.voted = 0, NEVER
        elif isinstance(record, Entered):
            self.round = record.round
        elif record.yes:
            self.voted = (record.round, record.value)

    def checkpoint(self) -> Iterator[Chosen | Entered | Voted]:
        yield from (Chosen(height, value) for height, value in enumerate(self.log, 1))
        yield Entered(self.round)
        yield Voted(*self.voted, yes=self.voted != NEVER)

    def start(self) -> None:
        if self.log:
            self.decided(1, self.log)
        self.enter(self.round + 1)  # this life knows nothing of what it proposed in the last one

    # --- rounds ---

    def enter(self, round: int) -> None:
        self.drop_question()
        self.round, self.joins, self.latest = round, Tally(self.quorum), NEVER
        self.env.persist(Entered(round))
        self.env.set_timer("round", self.env.rng.uniform(ROUND_S, 2 * ROUND_S))
        self.env.broadcast(Join(self.height, round, self.voted))

    def on_timer(self, key: Key) -> None:
        self.enter(self.round + 1)

    def on_join(self, sender: int, m: Join) -> None:
        if m.height < self.height:
            self.env.send(sender, Chosen(m.height, self.log[m.height - 1]))
        elif m.height == self.height and m.round >= self.round:
            if m.round > self.round:
                self.enter(m.round)
            self.latest = max(self.latest, m.voted)
            if self.joins.add(sender) and self.env.id == self.proposer(m):
                if self.latest == NEVER:
                    self.ask(Build(self.height))
                else:
                    self.env.broadcast(Proposal(self.height, self.round, self.latest[1]))

    def proposer(self, m: Join | Proposal) -> int:
        return self.env.peers[(m.height + m.round) % len(self.env.peers)]

    def on_proposal(self, sender: int, m: Proposal) -> None:
        if sender != self.proposer(m):
            self.env.blame(sender, "proposes in a round of another")
        elif m.height == self.height and m.round >= self.round:
            if m.round > self.round:
                self.enter(m.round)
            self.ask(Judge(m.height, m.value))

    def on_vote(self, sender: int, m: Vote) -> None:
        if m.height == self.height:
            is_quorum = self.votes.setdefault((m.round, m.yes), Tally(self.quorum)).add(sender)
            if is_quorum and m.yes:
                self.decide(m.value)
            elif is_quorum and m.round == self.round:
                self.enter(self.round + 1)

    def on_chosen(self, sender: int, m: Chosen) -> None:
        if m.height == self.height:
            self.decide(m.value)

    def decide(self, value: bytes) -> None:
        self.env.persist(Chosen(self.height, value))
        self.decided(self.height, [value])
        self.log.append(value)
        self.voted, self.votes = NEVER, {}
        self.enter(1)

    def decided(self, height: int, values: list[bytes]) -> None:
        self.env.deliver(Decided(height, tuple(Entry(0, value) for value in values)))
        self.env.work(("run", height), Run(height, tuple(values)))

    # --- the App's part ---

    def ask(self, question: Build | Judge) -> None:
        if question != self.question:  # else it came twice
            self.drop_question()
            self.asked += 1
            self.question = question
            self.env.work(("ask", self.asked), question)

    def drop_question(self) -> None:
        if self.question is not None:
            self.env.cancel_work(("ask", self.asked))
            self.question = None

    def on_done(self, key: Key, result: bytes | bool | Failed | None) -> None:
        question = self.question
        if question is None or key != ("ask", self.asked):
            return  # it was run, or the answer comes too late
        self.question = None
        if isinstance(question, Judge):
            self.vote(question.value, result is True)
        elif isinstance(result, bytes):
            self.env.broadcast(Proposal(self.height, self.round, result))
        # else the App has nothing to propose: the next proposer may

    def vote(self, value: bytes, yes: bool) -> None:
        if yes:
            self.voted = (self.round, value)
        self.env.persist(Voted(self.round, value, yes))  # before the vote leaves
        self.env.broadcast(Vote(self.height, self.round, value, yes))
