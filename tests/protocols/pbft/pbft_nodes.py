"""Builders for tests of PBFT: keys, signed requests, one node with exact effects, whole groups."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from quorate.kernel import Env, Input, Job, Turn
from quorate.kernel.inputs import Done
from quorate.parts import requests
from quorate.parts.crypto.keys import Symbolic, VerifyBatch
from quorate.parts.log.pieces import tree_of
from quorate.parts.log.replicated import Chunk, Piece, Screen, Screened
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    COMMIT,
    DECIDED,
    NEW_VIEW,
    NO_HISTORY,
    OFFER,
    PREPARE,
    VIEW_CHANGE,
    Checkpoint,
    Commit,
    Decided,
    Image,
    ImagePiece,
    NewView,
    Offer,
    Prepare,
    PrePrepare,
    Proposal,
    ViewChange,
    checkpoint_statement,
    digest_of,
    extend,
    new_view_statement,
    offer_statement,
    order_statement,
    view_change_statement,
)

from tests.protocols.cluster import Cluster
from tests.protocols.stepped import SteppedNode

FOUR = (1, 2, 3, 4)
SCHEME = Symbolic(range(1, 14))
CONFIG = PbftConfig(checkpoint_batches=2, window=4, snapshot_batches=4, batch_count_max=4, chunk_bytes=16)


def request(text: str, client: int = 0) -> bytes:
    """A signed request with one command."""
    return requests.sign(SCHEME.client(client), [text.encode()])


X, Y, Z = request("x"), request("y"), request("z")


class Node(SteppedNode):
    """Number 2 (a backup of view 0 among 1 to 4) unless told.

    Requests are screened, and their signatures checked, at once: those jobs do not show.
    """

    def __init__(
        self,
        node: int = 2,
        peers: tuple[int, ...] = FOUR,
        *,
        records: Sequence[Any] = (),
        config: PbftConfig = CONFIG,
        make: Callable[[Env, PbftConfig, Any], Pbft] = Pbft,
    ) -> None:
        super().__init__(
            lambda env: make(env, config, SCHEME.keys(env.id)), node, peers, records=records, seed=node, now=10.0
        )
        self.spent: set[bytes] = set()
        """What the sessions above have answered."""

    def step(self, *inputs: Input) -> Turn:
        """Inputs of one step, and what the checks of signatures that it asks for bring."""
        turn = self.host.step(inputs, self.now)
        while checks := [job for job in turn.jobs if isinstance(job.work, VerifyBatch | Screen)]:
            more = self.host.step([self._check(job) for job in checks], self.now)
            turn.jobs = [job for job in turn.jobs if job not in checks]
            merge(turn, more)
        return turn

    def _check(self, job: Job) -> Done:
        if isinstance(job.work, Screen):
            spent = [place for place, value in enumerate(job.work.values) if value in self.spent]
            return Done(job.key, Screened(tuple(spent)), job.path)
        return Done(job.key, SCHEME.keyring().verify_batch(job.work), job.path)

    # --- several steps, to build a state ---

    def order(self, sequence: int, *batch: bytes, view: int = 0) -> Turn:
        """As a backup among four: the batch is proposed, prepared and committed; the Turn of the last commit."""
        proposed = pre_prepare(sequence, *batch, view=view)
        if proposed.digest != getattr(self.core.log.slots.get(sequence), "digest", None):
            self.on(FOUR[view % 4], proposed)
        others = [node for node in FOUR if node not in (self.host.node, FOUR[view % 4])]
        for node in others:
            self.on(node, prepare(node, proposed))
        turn = Turn()
        for node in (FOUR[view % 4], *others)[:2]:
            turn = self.on(node, commit(node, proposed))
        return turn

    def change(self, view: int, *prepared: Certificate, stable: Certificate | None = None) -> None:
        """Leave for this view, as f + 1 others among four do."""
        for node in [node for node in FOUR if node != self.host.node][:2]:
            self.on(node, view_change(node, view, *prepared, stable=stable))

    def enter(
        self, view: int, *prepared: Certificate, first: int = 1, batches: Sequence[tuple[bytes, ...]] = ()
    ) -> Turn:
        """As a backup: into a view that rests on three view-changes, each with what prepared; it proposes these."""
        changes = {node: view_change(node, view, *prepared) for node in FOUR if node != self.host.node}
        return self.on(FOUR[view % 4], new_view(changes, *batches, first=first))


def merge(turn: Turn, more: Turn) -> None:
    """As if both were of one step."""
    for field in Turn.__struct_fields__:
        one, other = getattr(turn, field), getattr(more, field)
        setattr(turn, field, one and other if field == "lazy" else [*one, *other] or ())


class PbftCluster(Cluster):
    """Nodes 1 to ``size``."""

    def __init__(self, size: int = 4, *, config: PbftConfig = CONFIG, make: type[Pbft] = Pbft, **options: Any) -> None:
        super().__init__(lambda env: make(env, config, SCHEME.keys(env.id)), size, keyring=SCHEME.keyring(), **options)


# --- snapshots ---


def in_pieces(image: Image, data: bytes, piece_bytes: int = CONFIG.chunk_bytes) -> Image:
    """The same, of this file."""
    root = tree_of(data, piece_bytes).root
    return msgspec.structs.replace(image, size_bytes=len(data), root=root, piece_bytes=piece_bytes)


def piece(image: Image, data: bytes, offset: int = 0) -> Piece:
    """The right one at an offset of this file."""
    chunk = Chunk(image.index, 0, offset, data[offset : offset + image.piece_bytes], len(data))
    return Piece(chunk, tree_of(data, image.piece_bytes).proof(offset // image.piece_bytes))


def image_piece(image: Image, data: bytes, offset: int = 0) -> ImagePiece:
    """The message with it."""
    right = piece(image, data, offset)
    return ImagePiece(right.chunk, right.proof)


# --- messages as their senders would make them ---


def pre_prepare(sequence: int, *batch: bytes, view: int = 0, primary: int | None = None) -> PrePrepare:
    """From the view's primary."""
    digest = digest_of(batch)
    signer = SCHEME.signer(FOUR[view % 4] if primary is None else primary)
    return PrePrepare(view, sequence, digest, signer.sign(PREPARE, order_statement(view, sequence, digest)), batch)


