"""ImageTransfer: snapshots from others, for a node that is too far behind for their logs (thesis §5.3).

Where others do not have the batches any more that a node lacks, they offer snapshots. One that f + 1 nodes name is that
of a correct node, and its digest proves the pieces.

A node that joins knows the founders as the first members. Where these are gone it believes f + 1 of the nodes that it
was told of, until it has a stable checkpoint: that these are the cluster is its administrator's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from quorate.kernel import Env, Failed
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.log.replicated import Chunk, ReadChunk, WriteChunk, Written
from quorate.parts.quorum import Byzantine
from quorate.protocols.pbft.execution import Execution
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.history import TERM, History
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
SERVE = "serve"
INSTALL = "install"

Still: TypeAlias = tuple[Image, Nodes]
"""A snapshot, and which nodes there are after it."""


class Patience:
    """How long this node has lacked something, and got no further."""

    def __init__(self) -> None:
        self._beats = 0

    def wait(self) -> None:
        """One more beat."""
        self._beats += 1

    @property
    def is_over(self) -> bool:
        """Whether it is time to ask somebody else, or for something else. True every fifth beat."""
        return self._beats % PATIENCE_BEATS == 0

    def reset(self) -> None:
        """It got further, or began anew."""
        self._beats = 0


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
        patience: Patience,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._founders = founders
        self._view = view
        self._history = history
        self._execution = execution
        self._patience = patience
        self.offers: dict[int, tuple[Still, ...]] = {}
        """By node, the latest."""
        self.fetched: Still | None = None
        """What is being fetched."""
        self.serving: set[int] = set()
        """Nodes for which a piece is being read."""
        is_newcomer = env.id not in founders
        self._told = Byzantine(env.others).weak if is_newcomer and env.others else None
        self._source = 0
        self._offset = 0
        self._is_writing = False

    # --- offers ---

    def offer(self) -> Offer | OfferAmong:
        """The snapshots that are here."""
        history = self._history
        images = tuple(history.images)
        nodes = tuple(history.nodes_at[image.sequence] for image in images)
        if any(nodes):
            return OfferAmong(images, nodes, self._view.prove(OFFER, offer_among_statement(images, nodes)))
        return Offer(images, self._view.prove(OFFER, offer_statement(images)))

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
        """f + 1 nodes that name the same snapshot: one of them is correct."""
        if self.fetched is not None:
            return
        if not self._view.is_proven(sender, OFFER, statement, proofs):
            self._others.blame(sender, "offers snapshots with a proof that is wrong")
            return
        self.offers[sender] = tuple(offered)
        votes: dict[Still, int] = {}
        for node, stills in self.offers.items():
            for still in stills:
                votes[still] = votes.get(still, 0) | 1 << node
        executed = self._history.executed
        known = [still for still, mask in votes.items() if still[0].sequence > executed and self._are_believed(mask)]
        if known:
            self.fetched = max(known, key=lambda still: still[0].sequence)
            self._begin(sender)

    def _are_believed(self, mask: int) -> bool:
        """Whether one of them is correct."""
        if self._told is not None and self._history.stable is None and self._told.is_quorum(mask):
            return True
        return self._view.group.quorum.weak.is_quorum(mask)

    # --- pieces ---

    def _begin(self, source: int) -> None:
        self._source, self._offset = source, 0
        self._patience.reset()
        self._ask_piece()

    def _ask_piece(self) -> None:
        assert self.fetched is not None
        self._env.send(self._source, FetchImage(self.fetched[0].index, self._offset))

    def nudge(self) -> None:
        """The source does not answer: ask again, then another one, then for newer offers."""
        if self._patience.is_over:
            self._give_up_source()
        elif not self._is_writing:
            self._ask_piece()

    def _give_up_source(self) -> None:
        """Another node may be honest, or alive. If none offers the same, wait for newer offers."""
        self.offers.pop(self._source, None)
        sources = [node for node, stills in sorted(self.offers.items()) if self.fetched in stills]
        if sources:
            self._begin(sources[0])
        else:
            self._end()

    def _end(self) -> None:
        self.fetched = None
        self.offers.clear()

    def on_fetch_image(self, sender: int, m: FetchImage) -> None:
        """One piece at a time for each node."""
        if sender not in self.serving and any(image.index == m.index for image in self._history.images):
            self.serving.add(sender)
            self._env.work((SERVE, sender), ReadChunk(m.index, m.offset, self._config.chunk_bytes))

    def read(self, node: int, result: Any) -> None:
        """A piece was read for a node."""
        self.serving.discard(node)
        if isinstance(result, Chunk):
            self._env.send(node, ImagePiece(result))

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        """Store it. The size and the digest are those that f + 1 nodes named."""
        chunk = m.chunk
        if self.fetched is None or sender != self._source or self._is_writing:
            return
        image = self.fetched[0]
        if chunk.index != image.index or chunk.offset != self._offset or chunk.total_bytes != image.size_bytes:
            return
        self._is_writing = True
        job = WriteChunk(image.index, TERM, chunk.offset, chunk.data, image.size_bytes, image.digest)
        self._env.work(INSTALL, job)

    def written(self, result: Any) -> None:
        """A piece was stored, or could not be."""
        self._is_writing = False
        if self.fetched is None:
            return
        image, nodes = self.fetched
        if isinstance(result, Failed):
            self._give_up_source()
        elif isinstance(result, Written) and result.index == image.index:
            self._patience.reset()
            self._offset = result.next_offset
            if result.complete:
                self._install(image, nodes)
            else:
                self._ask_piece()

    def _install(self, image: Image, nodes: Nodes) -> None:
        """The state is that of the snapshot; the checkpoint that left this node behind proves what follows it."""
        self._end()
        history = self._history
        if image.sequence <= history.executed:
            return
        self._execution.install(image, nodes)
        if point_of(history.ahead)[0] > image.sequence:
            self._env.send(self._others.any_one(), FetchLog(history.executed))
