"""Snapshot files: whole or not there, verified before use, carried to peers in chunks."""

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.runtime.errors import (
    DiskUnreadable,
    SnapshotCorrupt,
    SnapshotMissing,
    SnapshotRefused,
    SnapshotSpoiled,
    UnknownFormat,
    WrongIdentity,
)
from quorate.runtime.files import Identity
from quorate.runtime.snapshots import CHUNK_SIZE_BYTES_MAX, HEADER_SIZE, SnapshotInfo, SnapshotStore
from quorate.runtime.verified import BLOCK_BYTES

from tests.storage.helpers import IDENTITY, LossyDisk, State, of, read_state, write_state

PEER = Identity(IDENTITY.cluster, 2)
PAYLOAD = b"the state machine " * 300


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots", IDENTITY)


@pytest.fixture
def peer(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "peer", PEER, size_bytes_max=1 << 20)


def content(store: SnapshotStore, index: int) -> bytes:
    with store.open(index) as reader:
        return reader.read()


def raw(store: SnapshotStore, info: SnapshotInfo) -> bytes:
    return store.read_chunk(info.index, 0, info.size_bytes)


def test_a_snapshot_is_read_as_it_was_written(store: SnapshotStore, tmp_path: Path) -> None:
    info = store.write(7, 3, of(PAYLOAD))
    assert info == SnapshotInfo(7, 3, len(PAYLOAD) + 256)
    assert info.payload_size_bytes == len(PAYLOAD)
    assert store.infos() == SnapshotStore(tmp_path / "snapshots", IDENTITY).infos() == [info]
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["snapshot-7-3.snap"]
    assert content(store, 7) == PAYLOAD
    assert store.write(8, 3, of(b"")).payload_size_bytes == 0
    assert content(store, 8) == b""


def test_the_reader_is_a_file_of_the_payload(store: SnapshotStore) -> None:
    store.write(7, 3, of(PAYLOAD))
    with store.open(7) as reader:
        assert (reader.payload_offset, reader.payload_size, reader.info.term) == (HEADER_SIZE, len(PAYLOAD), 3)
        assert os.lseek(reader.fileno(), 0, os.SEEK_CUR) == HEADER_SIZE
        assert os.pread(reader.fileno(), 9, reader.payload_offset) == PAYLOAD[:9]
        assert reader.read(10) + reader.read(5) == PAYLOAD[:15]
        assert reader.tell() == 15
        assert reader.seek(-4, os.SEEK_END) == len(PAYLOAD) - 4
        assert reader.read(100) == PAYLOAD[-4:]
        assert reader.read(100) == b""
        assert reader.seek(10_000_000) == 10_000_000
        assert reader.read() == b""
        with pytest.raises(ValueError, match="before the payload"):
            reader.seek(-1)
        reader.seek(0)
        assert io.BufferedReader(reader).read() == PAYLOAD
    assert reader.closed


def test_lmdb_writes_through_the_descriptor(store: SnapshotStore, tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "env")) as env:
        with env.begin(write=True) as transaction:
            for number in range(1000):
                transaction.put(b"%d" % number, b"v" * 100)

        def write(file: BinaryIO) -> None:
            file.write(b"preface")
            file.flush()
            env.copyfd(file.fileno())

        store.write(1, 1, write)
    (tmp_path / "copy").mkdir()
    with store.open(1) as reader, (tmp_path / "copy" / "data.mdb").open("wb") as file:
        assert reader.read(7) == b"preface"
        shutil.copyfileobj(reader, file)
    with lmdb.open(str(tmp_path / "copy")) as env, env.begin() as transaction:
        assert transaction.stat()["entries"] == 1000
        assert transaction.get(b"999") == b"v" * 100


