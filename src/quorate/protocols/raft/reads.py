"""ReadIndex: linearizable reads without a log entry (dissertation §6.4).

The leader notes its commit index when a read comes, then makes sure that it still led *after* the read came: a round of
heartbeats that a quorum answers. Reads that come while a round is out join the next one; an answer to a round also
answers all earlier ones. Both ends are here: the rounds of a leader, and the reads a follower has asked about.
"""

from collections import deque

from quorate.parts.quorum import QuorumSystem
from quorate.parts.tally import Tally


class ReadRequestOf:
    """Reads of one node that wait for a round: the node, its nonce and its tokens."""

    __slots__ = ("node", "nonce", "tokens")

    def __init__(self, node: int, nonce: int, tokens: tuple[int, ...]) -> None:
        self.node = node
        self.nonce = nonce
        self.tokens = tokens


class Round:
    """One round of heartbeats: the commit index it will confirm, and who has answered."""

    __slots__ = ("acks", "number", "read_index", "requests")

    def __init__(self, number: int, read_index: int, quorum: QuorumSystem, requests: list[ReadRequestOf]) -> None:
        self.number = number
        self.read_index = read_index
        self.acks = Tally(quorum)
        self.requests = requests


class ReadRounds:
    """The leader's side. Rounds are numbered from 1 and never reused in one term."""

    __slots__ = ("_quorum", "_rounds", "_waiting", "number", "pending")

    def __init__(self, quorum: QuorumSystem) -> None:
        self._quorum = quorum
        self._rounds: deque[Round] = deque()
        self._waiting: list[ReadRequestOf] = []
        self.number = 1
        self.pending = 0

    def add(self, request: ReadRequestOf) -> None:
        """Have the request join the next round."""
        self._waiting.append(request)
        self.pending += len(request.tokens)

    def begin(self, read_index: int) -> int | None:
        """Open a round for what waits, if anything does; the number to put into its heartbeats."""
        if not self._waiting:
            return None
        self.number += 1
        self._rounds.append(Round(self.number, read_index, self._quorum, self._waiting))
        self._waiting = []
        return self.number

    def answered(self, node: int, number: int) -> list[Round]:
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
        requests = [request for round_ in self._rounds for request in round_.requests] + self._waiting
        self._rounds.clear()
        self._waiting = []
        self.pending = 0
        return requests


class ForwardedReads:
    """The follower's side: tokens asked of the leader, and those that wait for an index to be applied."""

    __slots__ = ("_asked", "_ready_at")

    def __init__(self) -> None:
        self._asked: dict[int, float] = {}  # when, in the order of asking
        self._ready_at: list[tuple[int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, tokens: tuple[int, ...], now: float) -> None:
        """These went to the leader."""
        self._asked.update(dict.fromkeys(tokens, now))

    def answer(self, tokens: list[int], index: int) -> None:
        """The leader's answer. Tokens that were not asked for are ignored."""
        known = tuple(token for token in tokens if self._asked.pop(token, None) is not None)  # once, if it comes twice
        if known:
            self._ready_at.append((index, known))

    def expired(self, before: float) -> tuple[int, ...]:
        """Tokens asked before that time, taken out: the question or its answer was lost, or refused."""
        expired = []
        for token, asked_at in self._asked.items():
            if asked_at >= before:
                break
            expired.append(token)
        for token in expired:
            del self._asked[token]
        return tuple(expired)

    def ready(self, applied_index: int) -> tuple[int, ...]:
        """The tokens that may be served at this index, taken out."""
        if not self._ready_at:
            return ()
        ready = [token for index, tokens in self._ready_at if index <= applied_index for token in tokens]
        self._ready_at = [waiting for waiting in self._ready_at if waiting[0] > applied_index]
        return tuple(ready)

    def drain(self) -> tuple[int, ...]:
        """Tokens without an answer, taken out: who was asked leads no more. Those that have one only wait to apply."""
        tokens = tuple(self._asked)
        self._asked.clear()
        return tokens
