"""ImageTransfer: snapshots from others, for a node that is too far behind for their logs (thesis §5.3).

Where others do not have the batches any more that a node lacks, they offer snapshots. One that f + 1 nodes name is that
of a correct node, and its root proves every piece.

The pieces come one after the other from one source. Each is checked before it is stored, so whatever was stored before
a source was left stays good, and the next one goes on from there. A source that sends anything else than the piece that
was asked for is blamed and left at once. One that sends nothing is left when its turn is over, after
``PATIENCE_BEATS`` beats. One that sends slowly is found out by comparison: in a transfer of several turns each node
that offers the snapshot gets one, and from then on the one that did most in its last. Both are suspected: a node that
is down or cut off looks the same. So a liar costs a turn when it is tried, or a later one if it was fast then; no
answer renews anybody's patience. Where all that are left were idle for most of their turns, as one is with whom nobody
can be compared, another snapshot is fetched from somebody who was not, if f + 1 nodes name one.

The thesis fetches partitions of the state by digests from all replicas, and checks each in the same way; here the state
is one file, which the application writes.

A node that joins knows the founders as the first members. Where these are gone it believes f + 1 of the nodes that it
was told of: that these are the cluster is its administrator's word. It does so until it has the state in which it was
introduced, since that is the time of which the administrator speaks. Before that it may know members of any epoch that
is over, of whom too few are left to bring it any further.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from quorate.kernel import Env, Failed
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.log.pieces import HASH_BYTES, count_of, is_proven, length_at
from quorate.parts.log.replicated import Piece, ReadPiece, WriteChunk, Written
from quorate.parts.quorum import Byzantine
from quorate.protocols.pbft.execution import Execution
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.history import TERM, History
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.messages import (
    OFFER,
    FetchImage,
    FetchLog,
    Image,
    ImagePiece,
    Offer,
    OfferAmong,
    PbftConfig,
    offer_among_statement,
    offer_statement,
)
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.view import CurrentView

PATIENCE_BEATS = 5
"""A source's turn; and how long a node waits for batches of which it has the digests."""
SERVE = "serve"
INSTALL = "install"

Still: TypeAlias = tuple[Image, Nodes]
"""A snapshot, and which nodes there are after it."""


