"""Transfers: how a snapshot travels, in pieces, to a follower that lags behind the log, and from which node.

How it works. The leader sees to it (``Transfers``). It sends its own snapshot first, and asks for each piece by its
offset, so that a transfer resumes after a crash of either end. The file that travels is held at its source, and at the
leader the log behind it (``compaction.py``), so that snapshots which are taken meanwhile do not make the transfer void;
a follower that begins while a file travels to another gets that file too, if the leader's log can follow it.

A *source* has a turn, which nothing prolongs but progress: more of the snapshot stored at the follower. If its turn
ends (its reads fail or hang, or its link to the follower carries heartbeats and no pieces), the leader asks the next
node that holds the log up to where its own begins. After the last it is the leader's turn again, and turns are twice as
long from then on: where all sources are slow, none is left too early for ever. Beats count in which the follower was
heard: one that is away is no fault of its source.

Any node can be a source (``Serving``), since a snapshot is durable and of committed entries only. It sends the newest
that it has, at an index of its own. The leader says from which index on its own log can follow it; a node whose
snapshots are older takes one. What the follower has stored of another snapshot is of no use then, unless index, term
and size agree; its store checks the whole file at its end.

The follower (``Receiving``) stores one piece at a time, whoever sent it. Nothing here is durable but what it stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

import msgspec
from msgspec.structs import replace

from quorate.kernel import Env, NodeId
from quorate.parts.leaderlog.compaction import Compactor
from quorate.parts.leaderlog.followers import Followers, Progress, Transfer
from quorate.parts.log.entries import Log
from quorate.parts.log.replicated import Chunk, ReadChunk, WriteChunk, Written
from quorate.parts.wire import Index, Natural

INSTALL = "install"
CHUNK = "chunk"

TRIES = 2
"""How often a source is asked for one piece in a turn that brings nothing."""
PATIENCE_BEATS = 10
"""Heartbeats without progress after which a piece is asked for again, at first."""
PATIENCE_BEATS_MAX = 16 * PATIENCE_BEATS
SERVED_MAX = 16
"""Followers for which a node reads pieces at the same time."""


class Wanted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A piece of a snapshot for ``node``: that at ``index``, from ``offset`` on, or else the newest from its beginning.

    It must be at ``first_index`` at least, and at ``last_index`` at most: what the leader's log can follow.
    """

    node: NodeId
    index: Index
    offset: Natural
    first_index: Index
    last_index: Index


class Compacted(Interface):
    """A log, and where the newest durable snapshot of what it holds stands."""

    log: Log
    snapshot_index: int


class Transfers:
    """The leader's side. ``ask(source, wanted)`` has a node send a piece. What it knows is in each Progress."""

    def __init__(self, env: Env, log: Log, ask: Callable[[int, Wanted], None]) -> None:
        self._env = env
        self._log = log
        self._ask_source = ask

    def begin(self, node: int, progress: Progress) -> None:
        """What the follower needs next is only in a snapshot."""
        progress.transfer = Transfer(self._env.id, self._log.base_index, PATIENCE_BEATS, self._env.now)
        self._ask(node, progress.transfer)

    def is_ours(self, progress: Progress | None) -> bool:
        """Whether it is for the leader itself to send the follower pieces."""
        return progress is not None and progress.transfer is not None and progress.transfer.source == self._env.id

    def progressed(self, node: int, followers: Followers, index: int, next_offset: int, complete: bool) -> None:
        """A follower says how far it has come: the next piece is asked for, or it has all and gets what follows."""
        progress = followers[node]
        progress.active_at = self._env.now
        transfer = progress.transfer
        if transfer is None:
            return
        if complete:
            if index >= self._log.base_index:
                progress.transfer = None
                followers.installed(node, index)
            elif index == transfer.index:  # the log behind it is gone: a newer one is needed
                transfer.index = transfer.next_offset = 0
                self._ask(node, transfer)
            return
        stored = next_offset - (transfer.next_offset if index == transfer.index else 0)
        if stored > 0:
            transfer.idle_beats = 0
        elif stored == 0 or index != transfer.index:
            return
        transfer.index, transfer.next_offset = index, next_offset
        self._ask(node, transfer)

    def beat(self, node: int, followers: Followers) -> None:
        """A heartbeat. After some without progress the piece is asked for again; in the end, of another source."""
        progress = followers[node]
        transfer = progress.transfer
        if transfer is None or progress.active_at <= transfer.heard_at:
            return
        transfer.heard_at = progress.active_at
        transfer.idle_beats += 1
        if transfer.idle_beats >= TRIES * transfer.patience_beats:
            self._turn_over(node, transfer, followers)
        elif transfer.idle_beats % transfer.patience_beats:
            return
        self._ask(node, transfer)

    def _turn_over(self, node: int, transfer: Transfer, followers: Followers) -> None:
        """The next of those who hold the log from its base on; after the last it is the leader's turn."""
        transfer.idle_beats = 0
        ours, base = self._env.id, self._log.base_index
        stateful = [other for other in sorted(followers) if not followers.stateless >> other & 1]
        holders = [other for other in stateful if other != node and followers.match[other] >= base]
        untried = holders if transfer.source == ours else [other for other in holders if other > transfer.source]
        if untried:
            transfer.source = untried[0]
        else:
            transfer.source = ours
            transfer.patience_beats = min(2 * transfer.patience_beats, PATIENCE_BEATS_MAX)

    def _ask(self, node: int, transfer: Transfer) -> None:
        log = self._log
        transfer.first_index = log.base_index
        self._ask_source(
            transfer.source, Wanted(node, transfer.index, transfer.next_offset, log.base_index, log.last_index)
        )


