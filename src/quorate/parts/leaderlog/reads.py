"""ReadIndex: linearizable reads without a log entry (dissertation §6.4).

The leader notes its commit index when a read comes, then makes sure that it still led *after* the read came: a round of
heartbeats that a quorum answers. Reads that come while a round is out join the next one; an answer to a round also
answers all earlier ones. Both ends are here: the rounds of a leader, and the reads a follower has asked about.
``Reads`` joins them in one node; which messages a round travels in is the protocol's.
"""

from collections import deque
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from quorate.kernel import Env
from quorate.parts.log.replicated import ReadFailed, ReadReady
from quorate.parts.quorum import QuorumSystem
from quorate.parts.votes.tally import Tally
from quorate.parts.wire import Index, Natural

TOKENS_PER_READ_MAX = 65_536


class ReadRequest(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Which index makes these reads of mine linearizable? (§6.4). ``nonce`` tells my lives apart."""

    nonce: Natural
    tokens: Annotated[list[Natural], Meta(max_length=TOKENS_PER_READ_MAX)]


class ReadReply(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Serve those reads once you have applied ``index``."""

    nonce: Natural
    tokens: Annotated[list[Natural], Meta(max_length=TOKENS_PER_READ_MAX)]
    index: Index


class ReadRequestOf:
    """Reads of one node that wait for a round: the node, its nonce and its tokens."""

    __slots__ = ("node", "nonce", "tokens")

    def __init__(self, node: int, nonce: int, tokens: tuple[int, ...]) -> None:
        self.node = node
        self.nonce = nonce
        self.tokens = tokens


class ReadRound:
    """One round of heartbeats: the commit index it will confirm, and who has answered."""

    __slots__ = ("acks", "number", "read_index", "requests")

    def __init__(self, number: int, read_index: int, quorum: QuorumSystem, requests: list[ReadRequestOf]) -> None:
        self.number = number
        self.read_index = read_index
        self.acks = Tally(quorum)
        self.requests = requests


class ReadRounds:
    """The leader's side. Rounds are numbered from 1 and never reused in one term."""

    __slots__ = ("_rounds", "number", "pending", "waiting")

    def __init__(self) -> None:
        self._rounds: deque[ReadRound] = deque()
        self.waiting: list[ReadRequestOf] = []
        """For a round to begin."""
        self.number = 1
        self.pending = 0

    def add(self, request: ReadRequestOf) -> None:
        """Have the request join the next round."""
        self.waiting.append(request)
        self.pending += len(request.tokens)

    def begin(self, read_index: int, quorum: QuorumSystem) -> int | None:
        """Open a round for what waits, if anything does; the number to put into its heartbeats."""
        if not self.waiting:
            return None
        self.number += 1
        self._rounds.append(ReadRound(self.number, read_index, quorum, self.waiting))
        self.waiting = []
        return self.number

    def release(self) -> list[ReadRequestOf]:
        """What waits for a round, taken out: no round is needed."""
        requests, self.waiting = self.waiting, []
        self.pending -= sum(len(request.tokens) for request in requests)
        return requests

    def answered(self, node: int, number: int) -> list[ReadRound]:
        """The node answered this round and so all before it; the rounds that are confirmed now, in order."""
        confirmed = 0
        for position, round_ in enumerate(self._rounds):
            if round_.number > number:
                break
            if round_.acks.add(node):
                confirmed = position + 1
        done = [self._rounds.popleft() for _ in range(confirmed)]
        for round_ in done:
            self.pending -= sum(len(request.tokens) for request in round_.requests)
        return done

    def drain(self) -> list[ReadRequestOf]:
        """Everything still waiting, taken out: this node leads no more."""
        requests = [request for round_ in self._rounds for request in round_.requests] + self.waiting
        self._rounds.clear()
        self.waiting = []
        self.pending = 0
        return requests


class ForwardedReads:
    """The follower's side: tokens asked of the leader, and those that wait for an index to be applied."""

    __slots__ = ("asked", "ready_at")

    def __init__(self) -> None:
        self.asked: dict[int, float] = {}
        """When, in the order of asking."""
        self.ready_at: list[tuple[int, tuple[int, ...]]] = []
        """What was confirmed, and from which index on it may be served."""

    def ask(self, tokens: tuple[int, ...], now: float) -> None:
        """These went to the leader."""
        self.asked.update(dict.fromkeys(tokens, now))

    def answer(self, tokens: list[int], index: int) -> None:
        """The leader's answer. Tokens that were not asked for are ignored."""
        known = tuple(token for token in tokens if self.asked.pop(token, None) is not None)  # once, if it comes twice
        if known:
            self.wait(known, index)

    def wait(self, tokens: tuple[int, ...], index: int) -> None:
        """These are confirmed, and may be served from that index on."""
        self.ready_at.append((index, tokens))

    def expired(self, before: float) -> tuple[int, ...]:
        """Tokens asked before that time, taken out: the question or its answer was lost, or refused."""
        expired = []
        for token, asked_at in self.asked.items():
            if asked_at >= before:
                break
            expired.append(token)
        for token in expired:
            del self.asked[token]
        return tuple(expired)

    def ready(self, applied_index: int) -> tuple[int, ...]:
        """The tokens that may be served at this index, taken out."""
        ready = [token for index, tokens in self.ready_at if index <= applied_index for token in tokens]
        self.ready_at = [waiting for waiting in self.ready_at if waiting[0] > applied_index]
        return tuple(ready)

    def drain(self) -> tuple[int, ...]:
        """Tokens without an answer, taken out: who was asked leads no more. Those that have one only wait to apply."""
        tokens = tuple(self.asked)
        self.asked.clear()
        return tokens


class Reads:
    """The reads of one node, which leads or follows. ``patience_s``: how long a question to the leader may take."""

    def __init__(self, env: Env, pending_max: int, patience_s: float) -> None:
        self._env = env
        self._pending_max = pending_max
        self._patience_s = patience_s
        self._nonce = env.rng.getrandbits(60)
        self._forwarded = ForwardedReads()
        self._delivered_index = 0
        self.rounds = ReadRounds()

    # --- at the leader ---

    def lead(self) -> None:
        """This node leads now: a leadership begins with fresh rounds."""
        self.rounds = ReadRounds()

    def resign(self) -> None:
        """It leads no more, and fails what it was asked from above. Who else asked gives up by itself."""
        for request in self.rounds.drain():
            if request.node == self._env.id:
                self._env.deliver(ReadFailed(request.tokens, "leadership was lost"))

    def take(self, tokens: Sequence[int]) -> None:
        """Reads from above, which wait for a round."""
        self._take(ReadRequestOf(self._env.id, self._nonce, tuple(tokens)))

    def take_from(self, sender: int, m: ReadRequest) -> None:
        """Reads of a follower join our own."""
        self._take(ReadRequestOf(sender, m.nonce, tuple(m.tokens)))

    def _take(self, request: ReadRequestOf) -> None:
        if self.rounds.pending + len(request.tokens) <= self._pending_max:
            self.rounds.add(request)
        elif request.node == self._env.id:
            self._env.deliver(ReadFailed(request.tokens, "too many reads wait for a quorum"))

    def confirm(self, node: int, number: int) -> None:
        """§6.4, step 4: what was asked before the round began may be served from the state at its index."""
        for round_ in self.rounds.answered(node, number):
            for request in round_.requests:
                self.serve(request, round_.read_index)

    def serve_waiting(self, index: int) -> None:
        """It is certain without a round that this node leads: serve what waits for one."""
        for request in self.rounds.release():
            self.serve(request, index)

    def serve(self, request: ReadRequestOf, index: int) -> None:
        """It is certain that the request may be served from the state at ``index``, once that is delivered.

        Usually it is. After a restart, or at the end of a partition, what is committed goes up in portions.
        """
        if request.node == self._env.id:
            if index <= self._delivered_index:
                self._env.deliver(ReadReady(request.tokens))
            else:
                self._forwarded.wait(request.tokens, index)
        else:
            # What is committed is durable at a quorum already.
            self._env.send_now(request.node, ReadReply(request.nonce, list(request.tokens), index))

    # --- at a follower ---

    def forward(self, tokens: Sequence[int], leader: int | None) -> None:
        """Reads from above, for whoever leads."""
        if leader is None or len(self._forwarded.asked) + len(tokens) > self._pending_max:
            self._env.deliver(ReadFailed(tuple(tokens), "no leader is known" if leader is None else "too many reads"))
        else:
            self._forwarded.ask(tuple(tokens), self._env.now)
            # A question; nothing durable is claimed.
            self._env.send_now(leader, ReadRequest(self._nonce, list(tokens)))

    def answered(self, m: ReadReply) -> None:
        """The leader's answer, unless it is for an earlier life of ours."""
        if m.nonce == self._nonce:
            self._forwarded.answer(m.tokens, m.index)

    def leader_changed(self) -> None:
        """Questions to the old one get no answer."""
        if tokens := self._forwarded.drain():
            self._env.deliver(ReadFailed(tokens, "the leader changed"))

    def refuse(self, why: str) -> None:
        """This node has no state to serve any from, and never will."""
        waiting = [token for _, tokens in self._forwarded.ready_at for token in tokens]
        self._forwarded.ready_at.clear()
        if tokens := (*self._forwarded.drain(), *waiting):
            self._env.deliver(ReadFailed(tokens, why))

    def settle(self, index: int, *, leads: bool) -> None:
        """Once a step. All up to ``index`` has been delivered: what waited for that is ready.

        A leader that lives confirms a read or steps down in that time, so what is older was lost.
        """
        self._delivered_index = index
        forwarded = self._forwarded
        if forwarded.ready_at and (tokens := forwarded.ready(index)):
            self._env.deliver(ReadReady(tokens))
        if forwarded.asked and not leads and (tokens := forwarded.expired(self._env.now - self._patience_s)):
            self._env.deliver(ReadFailed(tokens, "the leader did not answer"))
