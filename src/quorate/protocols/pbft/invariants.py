"""PBFT's invariants (Castro and Liskov, OSDI 1999, §4), looked at after every step of every honest node.

What an honest node holds as proven is verified anew, with a quorum that is computed here: prepared certificates and
stable checkpoints. Two honest nodes never have certificates of different batches for one (view, sequence number), nor
execute different batches at one sequence number, nor have different histories there. A batch is executed only once it
prepared in one and the same view at all the honest nodes that a quorum of commits must have (liars may say what they
like): prepares and commits of two views never add up. Once a batch was executed, no other prepares at its number in
that view or a later one. An honest primary does not go on to order a request that it has executed: a few times it may,
as a client may ask again for what no session remembers. An administrator may name the same members as often as it
likes: it signs the same bytes each time.

A promise is a view, the votes that left the node and the batches whose execution left it, to others or to its App: from
then on no crash may take them back. What a node executed, or holds as a stable checkpoint, in memory alone counts for
nothing yet: where its own vote made the quorum (of three nodes, two are one), a crash before that is on its disk takes
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from quorate.kernel import mask_of, nodes_of
from quorate.parts.log.pieces import is_proven
from quorate.parts.quorum import Byzantine
from quorate.parts.requests import decode_signed_request
from quorate.parts.votes.certificate import Certificate, verify
from quorate.protocols.pbft.transfer import PATIENCE_BEATS
from quorate.sim.checkers.base import Checker, Violation, Watched

PREPARED = "one prepared batch a view and number"
EXECUTED = "one executed batch a number"
COMMITTED = "one view commits what is executed"
SURVIVES = "what was executed stays"
CERTIFICATES = "certificates verify"
CHECKPOINTS = "equal checkpoints"
WATERMARKS = "water marks"
MONOTONY = "monotonic state"
MEMBERS = "equal members an epoch"
CAUSE = "no view change without a cause"
ONE_VOTE = "one vote a view and number"
ORDERED_ONCE = "no request is ordered for ever"
AGAIN_MAX = 24
"""Times that a node proposes what it has executed, of one request. Clients ask again seven times in a run at most."""
PIECES = "only proven pieces are stored"
TURNS = "a source that gives nothing is left"

TURNS_MAX = 3
"""Of a source, in which a node gets no further: one that began well and dried up, one with nothing, and the clock's."""

VoteCast = tuple[int, int, bytes]
"""View, sequence number, digest."""


class ExecutedBatch(NamedTuple):
    """A batch that a node executed, and where that leaves it if it is the last of a step."""

    sequence: int
    digest: bytes
    point: tuple[int, bytes] | None
    """Index and history."""


class Promise(NamedTuple):
    """What a Turn tells: the view and whether it has begun, what the node voted for, what it executed, and its stable
    checkpoints."""

    view: tuple[int, bool]
    votes: Sequence[VoteCast]
    executed: Sequence[ExecutedBatch]
    stable: Sequence[Certificate]


class SeenReplica:
    """What the checker last saw of one node, in this life."""

    __slots__ = (
        *("accepted", "again", "done", "executed", "fresh", "is_changing", "low", "prepared", "requests", "slots"),
        *("fetched_at", "fetching", "footing", "now", "proven", "stable", "view", "waited_s", "writing"),
    )

    def __init__(self) -> None:
        self.now: tuple[Any, ...] = ()
        """Group, view and checkpoints: one comparison instead of five."""
        self.view = 0
        self.is_changing = False
        self.accepted: dict[int, Any] = {}
        self.prepared: dict[int, Certificate] = {}
        self.fresh: list[VoteCast] = []
        self.done: list[ExecutedBatch] = []
        """What nobody was told yet."""
        self.proven: list[Certificate] = []
        """Stable checkpoints, likewise."""
        self.stable: Certificate | None = None
        self.low = 0
        self.footing: Certificate | None = None
        self.executed = 0
        self.requests: set[bytes] = set()
        """Those that it executed."""
        self.again: dict[bytes, int] = {}
        """How often it proposed one of them."""
        self.slots = 0
        self.writing: Any = None
        self.fetching: tuple[Any, int, int] | None = None
        """Which snapshot from whom, and from where on."""
        self.fetched_at = 0.0
        self.waited_s = 0.0
        """By its own clock, for that."""