class Serving:
    """The pieces that a node reads for others: as the leader, or because its leader asked it to.

    ``number`` is the term or ballot of that leader. One piece is read at a time for each node; what was asked for last
    counts.
    """

    def __init__(self, env: Env, state: Compacted, compactor: Compactor, chunk_bytes: int) -> None:
        self._env = env
        self._state = state
        self._compactor = compactor
        self._chunk_bytes = chunk_bytes
        self._asked: dict[int, tuple[Any, Wanted]] = {}
        self._reading: dict[int, ReadChunk] = {}
        """By node; a read that hangs stays here."""

    def serve(self, number: Any, wanted: Wanted) -> None:
        """Read a piece for a node that is known here."""
        node = wanted.node
        if node not in self._env.others or (node not in self._reading and len(self._reading) >= SERVED_MAX):
            return
        self._asked[node] = number, wanted
        if node not in self._reading:
            self._read(node, wanted)

    def read(self, node: int, result: Any) -> tuple[Any, Wanted, Chunk] | None:
        """The job ended: for which leader, what was wanted, and the piece; None where there is none, or not yet."""
        number, wanted = self._asked[node]
        done = self._reading.pop(node)
        if not isinstance(result, Chunk):
            self._compactor.release(done.index)
            if done.index != self._state.snapshot_index:
                wanted = replace(wanted, offset=0)  # that snapshot was replaced by a newer one, most likely
                self._asked[node] = number, wanted
        if self._job(wanted) != done:
            self._read(node, wanted)
            return None
        del self._asked[node]
        return (number, wanted, result) if isinstance(result, Chunk) else None

    def _read(self, node: int, wanted: Wanted) -> None:
        job = self._job(wanted)
        if job is not None:
            self._compactor.hold(job.index, wanted.first_index)
            self._reading[node] = job
            self._env.work((CHUNK, node), job)
            return
        del self._asked[node]
        if self._state.snapshot_index < wanted.first_index:
            self._compactor.want(wanted.first_index)

    def _job(self, wanted: Wanted) -> ReadChunk | None:
        newest = self._state.snapshot_index
        if wanted.offset and wanted.first_index <= wanted.index <= newest:
            return ReadChunk(wanted.index, wanted.offset, self._chunk_bytes)
        for index in (*reversed(self._compactor.held), newest):
            if index and wanted.first_index <= index <= min(newest, wanted.last_index):
                return ReadChunk(index, 0, self._chunk_bytes)
        return None


class Receiving:
    """The follower's side: pieces are stored one at a time."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._is_storing = False

    def store(self, chunk: Chunk) -> bool:
        """Have a piece stored; False while another is being stored: then it is dropped."""
        if self._is_storing:
            return False
        self._is_storing = True
        work = WriteChunk(chunk.index, chunk.term, chunk.offset, chunk.data, chunk.total_bytes)
        self._env.work(INSTALL, work)
        return True

    def stored(self, result: Any) -> Written | None:
        """The job ended: how far the snapshot has come, or None where that failed."""
        self._is_storing = False
        return result if isinstance(result, Written) else None