def test_a_writer_that_fails_leaves_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(PAYLOAD)
        raise KeyError("broken")

    with pytest.raises(KeyError):
        store.write(7, 3, fail)
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_every_crash_leaves_a_whole_snapshot_or_none(
    tmp_path: Path, lossy: Callable[..., LossyDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "snapshots"
    store = SnapshotStore(folder, IDENTITY)
    points: list[tuple[int, list[State]]] = []
    done = 0
    lossy(folder, lambda states: points.append((done, states)))
    for index in (1, 2, 3):
        info = store.write(index, 1, of(b"%d" % index * 500))
        done = index
    copy = raw(store, info)
    store.discard(3)
    done = 3
    monkeypatch.undo()
    assert len(points) > 12
    for number, (finished, states) in enumerate(points):
        for variant, state in enumerate(states):
            there = SnapshotStore(write_state(tmp_path / f"{number}.{variant}", state), IDENTITY)
            found = [info.index for info in there.infos()]
            assert not finished or finished in found or finished + 1 in found
            for index in found:
                assert content(there, index) == b"%d" % index * 500
            assert not list((tmp_path / f"{number}.{variant}").glob("*.aside"))
    _received_crashes(tmp_path / "peer", copy, lossy, monkeypatch)


def _received_crashes(
    folder: Path, copy: bytes, lossy: Callable[..., LossyDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A received snapshot is durable when the last chunk is acknowledged."""
    store = SnapshotStore(folder, PEER)
    disk = lossy(folder, lambda states: None)
    for offset in range(0, len(copy), 100):
        store.write_chunk(3, 1, offset, copy[offset : offset + 100], len(copy))
    monkeypatch.undo()
    assert disk.synced() == {"snapshot-3-1.snap": copy}


def test_every_flipped_byte_is_found(store: SnapshotStore, tmp_path: Path) -> None:
    payload = b"small state"
    store.write(7, 3, of(payload))
    path = tmp_path / "snapshots" / "snapshot-7-3.snap"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises((SnapshotCorrupt, UnknownFormat), match=r"snapshot-7-3\.snap"):
            store.open(7)
    for damaged in (data[:-1], data + b"\0", data[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(SnapshotSpoiled, match=r"kept as snapshot-7-3\.snap\.corrupt. Restore the file"):
            store.open(7)
        with pytest.raises(SnapshotSpoiled, match=r"index 7 was found corrupt. It is kept as .* join again"):
            store.open(7)
    path.with_name("snapshot-9-3.snap").write_bytes(data)
    with pytest.raises(SnapshotCorrupt, match="header says index 7"):
        store.open(9)


def rot(path: Path, position: int) -> None:
    """A bit of a file changes on the disk, and nothing about the file says so."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_no_piece_is_served_of_a_file_that_is_corrupt(store: SnapshotStore, tmp_path: Path) -> None:
    store.write(7, 3, of(PAYLOAD))
    rot(tmp_path / "snapshots" / "snapshot-7-3.snap", 4000)
    with pytest.raises(SnapshotSpoiled, match="the digest of the payload is wrong"):
        store.read_chunk(7, 0, 100)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["snapshot-7-3.snap.corrupt"]


@pytest.mark.parametrize(("position", "block"), [(300, 0), (BLOCK_BYTES, BLOCK_BYTES), (199_999, 3 * BLOCK_BYTES)])
def test_bytes_that_change_while_a_snapshot_is_served_are_found(
    store: SnapshotStore, tmp_path: Path, position: int, block: int
) -> None:
    payload = os.urandom(199_744)
    info = store.write(7, 3, of(payload))
    whole = b"".join(store.read_chunk(7, offset, 70_001) for offset in range(0, info.size_bytes, 70_001))
    assert whole[HEADER_SIZE:] == payload
    rot(tmp_path / "snapshots" / "snapshot-7-3.snap", position)
    assert store.read_chunk(7, (block + BLOCK_BYTES) % 196_608, 10), "other blocks are what they were"
    with pytest.raises(SnapshotSpoiled, match=rf"snapshot-7-3.snap: offset {block}: bytes have changed since"):
        store.read_chunk(7, position, 1)


def test_a_snapshot_that_is_written_again_is_verified_again(store: SnapshotStore) -> None:
    for payload in (b"one state", b"another"):
        info = store.write(7, 3, of(payload))
        assert raw(store, info)[HEADER_SIZE:] == payload


def test_a_snapshot_that_the_disk_cannot_read_is_named(store: SnapshotStore, tmp_path: Path) -> None:
    (tmp_path / "snapshots" / "snapshot-7-3.snap").symlink_to("/proc/self/mem")  # a read at 0 is an I/O error
    with pytest.raises(DiskUnreadable, match=r"snapshot-7-3.snap: offset 0: the disk cannot read this: .Errno 5"):
        store.read_chunk(7, 0, 100)


def test_missing_snapshots_are_named(store: SnapshotStore) -> None:
    for call in (lambda: store.open(5), lambda: store.read_chunk(5, 0, 10)):
        with pytest.raises(SnapshotMissing, match=r"no snapshot at index 5 \(there are: none\)"):
            call()
    store.write(4, 1, of(b""))
    with pytest.raises(SnapshotMissing, match="there are: 4"):
        store.open(5)


def test_discard_keeps_open_readers(store: SnapshotStore) -> None:
    for index in (30, 4, 100):
        store.write(index, 1, of(PAYLOAD))
    assert [info.index for info in store.infos()] == [4, 30, 100]
    with store.open(4) as reader:
        assert [info.index for info in store.discard(100)] == [4, 30]
        assert reader.read() == PAYLOAD
    assert [info.index for info in store.infos()] == [100]


def test_a_store_of_another_cluster_is_refused(store: SnapshotStore, tmp_path: Path) -> None:
    store.write(7, 3, of(PAYLOAD))
    with pytest.raises(WrongIdentity, match="belongs to cluster 'test'; this is cluster 'other'"):
        SnapshotStore(tmp_path / "snapshots", Identity("other", 1))
    SnapshotStore(tmp_path / "snapshots", PEER)  # a peer's snapshot may have been received


def test_leftovers_are_removed(store: SnapshotStore, tmp_path: Path) -> None:
    info = store.write(7, 3, of(PAYLOAD))
    (tmp_path / "snapshots" / "snapshot-9-3.snap.0.aside").write_bytes(b"half")
    (tmp_path / "snapshots" / "README").write_bytes(b"mine")
    assert SnapshotStore(tmp_path / "snapshots", IDENTITY).infos() == [info]
    assert sorted(read_state(tmp_path / "snapshots")) == ["README", "snapshot-7-3.snap"]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(payload=st.binary(max_size=2000), sizes=st.lists(st.integers(1, 700), min_size=1), seeks=st.data())
def test_any_chunks_in_any_order_make_the_snapshot(
    tmp_path: Path, payload: bytes, sizes: list[int], seeks: st.DataObject
) -> None:
    root = Path(mkdtemp(dir=tmp_path))
    sender, receiver = SnapshotStore(root / "a", IDENTITY), SnapshotStore(root / "b", PEER)
    total = sender.write(7, 3, of(payload)).size_bytes
    wanted = turn = 0
    while wanted < total:
        offset = wanted if turn % 2 else seeks.draw(st.integers(0, total))
        chunk = sender.read_chunk(7, offset, sizes[turn % len(sizes)])
        answer = receiver.write_chunk(7, 3, offset, chunk, total)
        assert answer == (wanted + len(chunk) if offset == wanted else wanted)
        wanted, turn = answer, turn + 1
    assert content(receiver, 7) == payload
    assert receiver.write_chunk(7, 3, 0, b"again", total) == total
    assert sender.read_chunk(7, total, 10) == b""


def test_another_snapshot_discards_an_unfinished_one(store: SnapshotStore, peer: SnapshotStore, tmp_path: Path) -> None:
    old, new = (raw(store, store.write(index, 3, of(PAYLOAD))) for index in (7, 8))
    total = len(old)
    assert peer.write_chunk(7, 3, 0, old[:1000], total) == 1000
    assert peer.write_chunk(8, 3, 1000, new[1000:2000], total) == 0, "from the start, please"
    assert peer.write_chunk(7, 3, 1000, old[1000:2000], total) == 2000
    assert peer.write_chunk(8, 3, 0, new[:500], total) == 500
    assert len(list((tmp_path / "peer").iterdir())) == 1
    assert peer.write_chunk(7, 3, 2000, old[2000:3000], total) == 0
    assert peer.write_chunk(8, 3, 500, new[500:], total) == total
    assert [info.index for info in peer.infos()] == [8]


def test_what_a_peer_may_not_send(store: SnapshotStore, peer: SnapshotStore, tmp_path: Path) -> None:
    for arguments in (
        (7, 3, 0, b"x", 255),
        (7, 3, 0, b"x", (1 << 20) + 1),
        (7, 3, -1, b"x", 1000),
        (7, 3, 990, b"x" * 11, 1000),
        (-1, 3, 0, b"x", 1000),
        (7, 1 << 64, 0, b"x", 1000),
        (7, 3, 0, bytes(CHUNK_SIZE_BYTES_MAX + 1), 1 << 20),
    ):
        with pytest.raises(SnapshotRefused):
            peer.write_chunk(*arguments)
    for offset, size in ((-1, 10), (0, 0), (0, CHUNK_SIZE_BYTES_MAX + 1), (1 << 63, 10)):
        with pytest.raises(SnapshotRefused):
            store.read_chunk(7, offset, size)
    assert list((tmp_path / "peer").iterdir()) == []


def test_a_bad_snapshot_of_a_peer_is_deleted(store: SnapshotStore, peer: SnapshotStore, tmp_path: Path) -> None:
    copy = raw(store, store.write(7, 3, of(PAYLOAD)))
    total = len(copy)
    flipped = copy[:3000] + bytes([copy[3000] ^ 1]) + copy[3001:]
    assert peer.write_chunk(7, 3, 0, flipped[:3000], total) == 3000
    with pytest.raises(SnapshotCorrupt, match="digest"):
        peer.write_chunk(7, 3, 3000, flipped[3000:], total)
    with pytest.raises(SnapshotCorrupt, match="header says index 7"):
        peer.write_chunk(9, 3, 0, copy[:300], total)
    with pytest.raises(SnapshotCorrupt, match="where the header says"):
        peer.write_chunk(7, 3, 0, copy[:300], total + 1)
    other = SnapshotStore(tmp_path / "other", Identity("other", 1))
    foreign = raw(other, other.write(7, 3, of(PAYLOAD)))
    with pytest.raises(WrongIdentity):
        peer.write_chunk(7, 3, 0, foreign[:300], total)
    assert list((tmp_path / "peer").iterdir()) == []
    assert peer.write_chunk(7, 3, 0, copy, total) == total
    assert content(peer, 7) == PAYLOAD


def test_a_full_disk_while_receiving_can_be_resumed(
    store: SnapshotStore, peer: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = raw(store, store.write(7, 3, of(PAYLOAD)))
    pwrite = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset >= 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[: 2000 - offset], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        peer.write_chunk(7, 3, 0, copy[:3000], len(copy))
    monkeypatch.undo()
    wanted = peer.write_chunk(7, 3, 0, copy[:3000], len(copy))
    assert wanted == 2000
    assert peer.write_chunk(7, 3, wanted, copy[wanted:], len(copy)) == len(copy)
    assert content(peer, 7) == PAYLOAD
