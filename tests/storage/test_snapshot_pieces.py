"""Snapshots whose pieces are proven: the same file on all nodes, a tree over it, and nothing served that changed."""

import os
from pathlib import Path

import pytest

from quorate.parts.log.pieces import count_of, is_proven
from quorate.runtime.errors import SnapshotCorrupt, SnapshotMissing, SnapshotRefused
from quorate.runtime.files import Identity
from quorate.runtime.snapshots import TREES_MAX, SnapshotStore

from tests.storage.helpers import IDENTITY, of

PAYLOAD = b"the state machine " * 300
PIECE_BYTES = 1000


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots", IDENTITY)


@pytest.fixture
def peer(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "peer", Identity(IDENTITY.cluster, 2))


def test_nodes_that_write_the_same_have_the_same_root(store: SnapshotStore, peer: SnapshotStore) -> None:
    for one in (store, peer):
        one.write(7, 0, of(PAYLOAD), is_common=True)
        one.write(8, 0, of(PAYLOAD))
    assert store.tree(7, PIECE_BYTES).root == peer.tree(7, PIECE_BYTES).root
    assert store.tree(8, PIECE_BYTES).root != peer.tree(8, PIECE_BYTES).root, "these say who wrote them"
    assert store.tree(7, PIECE_BYTES).root != store.tree(7, PIECE_BYTES + 1).root


def test_every_piece_comes_with_its_proof_and_they_make_the_file(store: SnapshotStore, peer: SnapshotStore) -> None:
    info = store.write(7, 0, of(PAYLOAD), is_common=True)
    root, offset = store.tree(7, PIECE_BYTES).root, 0
    while offset < info.size_bytes:
        found, data, proof = store.read_piece(7, offset, PIECE_BYTES, root)
        assert found == info
        count = count_of(info.size_bytes, PIECE_BYTES)
        assert is_proven(root, count, offset // PIECE_BYTES, data, proof)
        offset = peer.write_chunk(7, 0, offset, data, info.size_bytes, info.digest)
    assert peer.tree(7, PIECE_BYTES).root == root, "who received it serves it in turn"
    with peer.open(7) as reader:
        assert reader.read() == PAYLOAD


def test_a_restarted_node_has_the_same_tree(store: SnapshotStore, tmp_path: Path) -> None:
    store.write(7, 0, of(PAYLOAD), is_common=True)
    again = SnapshotStore(tmp_path / "snapshots", IDENTITY)
    assert again.tree(7, PIECE_BYTES).root == store.tree(7, PIECE_BYTES).root


def test_no_piece_begins_there(store: SnapshotStore) -> None:
    info = store.write(7, 0, of(PAYLOAD), is_common=True)
    root = store.tree(7, PIECE_BYTES).root
    for offset in (1, PIECE_BYTES - 1, info.size_bytes, -PIECE_BYTES):
        with pytest.raises(SnapshotRefused):
            store.read_piece(7, offset, PIECE_BYTES, root)
    with pytest.raises(SnapshotMissing):
        store.read_piece(6, 0, PIECE_BYTES, root)


def test_another_snapshot_than_the_one_named_is_not_served(store: SnapshotStore) -> None:
    store.write(7, 0, of(PAYLOAD), is_common=True)
    with pytest.raises(SnapshotCorrupt):
        store.read_piece(7, 0, PIECE_BYTES, bytes(32))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_piece_that_has_changed_on_the_disk_is_not_served(
    store: SnapshotStore, tmp_path: Path, restarted: bool
) -> None:
    """A node that is honest would be blamed for it."""
    store.write(7, 0, of(PAYLOAD), is_common=True)
    root = store.tree(7, PIECE_BYTES).root
    path = tmp_path / "snapshots" / "snapshot-7-0.snap"
    with path.open("r+b") as file:
        file.seek(2500)
        file.write(b"?")
    if restarted:
        store = SnapshotStore(tmp_path / "snapshots", IDENTITY)
    with pytest.raises(SnapshotCorrupt):
        store.read_piece(7, 2000, PIECE_BYTES, root)


def test_few_trees_are_kept(store: SnapshotStore) -> None:
    for index in range(TREES_MAX + 3):
        store.write(index, 0, of(os.urandom(3000)), is_common=True)
        store.tree(index, PIECE_BYTES)
    assert len(store._trees) == TREES_MAX


def test_the_tree_of_a_file_that_travels_stays(store: SnapshotStore) -> None:
    """All of a file is read for its tree: not again each time that newer ones have come."""
    store.write(7, 0, of(PAYLOAD), is_common=True)
    travelling = store.tree(7, PIECE_BYTES)
    for index in range(8, 8 + 2 * TREES_MAX):
        store.write(index, 0, of(PAYLOAD), is_common=True)
        store.tree(index, PIECE_BYTES)
        assert store.tree(7, PIECE_BYTES) is travelling


def test_a_snapshot_that_is_written_anew_has_a_new_tree(store: SnapshotStore) -> None:
    store.write(7, 0, of(PAYLOAD), is_common=True)
    before = store.tree(7, PIECE_BYTES).root
    store.write(7, 0, of(PAYLOAD[::-1]), is_common=True)
    assert store.tree(7, PIECE_BYTES).root != before


def test_what_came_of_another_snapshot_with_the_same_name_is_left(store: SnapshotStore, peer: SnapshotStore) -> None:
    """Equal in index and size, and other in its digest: nothing of the one stands in the file of the other."""
    info = store.write(7, 0, of(PAYLOAD), is_common=True)
    _, data, _ = store.read_piece(7, 0, PIECE_BYTES, store.tree(7, PIECE_BYTES).root)
    assert peer.write_chunk(7, 0, 0, b"\0" * 100, info.size_bytes, b"o" * 32) == 100
    assert peer.write_chunk(7, 0, 0, data, info.size_bytes, info.digest) == PIECE_BYTES
