"""Liars that aim at nodes which catch up: at the messages of state transfer, from the worst moment on.

A node that is behind says so in its Status. These liars remember who is, volunteer as its source, and send what looks
like help: snapshots that cannot be had, pieces that are wrong, short, late or missing, and true proofs that come before
the laggard can tell who had to give them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from quorate.kernel import ROOT, Received, Send, Turn
from quorate.parts.log.replicated import Chunk
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.messages import (
    BatchOf,
    Decided,
    FetchBatch,
    FetchImage,
    FetchLog,
    Image,
    ImagePiece,
    LogOf,
    Offer,
    OfferAmong,
    Stable,
    Status,
)
from quorate.sim.adversary.liar import Liar, Means

LAGGARDS_MAX: Final = 64
HELP: Final = (Stable, LogOf, BatchOf, Offer, OfferAmong, ImagePiece, Decided)
"""What a node that is behind lives on."""


class LyingSource(Liar):
    """Offers its snapshots to whoever is behind, and sends pieces that are none.

    It is eager, and offers unasked and again and again; or it offers a few times, each a little later than honest nodes
    would, since the first source is whoever completes f + 1 offers.

    Towards each node it has one way: empty pieces, single bytes, wrong bytes, a wrong proof, wrong bytes in the last
    piece alone, silence, silence after some pieces, or every piece late.
    """

    is_rare = needs_laggards = True
    name = "lying-source"
    summary = "offers snapshots, and sends pieces that are wrong, short, late or missing"

    WRONG: Final = ("empty", "drip", "poison", "unproven", "last")
    LATE: Final = ("silent", "dries", "slow")
    WRONG_SHARE: Final = 0.8
    """Who sees a wrong piece asks that liar no more, so these are over soon."""
    OFFERS: Final = 3
    """How often it offers to a node that says it is behind, if it is not eager."""

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._ways: dict[int, str] = {}
        self._behind: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        self._offered_at: dict[int, float] = {}
        self.offers_every_s = means.rng.uniform(0.05, 0.5)
        self.late_s_max = 0.0 if means.chance(0.3) else means.rng.uniform(0.001, 0.02)
        """Within how long after it was asked it offers; 0: it is eager."""

    def hear(self, item: Received) -> None:
        """Who is how far behind, and who fell for it."""
        m = item.message
        if type(m) is Status and len(self._behind) < LAGGARDS_MAX:
            self._behind[item.sender] = m.executed
            self._offer_late(item.sender, m.executed)
        elif type(m) is FetchLog:
            self._offer_late(item.sender, m.after)
        elif type(m) is FetchImage:
            self._asked[item.sender] = self._asked.get(item.sender, 0) + 1

    def lie(self, turn: Turn) -> Turn:
        """The Turn, with offers for those who need one."""
        told = super().lie(turn)
        sends = [*told.sends, *self._volunteer()]
        return replace(told, sends=sends) if len(sends) > len(told.sends) else told

    def _offer_late(self, node: int, executed: int) -> None:
        if self.late_s_max and self._can_help(node, executed):
            offer = Send((node,), ROOT, self.means.core.transfer.offer(node))
            delays = (self.means.rng.uniform(0.0, self.late_s_max) for _ in range(self.OFFERS))
            self.means.delayed.extend((delay_s, offer) for delay_s in delays)

    def _volunteer(self) -> Iterable[Send]:
        means = self.means
        for node, executed in sorted(self._behind.items()):
            since = means.now - self._offered_at.get(node, float("-inf"))
            if not self.late_s_max and since >= self.offers_every_s and self._can_help(node, executed):
                self._offered_at[node] = means.now
                yield Send((node,), ROOT, means.core.transfer.offer(node))

    def _can_help(self, node: int, executed: int) -> bool:
        """Whether it has what that node lacks. It can prove nothing to nodes that it does not know."""
        core = self.means.core
        if core is None or not core.history.images or node not in core.env.peers:
            return False
        newest: int = core.history.images[-1].sequence
        return executed < newest

    def tell(self, send: Send) -> Iterable[Send]:
        """A piece, as its way with this node makes it. Offers leave in its own time."""
        m, means = send.message, self.means
        if type(m) in (Offer, OfferAmong) and self.late_s_max:
            return
        if type(m) is not ImagePiece or len(send.to) != 1:
            yield send
            return
        node = send.to[0]
        if node not in self._ways:
            self._ways[node] = means.pick(self.WRONG if means.chance(self.WRONG_SHARE) else self.LATE)
        way = self._ways[node]
        if way == "slow":
            means.count("pieces late")
            means.delayed.append((means.rng.uniform(0.5, 1.0), send))
        elif way == "silent" or (way == "dries" and self._asked.get(node, 0) > 2):
            means.count("transfers cut")
        elif (lie := _wrong(m, way)) is not None:
            means.count("pieces poisoned")
            yield Send(send.to, send.path, lie)
        else:
            yield send


def _wrong(m: ImagePiece, way: str) -> ImagePiece | None:
    """What is no piece of that snapshot, if it is not the same by chance; None where this way sends the right one."""
    chunk: Chunk = m.chunk
    other = m
    if way == "empty":
        other = replace(m, chunk=replace(chunk, data=b""))
    elif way == "drip":
        other = replace(m, chunk=replace(chunk, data=chunk.data[:1]))
    elif way == "unproven":
        other = replace(m, proof=m.proof[1:])
    elif way == "poison" or (way == "last" and chunk.offset + len(chunk.data) == chunk.total_bytes):
        other = replace(m, chunk=replace(chunk, data=bytes(byte ^ 1 for byte in chunk.data)))
    return None if other == m else other


class EarlyProofs(Liar):
    """Sends true proofs too early: checkpoints, and logs up to them, of members whom the laggard does not know yet.

    As a quorum of the earlier members may have signed them as well, they can look like proofs in its own epoch.
    """

    is_rare = True
    name = "early-proofs"
    summary = "sends checkpoints and logs of later epochs to whoever is behind"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._due: list[tuple[int, Any]] = []

    def hear(self, item: Received) -> None:
        """Who is behind, and where it stands."""
        m, core = item.message, self.means.core
        if core is None or core.history.stable is None or len(self._due) >= LAGGARDS_MAX:
            return
        history = core.history
        if type(m) is Status and m.stable < history.low:
            self._due.append((item.sender, Stable(history.stable)))
            if history.base <= m.executed < history.low:
                self._log(item.sender, m.executed, history)
        elif type(m) is FetchLog and history.base <= m.after < history.low:
            self._log(item.sender, m.after, history)

    def _log(self, node: int, after: int, history: Any) -> None:
        """All up to its own checkpoint, over whatever changes of members there are between."""
        last = point_of(history.stable)[0]
        digests = [history.digests.get(sequence) for sequence in range(after + 1, last + 1)]
        if None not in digests:
            self._due.append((node, LogOf(after, tuple(digests), history.stable)))

    def lie(self, turn: Turn) -> Turn:
        """The Turn, and first of all what is too early."""
        due, self._due = self._due, []
        told = super().lie(turn)
        if not due:
            return told
        for _ in due:
            self.means.count(self.name)
        return replace(told, sends=[*(Send((node,), ROOT, m) for node, m in due), *told.sends])

    def tell(self, send: Send) -> Iterable[Send]:
        """What would lead a laggard over the change step by step it keeps for itself."""
        return () if type(send.message) in (Stable, LogOf) else (send,)


class FalseOffers(Liar):
    """Names snapshots that nobody has: of other bytes, of other members, or far ahead."""

    is_rare = True
    name = "false-offers"
    summary = "offers snapshots that nobody has"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.3, 1.0)

    def tell(self, send: Send) -> Iterable[Send]:
        """An offer with one thing changed in each image, rightly signed."""
        means, m = self.means, send.message
        if type(m) not in (Offer, OfferAmong) or not m.images or not means.chance(self.rate):
            return (send,)
        means.count(self.name)
        images = tuple(map(self._other, m.images))
        return (Send(send.to, send.path, means.resign(replace(m, images=images))),)

    def _other(self, image: Image) -> Image:
        draw = self.means.rng.random()
        if draw < 0.2:
            return replace(image, root=bytes(32))
        if draw < 0.4:
            return replace(image, size_bytes=image.size_bytes + 1)
        if draw < 0.6:
            return replace(image, members=image.members[1:], epoch=image.epoch + 1)
        if draw < 0.8:
            return replace(image, sequence=image.sequence + 8, switch_at=image.sequence)
        return replace(image, history=bytes(32))


class Withholding(Liar):
    """Holds back what a node that is behind lives on, from some nodes: all of it or one kind, for ever or a while."""

    name = "withholding"
    summary = "holds back or delays what laggards need"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.victims = means.some(means.others)
        self.kinds = HELP if means.chance(0.5) else (means.pick(HELP),)
        self.delay_s = means.rng.uniform(0.2, 2.0) if means.chance(0.5) else None

    def tell(self, send: Send) -> Iterable[Send]:
        """To the others at once; to its victims late or never."""
        if type(send.message) not in self.kinds:
            yield send
            return
        spared = tuple(node for node in send.to if node not in self.victims)
        kept = tuple(node for node in send.to if node in self.victims)
        if spared:
            yield Send(spared, send.path, send.message)
        if kept:
            self.means.count(self.name)
            if self.delay_s is not None:
                self.means.delayed.append((self.delay_s, Send(kept, send.path, send.message)))


class Greedy(Liar):
    """Asks one node for batches that it needs not, many and again and again, so that it does nothing but answer."""

    name = "greedy"
    summary = "asks one node for batches that it does not need, without end"

    EVERY_S: Final = 0.05
    ASKED: Final = 64

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.victim = means.pick(means.others)
        self._again_at = 0.0

    def lie(self, turn: Turn) -> Turn:
        """The Turn, and questions of which each is answered by a batch."""
        means, told = self.means, super().lie(turn)
        if means.core is None or means.now < self._again_at:
            return told
        self._again_at = means.now + self.EVERY_S
        batches = means.core.log.batches
        largest = sorted(batches, key=lambda digest: (-sum(map(len, batches[digest])), digest))[:8]
        asked = [Send((self.victim,), ROOT, FetchBatch(means.pick(largest))) for _ in range(self.ASKED)]
        for _ in asked:
            means.count(self.name)
        return replace(told, sends=[*told.sends, *asked])


TRANSFER_LIARS: Final[tuple[type[Liar], ...]] = (LyingSource, EarlyProofs, FalseOffers, Withholding, Greedy)
