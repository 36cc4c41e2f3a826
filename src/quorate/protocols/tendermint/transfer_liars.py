"""Liars that aim at nodes which are behind: snapshots that nobody has, and pieces that are wrong, short, late or
missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec.structs import replace

from quorate.kernel import ROOT, Received, Send, Turn
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.tendermint.messages import CHECKPOINT, Here, ImagePiece, Offer, checkpoint_statement, digest_of
from quorate.sim.adversary.liar import Liar, Means


class OneWayEach(Liar):
    """Lies to each node in one of several ways, which is drawn when the node is first lied to."""

    WAYS: ClassVar[tuple[str, ...]]

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._ways: dict[int, str] = {}

    def way_with(self, node: int) -> str:
        """The way with this node."""
        if node not in self._ways:
            self._ways[node] = self.means.pick(self.WAYS)
        return self._ways[node]


class WrongPieces(OneWayEach):
    """Serves its snapshot to whoever is behind, each node in one way: pieces that are empty, single bytes, wrong bytes,
    with a wrong proof, or none at all, from the first one on or after some."""

    is_rare = needs_laggards = True
    name = "wrong-pieces"
    summary = "sends pieces of a snapshot that are wrong, short or missing"

    WAYS = ("empty", "drip", "poison", "unproven", "silent", "dries")

    def tell(self, send: Send) -> Iterable[Send]:
        """A piece, as its way with this node makes it."""
        m, means = send.message, self.means
        if type(m) is not ImagePiece or len(send.to) != 1:
            return (send,)
        way = self.way_with(send.to[0])
        means.count(self.name)
        if way == "silent" or (way == "dries" and m.chunk.offset):
            return ()
        return (Send(send.to, send.path, self._worse(m, way)),)

    def _worse(self, m: ImagePiece, way: str) -> ImagePiece:
        data = m.chunk.data
        if way == "unproven":
            return replace(m, proof=(*m.proof, bytes(32)))
        if way == "empty":
            data = b""
        elif way == "drip":
            data = data[:1]
        elif way == "poison" and data:
            at = self.means.pick(range(len(data)))
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return replace(m, chunk=replace(m.chunk, data=data))


class MadeUpImages(Liar):
    """Offers snapshots that nobody has, to whoever says how far it is."""

    is_rare = needs_laggards = True
    name = "false-offers"
    summary = "offers snapshots that it made up, with a quorum's signatures for another"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._behind: dict[int, int] = {}
        self.every_s = means.rng.uniform(0.2, 1.0)
        self._offered_at = float("-inf")

    def hear(self, item: Received) -> None:
        """Who is how far."""
        if type(item.message) is Here:
            self._behind[item.sender] = item.message.height

    def lie(self, turn: Turn) -> Turn:
        """The Turn, with an offer now and then."""
        told = super().lie(turn)
        sends = [*told.sends, *self._offers()]
        return replace(told, sends=sends) if len(sends) > len(told.sends) else told

    def _offers(self) -> Iterable[Send]:
        core, means = self.means.core, self.means
        true = core and core.checkpoints.offer()
        if true is None or means.now - self._offered_at < self.every_s:
            return
        self._offered_at = means.now
        for node, height in sorted(self._behind.items()):
            if node in core.env.others:
                means.count(self.name)
                yield Send((node,), ROOT, self._made_up(true, height))

    def _made_up(self, true: Offer, height: int) -> Offer:
        """The true one with another chain beside it, whose pieces everybody has, or one of a height that nobody has;
        its own signature is right."""
        means, image = self.means, true.image
        if image.height >= height and means.chance(0.7):
            image = replace(image, point=replace(image.point, app_hash=bytes(32)))
        else:
            ahead = height + means.rng.getrandbits(3)
            image = replace(image, height=ahead, root=bytes(32), point=replace(image.point, height=ahead))
        if means.chance(0.3):
            return replace(true, image=image)
        assert means.keys is not None
        statement = checkpoint_statement(image.height, digest_of(image))
        signatures: dict[int, Any] = dict(true.certificate.signatures)
        signatures[means.node] = means.keys.sign(CHECKPOINT, statement)
        certificate = Certificate(CHECKPOINT, statement, tuple(sorted(signatures.items())))
        return replace(true, image=image, certificate=certificate)


TRANSFER_LIARS = (WrongPieces, MadeUpImages)
