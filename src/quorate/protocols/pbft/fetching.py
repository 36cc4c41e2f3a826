"""Fetching: batches that were ordered and are not here, asked for by their digests.

A question is small and its answer may be large, so a node that only asks could keep others busy with answering. Each
is answered with so many bytes a beat; what it asks for beyond that it asks for again, and of another.
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
        self.wanted: dict[bytes, float] = {}
        """Digests, and when they were asked for last."""
        self.allowance = Allowance(env, SERVED_BATCHES * config.batch_bytes_max, config.beat_s)
        """Of what others fetch: batches, and digests of them (``catch_up.py``)."""

    def fetch(self, digests: Iterable[bytes]) -> None:
        """Ask for those of these batches that this node lacks, each once a beat; for the first even without room."""
        now, beat_s = self._env.now, self._config.beat_s
        if self._view.stalled is not None or self._log.is_full:
            return
        for place, digest in enumerate(digests):
            if place and not self._log.has_room((len(self.wanted) + 1) * self._config.batch_bytes_max):
                return
            if digest in self._log.batches or now - self.wanted.get(digest, float("-inf")) < beat_s:
                continue
            if len(self.wanted) >= FETCHED_MAX and digest not in self.wanted:
                self.wanted = {d: at for d, at in self.wanted.items() if now - at < beat_s}
                if len(self.wanted) >= FETCHED_MAX:
                    return
            self.wanted[digest] = now
            self._env.send(self._others.any_one(), FetchBatch(digest))

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