class ImageTransfer:
    """The snapshot that is being fetched, and those that are served."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        founders: tuple[int, ...],
        view: CurrentView,
        history: History,
        execution: Execution,
        holding: Holding,
    ) -> None:
        self._env = env
        self._others = others
        self._founders = founders
        self._beat_s = config.beat_s
        self._view = view
        self._history = history
        self._execution = execution
        self._holding = holding
        self._asked_rest_at = float("-inf")
        self.offers: dict[int, tuple[Still, ...]] = {}
        """By node, the latest."""
        self.fetched: Still | None = None
        """What is being fetched."""
        self.serving: dict[int, Image] = {}
        """By node, the snapshot of which a piece is being read for it."""
        self.liars: set[int] = set()
        """Nodes that sent a wrong piece in this life: they are asked for no more."""
        is_newcomer = env.id not in founders
        self._told = Byzantine(env.others).weak if is_newcomer and env.others else None
        self.source = 0
        """Who is asked for pieces."""
        self.offset = 0
        """Where the next one begins."""
        self.writing: ImagePiece | None = None
        """What is being stored now."""
        self.storing: Image | None = None
        """The snapshot that it is of. Another may be fetched already."""
        # Of the transfer: pieces of each source in its last turn, and who has none to give.
        self._paces: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._idle: set[int] = set()
        """Sources that were so for most of their last turn, since a snapshot was installed."""
        # Of the source's turn.
        self._beats = 0
        self._idle_beats = 0
        self._stored = 0
        self._stored_at_beat = 0
        self._is_disk_slow = False

    # --- offers ---

    def offer(self, to: int, unreadable: Image | None = None) -> Offer | OfferAmong:
        """The snapshots that are here, but for one that cannot be read and those that are held for others."""
        history, held = self._history, self._holding.of(to)
        travels = [image for image in history.held if image.sequence == held]
        here = [*history.cut_off, *travels, *history.images]
        images = tuple(image for image in here if image != unreadable)
        nodes = tuple(history.nodes_at[image.sequence] for image in images)
        if any(nodes):
            return OfferAmong(images, nodes, self._view.prove(OFFER, offer_among_statement(images, nodes), to))
        return Offer(images, self._view.prove(OFFER, offer_statement(images), to))

    def send_offer(self, to: int) -> None:
        """To a node that cannot go on without a snapshot. The newest is held, as it may be the one that it fetches."""
        if self._history.images:
            self._holding.offered(to, self._history.images[-1])
        self._env.send(to, self.offer(to))

    def on_offer(self, sender: int, m: Offer) -> None:
        """Snapshots from before anybody joined or left."""
        self._offered(sender, [(image, FOUNDERS_ALONE) for image in m.images], offer_statement(m.images), m.proofs)

    def on_offer_among(self, sender: int, m: OfferAmong) -> None:
        """Snapshots with what became of the nodes."""
        if len(m.images) != len(m.nodes) or not all(nodes.may_be(self._founders) for nodes in m.nodes):
            self._others.blame(sender, "offers snapshots with nodes that cannot be")
            return
        offered = list(zip(m.images, m.nodes, strict=True))
        self._offered(sender, offered, offer_among_statement(m.images, m.nodes), m.proofs)

    def _offered(self, sender: int, offered: Sequence[Still], statement: bytes, proofs: tuple[bytes, ...]) -> None:
        """The latest offer of each node counts. A source that names the snapshot no more has dropped it."""
        if not self._view.is_proven(sender, OFFER, statement, proofs):
            self._others.blame(sender, "offers snapshots with a proof that is wrong")
            return
        self.offers[sender] = tuple(offered)
        if self.fetched is None:
            if not self._choose(sender) and any(image.sequence > self._history.executed for image, _ in offered):
                self._ask_rest(sender)
        elif sender == self.source and self.fetched not in offered:
            self._next_source(is_over=True)

    def _ask_rest(self, sender: int) -> None:
        """Others may name the same ones now; asked one by one, a beat apart, each might have newer ones by then."""
        if self._env.now - self._asked_rest_at >= self._beat_s:
            self._asked_rest_at = self._env.now
            rest = tuple(node for node in self._env.others if node != sender)
            self._env.send(rest, FetchLog(self._history.executed))

    def _choose(self, sender: int) -> bool:
        """The newest that is known, if there is one that can be fetched."""
        if known := self._known():
            self._begin(max(known, key=lambda still: still[0].sequence), sender)
        return self.fetched is not None

    def _known(self) -> list[Still]:
        """f + 1 nodes name the same snapshot: one of them is correct."""
        votes: dict[Still, int] = {}
        for node, stills in self.offers.items():
            for still in stills:
                votes[still] = votes.get(still, 0) | 1 << node
        executed = self._history.executed
        return [
            still
            for still, mask in votes.items()
            if still[0].sequence > executed and _is_in_pieces(still[0]) and self._are_believed(mask)
        ]

    def _begin(self, still: Still, sender: int) -> None:
        self.fetched = still
        self.offset = 0
        self._paces.clear()
        self._given_up.clear()
        sources = self._sources(still)
        active = [node for node in sources if node not in self._idle] or sources
        if active:
            self._begin_turn(sender if sender in active else active[0])
        else:
            self._end()

    def _are_believed(self, mask: int) -> bool:
        """Whether one of them is correct."""
        if self._told is not None and not self._is_introduced and self._told.is_quorum(mask):
            return True
        return self._view.group.quorum.weak.is_quorum(mask)

    @property
    def _is_introduced(self) -> bool:
        """Whether the state is that of a time when this node had joined."""
        return any(newcomer.node == self._env.id for newcomer in self._history.nodes.joined)

    # --- sources ---

    def _sources(self, still: Still | None) -> list[int]:
        """Who offers a snapshot, and may give pieces of it."""
        lost = self.liars | self._given_up
        return [node for node, stills in sorted(self.offers.items()) if still in stills and node not in lost]

    def _begin_turn(self, source: int) -> None:
        self.source, self._beats, self._idle_beats = source, 0, 0
        self._stored = self._stored_at_beat = 0
        self._is_disk_slow = self.writing is not None
        if self.writing is None:
            self._ask_piece()

    def _ask_piece(self) -> None:
        assert self.fetched is not None
        self._env.send(self.source, FetchImage(self.fetched[0].index, self.offset))

    def beat(self) -> None:
        """Ask again for what was lost, and judge the source when its turn is over."""
        assert self.fetched is not None
        if self.fetched[0].sequence <= self._history.executed:
            self._end()  # it was not needed
            return
        self._beats += 1
        self._idle_beats += self._is_idle
        if self._beats >= PATIENCE_BEATS:
            self._judge()
        elif self._is_idle:
            self._ask_piece()
        self._stored_at_beat = self._stored

    @property
    def _is_idle(self) -> bool:
        """Whether no piece came since the last beat, and it was for the source to send one."""
        return self.writing is None and self._stored == self._stored_at_beat

    def _judge(self) -> None:
        """The source's turn is over."""
        is_ours = not self._stored and (self._is_disk_slow or self.writing is not None)
        if is_ours:
            self._begin_turn(self.source)  # it is not the source that is late
            return
        self._idle.discard(self.source)
        if 2 * self._idle_beats > PATIENCE_BEATS:
            self._idle.add(self.source)
            self._others.suspect(self.source, "sends little or nothing of a snapshot that it offers")
        if self._stored:
            self._paces[self.source] = self._stored
        self._next_source(is_over=not self._stored)

    def _next_source(self, *, is_over: bool = False) -> None:
        """Each has a turn; then whoever did most in its last one. If nobody is left, wait for other offers."""
        if is_over:
            self._given_up.add(self.source)
        sources = self._sources(self.fetched)
        if self._idle.issuperset(sources) and (other := self._from_another()) is not None:
            self._begin(other, self.source)
            return
        if not sources:
            self._end()
            return
        untried = [node for node in sources if node not in self._paces]
        self._begin_turn(untried[0] if untried else max(sources, key=lambda node: (self._paces[node], -node)))

    def _from_another(self) -> Still | None:
        """The newest snapshot beside this one that somebody has who was not idle."""
        known = [
            still
            for still in self._known()
            if still != self.fetched and not self._idle.issuperset(self._sources(still))
        ]
        return max(known, key=lambda still: still[0].sequence, default=None)

    def _end(self) -> None:
        self.fetched = None
        self.offers.clear()

    # --- pieces ---

    def on_fetch_image(self, sender: int, m: FetchImage) -> None:
        """One piece at a time for each node. Who asks for what is not here any more is told what is."""
        if sender in self.serving:
            return
        image = next((image for image in self._history.stored if image.index == m.index), None)
        if image is None:
            self.send_offer(sender)
        elif _is_in_pieces(image):
            self._holding.fetches(sender, image)
            self.serving[sender] = image
            self._env.work((SERVE, sender), ReadPiece(m.index, m.offset, image.piece_bytes, image.root))

    def read(self, node: int, result: Any) -> None:
        """A piece was read for a node, or could not be: then it need not wait for it."""
        image = self.serving.pop(node)
        if isinstance(result, Piece):
            self._env.send(node, ImagePiece(result.chunk, result.proof))
        else:
            self._holding.release(node)
            self._env.send(node, self.offer(node, unreadable=image))

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        """Store it if it is what was asked for: f + 1 nodes named the root."""
        if self.fetched is None or sender != self.source or self.writing is not None:
            return
        image, chunk = self.fetched[0], m.chunk
        if chunk.index != image.index or chunk.offset != self.offset:
            return  # an answer that is late
        if not self._is_piece(image, m):
            self._is_lied_to(sender)
            return
        self.writing, self.storing = m, image
        job = WriteChunk(image.index, TERM, chunk.offset, chunk.data, image.size_bytes, image.digest)
        self._env.work(INSTALL, job)

    def _is_lied_to(self, sender: int) -> None:
        """The first false byte: the source is not asked again."""
        self._others.blame(sender, "sends a piece that is not in the snapshot")
        self.liars.add(sender)
        self._next_source()

    def _is_piece(self, image: Image, m: ImagePiece) -> bool:
        """Cheap checks first: a piece is long."""
        chunk, piece_bytes = m.chunk, image.piece_bytes
        if chunk.total_bytes != image.size_bytes:
            return False
        if len(chunk.data) != length_at(chunk.offset, image.size_bytes, piece_bytes):
            return False
        count, number = count_of(image.size_bytes, piece_bytes), chunk.offset // piece_bytes
        return is_proven(image.root, count, number, chunk.data, m.proof)

    def written(self, result: Any) -> None:
        """A piece was stored, or could not be: then it is asked for again at the next beat."""
        self.writing = self.storing = None
        if self.fetched is None:
            return
        image, nodes = self.fetched
        if isinstance(result, Failed):
            self._is_disk_slow = True
        elif isinstance(result, Written) and result.index == image.index:
            self._stored += 1
            self._history.note_piece()
            self.offset = result.next_offset
            if result.complete:
                self._install(image, nodes)
            else:
                self._ask_piece()

    def _install(self, image: Image, nodes: Nodes) -> None:
        """The state is that of the snapshot; the checkpoint that left this node behind proves what follows it."""
        self._end()
        self._idle.clear()
        history = self._history
        if image.sequence <= history.executed:
            return
        self._execution.install(image, nodes)
        if point_of(history.ahead)[0] > image.sequence:
            self._env.send(self.source, FetchLog(history.executed))  # others may have dropped what follows


def _is_in_pieces(image: Image) -> bool:
    return len(image.root) == HASH_BYTES and image.piece_bytes > 0 and image.size_bytes > 0
