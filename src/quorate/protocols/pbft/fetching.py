"""Fetching: batches that were ordered and are not here, asked for by their digests.

A question is small and its answer may be large, so a node that only asks could keep others busy with answering. Each
is answered with so many bytes a beat; what it asks for beyond that it asks for again, and of another.

Whom to ask: some nodes have dropped what is missing here, have sent as much as they may, or are away, and each question
that is not answered costs a beat. So those are asked that left fewest unanswered, one of them by chance.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.kernel import Env
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import BatchOf, FetchBatch, PbftConfig, digest_of
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.view import CurrentView

FETCHED_MAX = 16
"""Batches that are asked for at a time."""
SERVED_BATCHES = 4
"""As many bytes as this many full batches have are sent to one node in a beat: 20 MB/s with the defaults."""
ANSWER_BYTES = 256
"""What an answer costs beside what is in it."""
UNANSWERED_MAX = 64
"""More unanswered questions are not counted: a node that was away for long is asked again before too long."""


class Allowance:
    """Bytes for each node, anew every so often. One answer may be larger than all of it, or it could never be given."""

    def __init__(self, env: Env, bytes_max: int, every_s: float) -> None:
        self._env = env
        self._bytes_max = bytes_max
        self._every_s = every_s
        self._spent: dict[int, tuple[float, int]] = {}
        """By node, since when and how much."""

    def grants(self, node: int, size_bytes: int) -> bool:
        """Whether the node is sent so much now."""
        now = self._env.now
        since, spent = self._spent.get(node, (now, 0))
        if now - since >= self._every_s:
            since, spent = now, 0
        cost = size_bytes + ANSWER_BYTES
        if spent and spent + cost > self._bytes_max:
            return False
        self._spent[node] = (since, spent + cost)
        return True


class Fetching:
    """What was asked for, and what others ask for."""

    def __init__(self, env: Env, others: Others, config: PbftConfig, view: CurrentView, log: MessageLog) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self.wanted: dict[bytes, tuple[float, int]] = {}
        """Digests, when they were asked for last, and of whom."""
        self._unanswered: dict[int, int] = {}  # by node: one more for each question without an answer, one less with
        self.allowance = Allowance(env, SERVED_BATCHES * config.batch_bytes_max, config.beat_s)
        """Of what others fetch: batches, and digests of them (``catch_up.py``)."""

    def fetch(self, digests: Iterable[bytes]) -> None:
        """Ask for those of these batches that this node lacks, each once a beat; for the first even without room."""
        now, beat_s = self._env.now, self._config.beat_s
        if self._view.stalled is not None or self._log.is_full or self._log.is_over:
            return
        for place, digest in enumerate(digests):
            if place and not self._log.has_room((len(self.wanted) + 1) * self._config.batch_bytes_max):
                return
            if digest in self._log.batches:
                continue
            if (asked := self.wanted.get(digest)) is not None:
                if now - asked[0] < beat_s:
                    continue
                self._give_up(digest)
            elif len(self.wanted) >= FETCHED_MAX:
                for late in [d for d, (at, _) in self.wanted.items() if now - at >= beat_s]:
                    self._give_up(late)
                if len(self.wanted) >= FETCHED_MAX:
                    return
            node = self.whom()
            self.wanted[digest] = (now, node)
            self._env.send(node, FetchBatch(digest))

    def _give_up(self, digest: bytes) -> None:
        """Nobody answered."""
        _, node = self.wanted.pop(digest)
        self._unanswered[node] = min(UNANSWERED_MAX, self._unanswered.get(node, 0) + 1)

    def whom(self) -> int:
        """The node to ask."""
        others, unanswered = self._env.others, self._unanswered
        fewest = min([unanswered.get(node, 0) for node in others], default=0)
        return self._others.any_one([node for node in others if unanswered.get(node, 0) == fewest])

    def on_fetch_batch(self, sender: int, m: FetchBatch) -> None:
        """Whoever has it answers, within limits."""
        batch = self._log.batches.get(m.digest)
        if batch is not None and self.allowance.grants(sender, sum(map(len, batch))):
            self._env.send(sender, BatchOf(batch))

    def on_batch_of(self, sender: int, m: BatchOf) -> None:
        """The digest says whether it is one that was asked for."""
        digest = digest_of(m.batch)
        if self._view.stalled is None and self.wanted.pop(digest, None) is not None:
            self._log.keep_batch(digest, m.batch)
            self._unanswered[sender] = max(0, self._unanswered.get(sender, 0) - 1)