def prepare(node: int, proposal: PrePrepare) -> Prepare:
    """A backup's answer."""
    statement = order_statement(proposal.view, proposal.sequence, proposal.digest)
    signature = SCHEME.signer(node).sign(PREPARE, statement)
    return Prepare(proposal.view, proposal.sequence, proposal.digest, signature, proposal.signature)


def commit(node: int, proposal: PrePrepare, peers: tuple[int, ...] = FOUR) -> Commit:
    """With a MAC for each."""
    statement = order_statement(proposal.view, proposal.sequence, proposal.digest)
    macs = SCHEME.keys(node).macs(COMMIT, statement, peers)
    return Commit(proposal.view, proposal.sequence, proposal.digest, macs)


def decided(node: int, sequence: int, digest: bytes, peers: tuple[int, ...] = FOUR) -> Decided:
    """A node's word for what it executed."""
    return Decided(sequence, digest, SCHEME.keys(node).macs(DECIDED, order_statement(0, sequence, digest), peers))


def offer(node: int, *images: Image, peers: tuple[int, ...] = FOUR) -> Offer:
    """A node's word for the snapshots that it has."""
    return Offer(images, SCHEME.keys(node).macs(OFFER, offer_statement(images), peers))


def checkpoint(node: int, sequence: int, index: int, history: bytes) -> Checkpoint:
    """A node's word for how far it is."""
    signature = SCHEME.signer(node).sign(CHECKPOINT, checkpoint_statement(sequence, index, history))
    return Checkpoint(sequence, index, history, signature)


def signed(context: str, statement: bytes, nodes: Sequence[int]) -> Certificate:
    """These nodes' signatures of a statement."""
    return Certificate(context, statement, tuple((n, SCHEME.signer(n).sign(context, statement)) for n in sorted(nodes)))


def prepared(sequence: int, *batch: bytes, view: int = 0, nodes: Sequence[int] = (1, 2, 3)) -> Certificate:
    """The proof that a batch prepared."""
    return signed(PREPARE, order_statement(view, sequence, digest_of(batch)), nodes)


def point(*batches: tuple[bytes, ...]) -> tuple[int, int, bytes]:
    """Sequence, index and history after these batches."""
    history = NO_HISTORY
    for batch in batches:
        history = extend(history, digest_of(batch))
    return len(batches), sum(map(len, batches)), history


def stable(*batches: tuple[bytes, ...], nodes: Sequence[int] = (1, 3, 4)) -> Certificate:
    """The proof of the checkpoint after these batches."""
    return signed(CHECKPOINT, checkpoint_statement(*point(*batches)), nodes)


def view_change(node: int, view: int, *prepared: Certificate, stable: Certificate | None = None) -> ViewChange:
    """A node's, with what prepared there."""
    signature = SCHEME.signer(node).sign(VIEW_CHANGE, view_change_statement(view, stable, prepared))
    return ViewChange(view, stable, prepared, signature)


def proposal(view: int, sequence: int, digest: bytes, primary: int | None = None) -> Proposal:
    """One order of a new view."""
    signer = SCHEME.signer(FOUR[view % 4] if primary is None else primary)
    return Proposal(sequence, digest, signer.sign(PREPARE, order_statement(view, sequence, digest)))


def new_view(
    changes: dict[int, ViewChange], *batches: tuple[bytes, ...], first: int = 1, primary: int | None = None
) -> NewView:
    """From the primary of the view of these changes: it proposes these batches from ``first`` on, right or wrong."""
    view = next(iter(changes.values())).view
    leader = FOUR[view % 4] if primary is None else primary
    proposals = tuple(proposal(view, first + at, digest_of(batch), leader) for at, batch in enumerate(batches))
    pairs = tuple(sorted(changes.items()))
    return NewView(
        view, pairs, proposals, SCHEME.signer(leader).sign(NEW_VIEW, new_view_statement(view, pairs, proposals))
    )