class PbftInvariants(Checker):
    """All of them, over the whole run."""

    def __init__(self) -> None:
        self.decided: dict[int, bytes] = {}
        """By sequence number, the digest of the batch that was executed."""
        self.points: dict[int, tuple[int, bytes]] = {}
        """By sequence number, index and history after it."""
        self.members: dict[int, tuple[int, ...]] = {}
        """Who votes, by epoch."""
        self._began: dict[int, int] = {}
        """By epoch, after which checkpoint."""
        self._cores: dict[int, Any] = {}
        """By node, for its keyring, which grows as nodes join."""
        self._decided_in: dict[int, int] = {}
        self._prepared: dict[tuple[int, int], bytes] = {}
        self._prepared_last: dict[int, int] = {}
        """By sequence number, the last view in which anything prepared."""
        self._prepared_by: dict[tuple[int, bytes], dict[int, int]] = {}
        """By sequence number and digest, and by view: at which nodes, as a mask."""
        self._verified: set[Certificate] = set()
        self._seen: dict[int, SeenReplica] = {}
        self._promised: dict[int, tuple[int, bool]] = {}
        self._voted: dict[tuple[int, int, int], bytes] = {}

    # --- a node's life ---

    def started(self, node: int, core: Any) -> None:
        self._cores[node] = core
        self._seen[node] = SeenReplica()
        view, has_begun = self._promised.get(node, (0, False))
        number, is_changing = core.view.number, core.view.is_changing
        if (number, not is_changing) < (view, has_begun):
            raise Violation(
                MONOTONY, f"node {node} is back in {_view(number, is_changing)}, but was in {view} for others"
            )
        self.stepped(node, core)

    def mark(self, node: int) -> Promise:
        seen = self._seen[node]
        fresh, seen.fresh = seen.fresh, []
        done, seen.done = seen.done, []
        proven, seen.proven = seen.proven, []
        return Promise((seen.view, not seen.is_changing), fresh, done, proven)

    def released(self, node: int, mark: Promise) -> None:
        self._promised[node] = max(mark.view, self._promised.get(node, mark.view))
        for view, sequence, digest in mark.votes:
            known = self._voted.setdefault((node, view, sequence), digest)
            if known != digest:
                raise Violation(
                    ONE_VOTE, f"node {node} voted for {_hex(known)} and {_hex(digest)} at {sequence} in view {view}"
                )
        for executed in mark.executed:
            self._decided_now(node, executed)
        for certificate in mark.stable:
            self._same_point(node, *_point(certificate))

    def stepped(self, node: int, core: Any) -> None:
        seen = self._seen[node]
        view, log, history = core.view, core.log, core.history
        group = view.group
        now = (group, view.number, view.is_changing, history.stable, history.footing)
        if now != seen.now:
            seen.now = now
            self._standing_changed(node, seen, view, history)
        if log.prepared != seen.prepared:  # dicts compare faster than the loop runs, which is for what changed
            prepared = seen.prepared
            for sequence, certificate in log.prepared.items():
                if prepared.get(sequence) is not certificate:
                    prepared[sequence] = certificate
                    self._prepared_now(node, group.members, sequence, certificate)
        if history.executed != seen.executed:
            self._executed(node, seen, core)
        if log.accepted != seen.accepted:
            accepted = seen.accepted
            for sequence, vote in log.accepted.items():
                if accepted.get(sequence) is not vote:
                    self._voted_now(node, seen, sequence, vote)
                    if sequence > view.reach and group.primary(vote.view) == node:
                        self._proposed_now(node, core, sequence, log.batches.get(vote.digest, ()))
        if len(log.slots) != seen.slots:
            seen.slots = len(log.slots)
            self._in_window(node, core)
        transfer = core.transfer
        if transfer.writing is not seen.writing:
            seen.writing = transfer.writing
            if seen.writing is not None:
                self._stores(node, transfer)
        if transfer.fetched is not None or seen.fetching is not None:
            self._fetches(node, seen, core)

    def finish(self, world: Watched) -> None:
        if world.options.faults or world.options.byzantine or world.options.joins:
            return
        for node, seen in sorted(self._seen.items()):
            if seen.view:
                raise Violation(CAUSE, f"node {node} is in view {seen.view}, and nothing had failed")

    # --- what changed ---

    def _standing_changed(self, node: int, seen: SeenReplica, view: Any, history: Any) -> None:
        group = view.group
        members = self.members.setdefault(group.epoch, group.members)
        if members != group.members:
            raise Violation(
                MEMBERS, f"in epoch {group.epoch} node {node} knows members {group.members}, others {members}"
            )
        began_at = self._began.setdefault(group.epoch, group.began_at)
        if began_at != group.began_at:
            raise Violation(
                MEMBERS, f"epoch {group.epoch} begins at {group.began_at} for node {node}, at {began_at} for others"
            )
        if view.number != seen.view or view.is_changing != seen.is_changing:
            self._view_changed(node, seen, view)
        if history.stable is not seen.stable:
            self._stable_changed(node, seen, history)
        if history.footing is not seen.footing:
            self._footing_changed(node, seen, history)

    def _view_changed(self, node: int, seen: SeenReplica, view: Any) -> None:
        if (view.number, not view.is_changing) < (seen.view, not seen.is_changing):
            raise Violation(
                MONOTONY, f"node {node} goes back from {_view(seen.view, seen.is_changing)} to view {view.number}"
            )
        seen.view, seen.is_changing = view.number, view.is_changing

    def _stable_changed(self, node: int, seen: SeenReplica, history: Any) -> None:
        certificate, low = history.stable, history.low
        self._verify(node, certificate, self._members_at(low))
        if low < seen.low:
            raise Violation(MONOTONY, f"node {node}: its stable checkpoint goes back from {seen.low} to {low}")
        seen.stable, seen.low = certificate, low
        sequence, index, history = _point(certificate)
        if sequence in self.points:
            self._same_point(node, sequence, index, history)
        seen.proven.append(certificate)
        _forget(seen, 0, low)

    def _footing_changed(self, node: int, seen: SeenReplica, history: Any) -> None:
        seen.footing = history.footing
        if seen.footing is not None:
            last = _point(seen.footing)[0]
            self._verify(node, seen.footing, self._members_at(last))
            _forget(seen, history.high, last)

    def _members_at(self, sequence: int) -> tuple[int, ...]:
        """Who orders this number, and makes the checkpoint there after which others vote."""
        return self.members[max(epoch for epoch, began_at in self._began.items() if began_at < sequence)]

    def _executed(self, node: int, seen: SeenReplica, core: Any) -> None:
        history = core.history
        last = history.executed
        if last < seen.executed:
            raise Violation(MONOTONY, f"node {node} goes back from batch {seen.executed} to {last}")
        for sequence in range(seen.executed + 1, last + 1):
            digest = history.digests.get(sequence)
            if digest is None:
                continue  # a snapshot stands for it
            if sequence not in self.decided:
                self._committed(node, sequence, digest)
            point = (history.index, history.digest) if sequence == last else None
            executed = ExecutedBatch(sequence, digest, point)
            self._compare(node, executed)
            seen.done.append(executed)
            seen.requests.update(core.log.batches.get(digest, ()))
        seen.executed = last

    def _compare(self, node: int, executed: ExecutedBatch) -> None:
        """With what was executed there, and told."""
        sequence, digest = executed.sequence, executed.digest
        known = self.decided.get(sequence, digest)
        if known != digest:
            raise Violation(
                EXECUTED, f"node {node} executes {_hex(digest)} at {sequence}, where {_hex(known)} was executed"
            )
        if executed.point is not None and sequence in self.points:
            self._same_point(node, sequence, *executed.point)

    def _decided_now(self, node: int, executed: ExecutedBatch) -> None:
        """It is told: from now on it stays."""
        self._compare(node, executed)
        sequence, digest, point = executed
        self.decided[sequence] = digest
        if point is not None:
            self.points[sequence] = point
        if sequence not in self._decided_in and (views := self._views_of(sequence, digest)):
            self._decided_in[sequence] = view = min(views)
            last = self._prepared_last.get(sequence, -1)
            if last >= view:
                self._survives(node, sequence, last)

    def _committed(self, node: int, sequence: int, digest: bytes) -> None:
        """Who executes a batch before others say that it is done, does so by commits: of those whom nobody watches, and
        of those who prepared."""
        if _is_alone(self._members_at(sequence)) or self._views_of(sequence, digest):
            return
        views = self._prepared_by.get((sequence, digest), {})
        raise Violation(
            COMMITTED,
            f"node {node} executes {_hex(digest)} at {sequence}, which prepared at too few in any one view: "
            f"{ {view: nodes_of(who) for view, who in sorted(views.items())} }",
        )

    def _views_of(self, sequence: int, digest: bytes) -> list[int]:
        """The views in which it prepared at a quorum, if those whom nobody watches say so too.

        Whoever executes it may be in another one: others told it that it is done.
        """
        members = self._members_at(sequence)
        liars = mask_of([member for member in members if member not in self._cores])
        views, quorum = self._prepared_by.get((sequence, digest), {}), Byzantine(members)
        return [view for view, who in views.items() if quorum.is_quorum(who | liars)]

    def _same_point(self, node: int, sequence: int, index: int, history: bytes) -> None:
        known = self.points.setdefault(sequence, (index, history))
        if known != (index, history):
            raise Violation(
                CHECKPOINTS,
                f"node {node} has index {index} and history {_hex(history)} at {sequence}, others {known[0]} and "
                f"{_hex(known[1])}",
            )

    def _voted_now(self, node: int, seen: SeenReplica, sequence: int, vote: Any) -> None:
        earlier = seen.accepted.get(sequence)
        if earlier is not None and (earlier.view > vote.view or (earlier.view == vote.view and earlier != vote)):
            raise Violation(
                ONE_VOTE, f"node {node} votes for {_hex(vote.digest)} at {sequence} in view {vote.view} after {earlier}"
            )
        seen.accepted[sequence] = vote
        seen.fresh.append((vote.view, sequence, vote.digest))

    def _proposed_now(self, node: int, core: Any, sequence: int, batch: tuple[bytes, ...]) -> None:
        seen = self._seen[node]
        for value in batch:
            if value in seen.requests and not _is_by(core.config.admins, value):
                seen.again[value] = seen.again.get(value, 0) + 1
                if seen.again[value] > AGAIN_MAX:
                    raise Violation(
                        ORDERED_ONCE, f"node {node} proposes at {sequence} what it has proposed and executed before"
                    )

    def _prepared_now(self, node: int, members: tuple[int, ...], sequence: int, certificate: Certificate) -> None:
        self._verify(node, certificate, members)
        view, named, digest = _order(certificate)
        if named != sequence:
            raise Violation(CERTIFICATES, f"node {node} holds a certificate of {named} for {sequence}")
        if _is_alone(members):
            return
        views = self._prepared_by.setdefault((sequence, digest), {})
        views[view] = views.get(view, 0) | 1 << node
        known = self._prepared.setdefault((view, sequence), digest)
        if known != digest:
            raise Violation(
                PREPARED, f"in view {view} at {sequence} node {node} prepared {_hex(digest)}, another {_hex(known)}"
            )
        self._prepared_last[sequence] = max(view, self._prepared_last.get(sequence, view))
        if view >= self._decided_in.get(sequence, view + 1):
            self._survives(node, sequence, view)

    def _survives(self, node: int, sequence: int, view: int) -> None:
        digest = self._prepared[view, sequence]
        if digest != self.decided[sequence]:
            raise Violation(
                SURVIVES,
                f"{_hex(digest)} prepared at {sequence} in view {view}, where {_hex(self.decided[sequence])} was "
                f"executed in view {self._decided_in[sequence]}; node {node} sees both",
            )

    def _in_window(self, node: int, core: Any) -> None:
        log, low, window = core.log, core.history.low, core.config.window
        footing = low if core.history.footing is None else _point(core.history.footing)[0]
        for table in (log.slots, log.accepted, log.prepared):
            if any(not (low < s <= low + window or footing < s <= footing + window) for s in table):
                raise Violation(
                    WATERMARKS, f"node {node} works on {min(table)} to {max(table)}, its checkpoint is at {low}"
                )

    def _stores(self, node: int, transfer: Any) -> None:
        image = transfer.storing
        chunk, proof = transfer.writing.chunk, transfer.writing.proof
        count, number = -(-image.size_bytes // image.piece_bytes), chunk.offset // image.piece_bytes
        if chunk.offset % image.piece_bytes or not is_proven(image.root, count, number, chunk.data, proof):
            raise Violation(PIECES, f"node {node} stores what is no piece of the snapshot at {image.sequence}")

    def _fetches(self, node: int, seen: SeenReplica, core: Any) -> None:
        """How long it waits for one piece from one source. While it is paused it does not wait."""
        transfer, config, now = core.transfer, core.config, core.env.now
        fetching = None
        if transfer.fetched is not None:
            fetching = (transfer.fetched[0], transfer.source, transfer.offset)
        is_ours = transfer.writing is not None or core.view.stalled is not None
        if fetching != seen.fetching or fetching is None or is_ours:
            seen.fetching, seen.waited_s = fetching, 0.0
        else:
            seen.waited_s += min(now - seen.fetched_at, config.beat_s)
        seen.fetched_at = now
        if seen.waited_s > TURNS_MAX * PATIENCE_BEATS * config.beat_s:
            raise Violation(TURNS, f"node {node} waits {seen.waited_s:.1f} s for one piece from node {transfer.source}")

    def _verify(self, node: int, certificate: Certificate, members: tuple[int, ...]) -> None:
        if certificate in self._verified:
            return
        if not verify(certificate, self._cores[node].view.keys.keyring, Byzantine(members)):
            raise Violation(
                CERTIFICATES,
                f"node {node} holds a {certificate.context} certificate that proves nothing: {certificate}",
            )
        self._verified.add(certificate)


def _forget(seen: SeenReplica, above: int, last: int) -> None:
    """Votes at these numbers, which a checkpoint stands for."""
    for table in (seen.accepted, seen.prepared):
        for old in [sequence for sequence in table if above < sequence <= last]:
            del table[old]


def _is_alone(members: tuple[int, ...]) -> bool:
    """Alone a node has its certificates before they are on its disk, and tells nobody until they are."""
    return len(members) == 1


def _is_by(clients: tuple[bytes, ...], value: bytes) -> bool:
    """Whether the request is one of these clients'."""
    request = decode_signed_request(value) if clients else None
    return request is not None and request.client in clients


def _order(certificate: Certificate) -> tuple[int, int, bytes]:
    """View, sequence number and digest. The checker reads them by itself, not through the code under test."""
    data = certificate.statement
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big"), data[16:]


def _point(certificate: Certificate) -> tuple[int, int, bytes]:
    """Sequence number, index and history."""
    return _order(certificate)


def _hex(digest: bytes) -> str:
    return digest[:4].hex()


def _view(view: int, is_changing: bool) -> str:
    return f"view {view}, changing" if is_changing else f"view {view}"
