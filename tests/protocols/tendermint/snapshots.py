"""Snapshots of the chain of ``one_node.py``, and the words of its nodes for them."""

from quorate.parts.log.pieces import PieceTree, tree_of
from quorate.parts.log.replicated import SnapshotInfo
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.tendermint.messages import (
    CHECKPOINT,
    Checkpoint,
    Image,
    Offer,
    checkpoint_statement,
    digest_of,
)

from tests.protocols.tendermint.one_node import CONFIG, OTHERS, SCHEME, chain_at, decision

SMALL = CONFIG.but(snapshot_heights=2, chunk_bytes=4)
DATA = b"the state after all that"
TREE: PieceTree = tree_of(DATA, 4)


def image(height: int, data: bytes = DATA) -> Image:
    tree = tree_of(data, 4)
    digest = bytes([height]) * 32
    return Image(height, height, len(data), digest, tree.root, 4, chain_at(height + 1).point())


def info(its: Image) -> SnapshotInfo:
    return SnapshotInfo(its.index, its.height, its.size_bytes, its.digest, its.root)


def checkpoint(node: int, its: Image) -> Checkpoint:
    digest = digest_of(its)
    signature = SCHEME.keys(node).sign(CHECKPOINT, checkpoint_statement(its.height, digest))
    return Checkpoint(its.height, digest, signature)


def certificate(its: Image, nodes: tuple[int, ...] = OTHERS) -> Certificate:
    signatures = tuple((node, checkpoint(node, its).signature) for node in sorted(nodes))
    return Certificate(CHECKPOINT, checkpoint_statement(its.height, digest_of(its)), signatures)


def offer(its: Image, nodes: tuple[int, ...] = OTHERS) -> Offer:
    return Offer(its, certificate(its, nodes), decision(its.height).commit)
