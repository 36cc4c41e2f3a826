"""ChainTransfer: snapshots from others, for a node that is behind what they remember.

A node that asks for heights which others have forgotten is offered their stable snapshot, with a quorum's word for it.
It fetches the pieces one after the other. Each is proven by the root (``parts/log/pieces.py``) before it is stored, so
what came from one source stays good with the next.

A source that sends anything else than the piece that was asked for is blamed, and asked no more. All others take turns,
each for ``TURN_BEATS`` beats, whether they send slowly or nothing: with f liars among them, an honest source is asked
most of the time.
"""

from __future__ import annotations

from typing import Any, Final

from quorate.kernel import Env, Failed
from quorate.parts.log.pieces import count_of, is_proven, length_at
from quorate.parts.log.replicated import Piece, ReadPiece, WriteChunk, Written
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.messages import FetchPiece, ImagePiece, Offer

TURN_BEATS: Final = 5
SERVE: Final = "serve"
INSTALL: Final = "install"


class ChainTransfer:
    """The snapshot that is being fetched, and the pieces that are read for others."""

    def __init__(self, env: Env, checkpoints: ChainCheckpoints) -> None:
        self._env = env
        self._checkpoints = checkpoints
        self._offered: set[int] = set()
        self.serving: set[int] = set()
        """Nodes for which a piece is being read."""
        self.fetched: Offer | None = None
        self.sources: list[int] = []
        """Who offered it; the first one is asked."""
        self.liars: set[int] = set()
        """Nodes that sent a wrong piece in this life: they are asked no more."""
        self.offset = 0
        """Where the next piece begins."""
        self._writing = False
        self._beats = 0

    def note(self) -> str:
        """For status pages; empty, if nothing is fetched."""
        if self.fetched is None:
            return ""
        return f"is behind, and fetches a snapshot: {self.offset} of {self.fetched.image.size_bytes} bytes"

    # --- for others ---

    def offer(self, to: int) -> None:
        """To a node that asks for what is forgotten here; once between two beats."""
        offer = self._checkpoints.offer()
        if offer is not None and to not in self._offered:
            self._offered.add(to)
            self._env.send(to, offer)

    def on_fetch_piece(self, sender: int, m: FetchPiece) -> None:
        """One at a time for each node."""
        image = next((image for image in self._checkpoints.images if image.height == m.height), None)
        if image is None:
            self.offer(sender)
        elif sender not in self.serving:
            self.serving.add(sender)
            self._env.work((SERVE, sender), ReadPiece(image.index, m.offset, image.piece_bytes, image.root))

    def read(self, node: int, result: Any) -> None:
        """A piece was read for a node, or could not be: it will ask another."""
        self.serving.discard(node)
        if isinstance(result, Piece):
            self._env.send(node, ImagePiece(result.chunk, result.proof))

    # --- from others ---

    def on_offer(self, sender: int, m: Offer, height: int) -> None:
        """``height``: the first one that this node has not decided. What it fetches stays, while somebody has it."""
        if m.image.height < height:
            if self._checkpoints.is_proven(m):
                self._checkpoints.learn(m)
            return
        if sender in self.liars:
            return
        if self.fetched is not None and m.image == self.fetched.image:
            if sender not in self.sources:
                self.sources.append(sender)
            return
        if not self._checkpoints.is_proven(m):
            self._env.blame(sender, "offers a snapshot that is not proven")
            return
        if self.fetched is None or (sender == self.sources[0] and m.image.height > self.fetched.image.height):
            self._begin(sender, m)  # who has the one that is fetched no more offers another

    def _begin(self, sender: int, m: Offer) -> None:
        self.fetched, self.sources, self.offset, self._beats = m, [sender], 0, 0
        self._ask()

    def _ask(self) -> None:
        if self.fetched is not None and self.sources and not self._writing:
            self._env.send(self.sources[0], FetchPiece(self.fetched.image.height, self.offset))

    def beat(self, height: int) -> None:
        """Ask again for what was lost, and the next source when a turn is over."""
        self._offered.clear()
        if self.fetched is None:
            return
        if self.fetched.image.height < height:
            self._end()  # it was not needed
            return
        self._beats += 1
        if self._beats >= TURN_BEATS:
            self._beats = 0
            self.sources.append(self.sources.pop(0))
        self._ask()

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        """Store it, if it is what was asked for."""
        if self.fetched is None or self._writing or not self.sources or sender != self.sources[0]:
            return
        image, chunk = self.fetched.image, m.chunk
        if (chunk.index, chunk.offset) != (image.index, self.offset):
            return  # an answer that is late
        if not self._is_piece(m):
            self._env.blame(sender, "sends a piece that is not in the snapshot")
            self.liars.add(sender)
            self.sources.remove(sender)
            if not self.sources:
                self._end()
            self._ask()
            return
        self._writing = True
        data, size, digest = chunk.data, image.size_bytes, image.digest
        self._env.work(INSTALL, WriteChunk(image.index, image.height, chunk.offset, data, size, digest))

    def _is_piece(self, m: ImagePiece) -> bool:
        """Cheap checks first: a piece is long."""
        assert self.fetched is not None
        image, chunk = self.fetched.image, m.chunk
        if chunk.total_bytes != image.size_bytes or chunk.term != image.height:
            return False
        if len(chunk.data) != length_at(chunk.offset, image.size_bytes, image.piece_bytes):
            return False
        count = count_of(image.size_bytes, image.piece_bytes)
        return is_proven(image.root, count, chunk.offset // image.piece_bytes, chunk.data, m.proof)

    def written(self, result: Any) -> Offer | None:
        """A piece was stored, or could not be, and is asked for again at the next beat; the snapshot, once it is
        whole."""
        self._writing = False
        if self.fetched is None or isinstance(result, Failed):
            return None
        assert isinstance(result, Written)
        if result.index != self.fetched.image.index:
            return None
        self.offset = result.next_offset
        if not result.complete:
            self._ask()
            return None
        whole = self.fetched
        self._end()
        return whole

    def _end(self) -> None:
        self.fetched, self.sources, self.offset = None, [], 0
