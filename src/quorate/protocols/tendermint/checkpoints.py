"""ChainCheckpoints: snapshots of the state at heights that all nodes agree on, and a quorum's word for them.

When a height is due follows from the decided blocks alone: so many heights, or bytes, after the one before. Each node
takes a snapshot there, if it can, and signs what it is: the file, by the root of its pieces, and where the chain stood.
Signatures of more than two thirds of the power make it *stable*: it convinces a node that is behind, and when the next
one is taken, everything before it is forgotten.

A node whose disk had no room has no snapshot of that height, and signs none. Nobody waits for it.

Durable: ``Taken`` (a snapshot), ``Stable`` (a quorum's word for one).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from quorate.kernel import Env, mask_of
from quorate.ledger.comet.commits import COMMIT, block_time
from quorate.ledger.comet.verification import verify_commit
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import SnapshotInfo, TakeCommonSnapshot
from quorate.parts.votes.certificate import Certificate, verify
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import (
    CHECKPOINT,
    Checkpoint,
    Image,
    Offer,
    Stable,
    Taken,
    TendermintConfig,
    checkpoint_statement,
    digest_of,
)
from quorate.protocols.tendermint.named_blocks import id_of

SNAPSHOT: Final = "snapshot"
HEARD_MAX: Final = 4
"""Checkpoints of one node that are kept: the latest."""


class ChainCheckpoints:
    """The snapshots of this node, oldest first, and what others say of theirs."""

    def __init__(self, env: Env, config: TendermintConfig, keys: Keys, chain: Chain, log: DecidedLog) -> None:
        self._env = env
        self._config = config
        self._keys = keys
        self._chain = chain
        self._log = log
        # Durable.
        self.images: list[Image] = []
        self.certificate: Certificate | None = None
        """Of the latest of them that is stable."""
        # Volatile.
        self._heights = self._bytes = 0  # since the last height that was due
        self._commits: dict[int, bytes] = {}  # of the images' blocks, by height
        self._taking: Image | None = None  # but for its file
        self._heard: dict[int, dict[int, tuple[bytes, bytes]]] = {}  # by node and height: digest and signature

    @property
    def stable(self) -> Image | None:
        """The latest that is stable."""
        if self.certificate is None:
            return None
        return next((image for image in self.images if _is_of(self.certificate, image)), None)

    # --- ours ---

    def is_due(self, size_bytes: int) -> bool:
        """After a block of this size. To be asked after every block, those of a recovered log too."""
        self._heights += 1
        self._bytes += size_bytes
        if self._heights < self._config.snapshot_heights and self._bytes < self._config.snapshot_bytes:
            return False
        self._heights = self._bytes = 0
        return True

    def take(self, index: int) -> bool:
        """Of the state as it is, at a height that is due; whether one is taken. Outputs of this Turn must end here."""
        point = self._chain.point()
        if self._taking is not None or any(image.height == point.height for image in self.images):
            return False
        piece_bytes = self._config.chunk_bytes
        self._taking = Image(point.height, index, 0, bytes(32), bytes(32), piece_bytes, point)
        self._commits[point.height] = COMMIT.encode(self._chain.last_commit)
        keep = self.stable.index if self.stable else 0
        self._env.work(SNAPSHOT, TakeCommonSnapshot(index, point.height, keep, piece_bytes=piece_bytes))
        return True

    def taken(self, result: Any) -> None:
        """It is durable; or it is not, and the next one may be."""
        image, self._taking = self._taking, None
        if image is None or not isinstance(result, SnapshotInfo) or result.index != image.index:
            return
        if self.images and self.images[-1].height > image.height:
            return  # a later one came from others meanwhile
        image = replace(image, size_bytes=result.size_bytes, digest=result.digest, root=result.root)
        self._env.persist(Taken(image, False, self._commits[image.height]))
        self._keep(image)
        self.resend()
        self._look()

    def _keep(self, image: Image) -> None:
        """What is before the one that was stable until now is needed by nobody."""
        low = self.stable.height if self.stable else 0
        self.images = [*[old for old in self.images if old.height >= low], image]
        kept = {old.height for old in self.images}
        self._commits = {height: commit for height, commit in self._commits.items() if height in kept}
        self._log.drop(low)

    def resend(self) -> None:
        """Our word for the newest, unless that is stable."""
        own = self._own()
        if own is not None:
            self._env.send(self._env.others, own)

    def _own(self) -> Checkpoint | None:
        if not self.images or self.images[-1] == self.stable or not self._chain.committee.has(self._env.id):
            return None
        height, digest = self.images[-1].height, digest_of(self.images[-1])
        own = Checkpoint(height, digest, self._keys.sign(CHECKPOINT, checkpoint_statement(height, digest)))
        self._hear(self._env.id, own)
        return own

    # --- of others ---

    def on_checkpoint(self, sender: int, m: Checkpoint) -> None:
        """A node has a snapshot. Who has not heard yet that it is stable is told so."""
        stable = self.stable
        if stable is not None and m.height <= stable.height:
            offer = self.offer()
            if m.height == stable.height and offer is not None:
                self._env.send(sender, offer)
            return
        if not self._chain.committee.has(sender):
            return
        if self._heard.get(sender, {}).get(m.height, (b"", b""))[0] == m.digest:
            return
        if not self._keys.verify(sender, CHECKPOINT, checkpoint_statement(m.height, m.digest), m.signature):
            self._env.blame(sender, "sent a checkpoint that it did not sign")
            return
        self._hear(sender, m)
        self._look()

    def _hear(self, node: int, m: Checkpoint) -> None:
        its = self._heard.setdefault(node, {})
        its[m.height] = (m.digest, m.signature)
        while len(its) > HEARD_MAX:
            del its[min(its)]

    def _look(self) -> None:
        """Whether a quorum has the same as we have."""
        if not self.images or self.images[-1] == self.stable:
            return
        height, digest = self.images[-1].height, digest_of(self.images[-1])
        votes = {node: its[height][1] for node, its in self._heard.items() if its.get(height, (b"", b""))[0] == digest}
        if self._chain.committee.quorum.is_quorum(mask_of(tuple(votes))):
            statement = checkpoint_statement(height, digest)
            self._settle(Certificate(CHECKPOINT, statement, tuple(sorted(votes.items()))))

    def _settle(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self._env.persist(Stable(certificate))
        low = self.stable.height if self.stable else 0
        for its in self._heard.values():
            for height in [height for height in its if height <= low]:
                del its[height]

    def offer(self) -> Offer | None:
        """The latest that is stable, for others."""
        stable = self.stable
        if stable is None or self.certificate is None:
            return None
        return Offer(stable, self.certificate, self._commits[stable.height])

    # --- from others ---

    def is_proven(self, m: Offer) -> bool:
        """Whether a quorum of the validators that this node knows signed for it, and its block is decided."""
        image, certificate, chain = m.image, m.certificate, self._chain
        if image.point.height != image.height or not image.piece_bytes or not image.size_bytes:
            return False
        if not (_is_of(certificate, image) and verify(certificate, self._keys.keyring, chain.committee.quorum)):
            return False
        validators = chain.committee.comet_set(image.point.last)
        try:
            commit = COMMIT.decode_exact(m.commit)
            verify_commit(chain.id, validators, id_of(image.point.block), image.height, commit, chain.verify)
        except ValueError:
            return False
        return block_time(commit, validators.by_address()).ns() > image.point.time_ns

    def learn(self, m: Offer) -> None:
        """What is offered is proven; if it is here too, it is stable."""
        if m.image in self.images and (self.stable is None or self.stable.height < m.image.height):
            self._settle(m.certificate)

    def install(self, m: Offer) -> None:
        """A snapshot that was fetched takes the place of all before."""
        self._env.persist(Taken(m.image, True, m.commit))
        self._env.persist(Stable(m.certificate))
        self.images, self.certificate, self._commits = [m.image], m.certificate, {m.image.height: m.commit}
        self._stand_on(m.image)
        self._log.reset(m.image.height)

    # --- recovery ---

    def restore(self, record: Taken | Stable) -> None:
        """One durable record."""
        if isinstance(record, Stable):
            self.certificate = record.certificate
            return
        self._commits[record.image.height] = record.commit
        if record.is_fetched:
            self.images = [record.image]
            self._log.reset(record.image.height)
        else:
            self._keep(record.image)

    def records(self) -> Iterator[Taken | Stable]:
        """Those that replace all before. What is stable comes last: who reads that a snapshot was taken after it would
        drop the log before it, which may still be here.
        """
        for image in self.images:
            yield Taken(image, False, self._commits[image.height])
        if self.stable is not None and self.certificate is not None:
            yield Stable(self.certificate)

    def newest(self) -> Image | None:
        """On which a node stands after a restart."""
        if not self.images:
            return None
        self._stand_on(self.images[-1])
        return self.images[-1]

    def _stand_on(self, image: Image) -> None:
        self._heights = self._bytes = 0
        self._taking = None
        self._chain.stand_on(image.point, COMMIT.decode(self._commits[image.height]))


def _is_of(certificate: Certificate, image: Image) -> bool:
    claim = (CHECKPOINT, checkpoint_statement(image.height, digest_of(image)))
    return (certificate.context, certificate.statement) == claim
