"""The data folder as a whole: who may begin one, what must be in it, and who may look into it."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import pytest

from quorate.machines.kv import commands as kv
from quorate.machines.kv.machine import KvMachine
from quorate.runtime.errors import (
    FolderDamaged,
    FolderEmpty,
    FolderNotEmpty,
    JournalLocked,
    StorageError,
    UnknownFormat,
    WrongIdentity,
)
from quorate.runtime.files import Identity, own_directory, replace_file
from quorate.runtime.folder import Beginning, DataFolder
from quorate.runtime.journal import Journal
from quorate.runtime.snapshots import SnapshotStore

from tests.storage.helpers import IDENTITY, of

NEW, EXISTING, EITHER, REPAIR, FORGETS = Beginning


@contextmanager
def life(
    data: Path,
    beginning: Beginning = EITHER,
    frames: int = 0,
    identity: Identity = IDENTITY,
    *,
    is_killed: bool = False,
) -> Iterator[DataFolder]:
    """A life of a node in a folder, as Node has one; ``frames`` are durable in it."""
    folder = DataFolder(data, identity, beginning)
    durable: SimpleQueue[int] = SimpleQueue()
    journal, _ = Journal.open(
        data / "journal",
        identity=identity,
        lock=folder.lock,
        on_end=_nothing if is_killed else folder.reached,
        on_durable=durable.put,
    )
    try:
        folder.settle(journal.last_sequence)
        for number in range(frames):
            written = journal.append(b"frame %d" % number)
            while durable.get(timeout=60) < written:
                pass
        yield folder
    finally:
        journal.close()


def _nothing(_: int) -> None:
    """A process that is killed writes nothing at its end."""


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# --- who may begin ---


@pytest.mark.parametrize("is_there", [False, True])
def test_a_node_that_is_not_new_makes_nothing_where_its_folder_should_be(tmp_path: Path, is_there: bool) -> None:
    data = tmp_path / "above" / "data"
    if is_there:
        (data / "journal").mkdir(parents=True)
    with pytest.raises(FolderEmpty, match=rf"{data} has no data of node 1\. .* start it once with --bootstrap"):
        DataFolder(data, IDENTITY, EXISTING)
    assert (tmp_path / "above").exists() == is_there
    assert not is_there or contents(data) == {"journal": None}


@pytest.mark.parametrize("beginning", [NEW, EITHER])
def test_a_new_node_has_a_folder_and_keeps_its_incarnation(tmp_path: Path, beginning: Beginning) -> None:
    with life(tmp_path / "a", beginning) as folder:
        first = folder.incarnation
    with life(tmp_path / "a", EXISTING) as folder:
        assert folder.incarnation == first
    with life(tmp_path / "b", beginning) as folder:
        assert folder.incarnation != first
    assert len(first) == 16


def test_a_folder_with_data_is_not_a_new_nodes(tmp_path: Path) -> None:
    with life(tmp_path, NEW, frames=1):
        pass
    before = contents(tmp_path)
    with pytest.raises(FolderNotEmpty, match=rf"{tmp_path} has the data of a node already.*leave --bootstrap out"):
        DataFolder(tmp_path, IDENTITY, NEW)
    assert contents(tmp_path) == before


def test_a_folder_of_an_older_release_is_taken_as_it_is(tmp_path: Path) -> None:
    own_directory(tmp_path / "journal")
    journal, _ = Journal.open(tmp_path / "journal", identity=IDENTITY)
    journal.append(b"frame")
    journal.close()
    with life(tmp_path, EXISTING) as folder:
        first = folder.incarnation
    with life(tmp_path, EXISTING) as folder:
        assert folder.incarnation == first != b""


def test_a_full_disk_keeps_a_new_node_out_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with life(tmp_path / "known", frames=1) as folder:
        known = folder.incarnation
    own_directory(tmp_path / "older" / "journal")
    journal, _ = Journal.open(tmp_path / "older" / "journal", identity=IDENTITY)
    journal.append(b"frame")
    journal.close()
    monkeypatch.setattr("quorate.runtime.folder.replace_file", full)
    with life(tmp_path / "known", EXISTING, frames=1) as folder:
        assert folder.incarnation == known
    with life(tmp_path / "older", EXISTING) as folder:
        assert folder.incarnation == b"", "one that is not durable is told to nobody"
    with pytest.raises(StorageError, match=r"identity cannot be written.*Free some space"), life(tmp_path / "new", NEW):
        pass


# --- what must be there ---


@pytest.mark.parametrize("beginning", [NEW, EXISTING, EITHER])
def test_a_journal_that_is_gone_is_refused_whatever_is_said(tmp_path: Path, beginning: Beginning) -> None:
    with life(tmp_path, frames=2):
        pass
    shutil.rmtree(tmp_path / "journal")
    with pytest.raises(FolderDamaged, match=rf"{tmp_path}/journal: the journal is gone, and {tmp_path}/identity is"):
        DataFolder(tmp_path, IDENTITY, beginning)


@pytest.mark.parametrize("beginning", [NEW, EXISTING, EITHER])
@pytest.mark.parametrize("suffix", ["", ".corrupt"])
def test_snapshots_without_a_journal_are_refused(tmp_path: Path, beginning: Beginning, suffix: str) -> None:
    SnapshotStore(tmp_path / "snapshots", IDENTITY).write(7, 1, of(b"state"))
    (path,) = (tmp_path / "snapshots").iterdir()
    path.rename(path.with_name(path.name + suffix))
    with pytest.raises(FolderDamaged, match=r"the journal is gone, and .*snapshot-7-1\.snap"):
        DataFolder(tmp_path, IDENTITY, beginning)


def test_what_an_unfinished_write_left_is_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "snapshot-7-1.snap.0.aside").write_bytes(b"half")
    with life(tmp_path, NEW):
        pass


def cut(journal: Path) -> None:
    """Take the last frame away, as a truncated file system would."""
    segment = max(journal.glob("*.journal"))
    os.truncate(segment, segment.stat().st_size - 10)


def test_a_cut_below_what_was_durable_at_a_stop_is_refused(tmp_path: Path) -> None:
    with life(tmp_path, frames=3):
        pass
    cut(tmp_path / "journal")
    text = r"it ends with frame 2, and frame 3 was durable when this node ran"
    with pytest.raises(FolderDamaged, match=text), life(tmp_path, EXISTING):
        pass
    with pytest.raises(FolderDamaged, match=text), life(tmp_path, EXISTING):  # the lock was given back
        pass


def test_what_a_crash_cut_short_is_no_loss(tmp_path: Path) -> None:
    with life(tmp_path, frames=3):
        pass
    with life(tmp_path, frames=2, is_killed=True):
        pass
    cut(tmp_path / "journal")
    with life(tmp_path, EXISTING):
        pass


def test_a_checkpoint_that_is_given_up_at_a_stop_is_no_loss(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, IDENTITY, NEW)
    journal, _ = Journal.open(tmp_path / "journal", identity=IDENTITY, lock=folder.lock, on_end=folder.reached)
    folder.settle(journal.last_sequence)
    journal.append(b"before")
    journal.checkpoint([bytes(1 << 20)] * 20)
    journal.close()  # it has begun, and more than a piece of it may be missing
    for _ in range(2):
        with life(tmp_path, EXISTING, frames=1):
            pass


def test_a_folder_belongs_to_one_node_of_one_cluster(tmp_path: Path) -> None:
    with life(tmp_path):
        pass
    for other in (Identity("test", 2), Identity("other", 1)):
        with pytest.raises(WrongIdentity, match="belongs to node 1 of cluster 'test'"):
            DataFolder(tmp_path, other)


def signed(text: bytes) -> bytes:
    """With its checksum."""
    return b"%s\n%08x\n" % (text, zlib.crc32(text))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data.replace(b'"node":1', b'"node":2'), FolderDamaged),
        (lambda data: data[:-3], FolderDamaged),
        (lambda data: b"", FolderDamaged),
        (lambda data: b"\xff" * 100, FolderDamaged),
        (lambda data: data.replace(b'"version":1', b'"version":2'), FolderDamaged),
        (lambda data: signed(data.splitlines()[0].replace(b'"version":1', b'"version":2')), UnknownFormat),
    ],
)
def test_a_damaged_identity_is_refused_in_words(tmp_path: Path, damage: object, error: type[StorageError]) -> None:
    with life(tmp_path):
        pass
    path = tmp_path / "identity"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(error, match=str(path)):
        DataFolder(tmp_path, IDENTITY)
    with pytest.raises(error):  # the lock was given back
        DataFolder(tmp_path, IDENTITY)


def test_incarnations_of_others_are_kept(tmp_path: Path) -> None:
    with life(tmp_path) as folder:
        folder.know(lambda: {2: (b"two",), 3: (b"three",)})
        folder.know(lambda: {3: (b"three", b"three again")})
    with life(tmp_path) as folder:
        assert folder.others == {3: (b"three", b"three again")}
        folder.close()
        folder.know(dict)
    with life(tmp_path) as folder:
        assert folder.others == {3: (b"three", b"three again")}


def test_a_person_can_take_out_one_of_them(tmp_path: Path) -> None:
    with life(tmp_path) as folder:
        folder.know(lambda: {2: (b"two",), 3: (b"three",)})
    path = tmp_path / "others"
    lines = [f"2 {b'two'.hex()}", f"3 {b'three'.hex()}"]
    assert path.read_text() == "".join(f"{line} ~{zlib.crc32(line.encode()):08x}\n" for line in lines)
    path.write_text(path.read_text().splitlines(keepends=True)[1])
    with life(tmp_path) as folder:
        assert folder.others == {3: (b"three",)}
    path.write_text(f"{lines[1]}\n")  # as an earlier release has it
    with life(tmp_path) as folder:
        assert folder.others == {3: (b"three",)}
    path.unlink()
    with life(tmp_path) as folder:
        assert folder.others == {}


@pytest.mark.parametrize(
    "line", ["x", "2", "2 xyz", "1024 00", "-1 00", "2 0", "2 00 00", "2 " + "00" * 65, "\0", "2 00 ~00000000"]
)
def test_a_line_that_is_damaged_is_told_with_what_to_do(tmp_path: Path, line: str) -> None:
    with life(tmp_path):
        pass
    (tmp_path / "others").write_text(f"3 00\n{line}\n")
    for _ in range(2):
        with pytest.raises(FolderDamaged, match=rf"{tmp_path}/others: line 2 is not .* Take it out"):
            DataFolder(tmp_path, IDENTITY)


# --- repair ---


def test_what_is_repaired_is_set_aside_and_begins_anew(tmp_path: Path) -> None:
    with life(tmp_path, NEW, frames=3) as folder:
        folder.know(lambda: {2: (b"two",)})
        first = folder.incarnation
        assert folder.anew == b""
    SnapshotStore(tmp_path / "snapshots", IDENTITY).write(1, 1, lambda file: None)
    (tmp_path / "kv").mkdir()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    with life(tmp_path, REPAIR, frames=1) as folder:
        assert folder.aside is not None
        moved = {str(path.relative_to(folder.aside)) for path in folder.aside.rglob("*") if path.is_file()}
        assert moved == left - {"others", "journal/journal.lock"}
        assert folder.others == {2: (b"two",)}
        anew = folder.anew
        assert (len(anew), anew == folder.incarnation, anew[1:] != first) == (17, True, True)
    with life(tmp_path, EXISTING) as folder:
        assert (folder.anew, folder.aside) == (anew, None)
    with life(tmp_path, REPAIR) as folder:
        assert folder.anew not in (b"", anew)
    assert len(list(tmp_path.glob("damaged-*"))) == 2


def test_an_empty_folder_that_is_repaired_leaves_nothing_aside(tmp_path: Path) -> None:
    with life(tmp_path / "a" / "b", REPAIR) as folder:
        assert folder.aside is None
        assert folder.anew


@pytest.mark.parametrize("moved", range(6))
def test_a_repair_that_a_crash_cut_short_leaves_nothing_that_looks_whole(
    tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with life(tmp_path, NEW, frames=3):
        pass
    SnapshotStore(tmp_path / "snapshots", IDENTITY).write(1, 1, lambda file: None)
    rename, count = Path.rename, 0

    def dies(path: Path, target: Path) -> Path:
        nonlocal count
        if count == moved:
            raise OSError(5, "the machine is gone")
        count += 1
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with suppress(OSError):
            DataFolder(tmp_path, IDENTITY, REPAIR).lock.release()
    if moved <= 1:  # the journal is whole: a start asks the core for the snapshot that it needs
        assert (tmp_path / "identity").exists()
        return
    with pytest.raises(FolderDamaged, match="the journal is gone"):
        DataFolder(tmp_path, IDENTITY, EXISTING)
    with life(tmp_path, REPAIR) as folder:
        assert folder.anew


# --- one process, and nobody else ---


def test_a_second_one_changes_nothing_before_it_holds_the_lock(tmp_path: Path) -> None:
    with life(tmp_path, frames=1) as folder:
        folder.know(lambda: {2: (b"two",)})
        SnapshotStore(tmp_path / "snapshots", IDENTITY).write(1, 1, of(b"state"))
        (tmp_path / "snapshots" / "snapshot-2-1.snap.0.aside").write_bytes(b"under way")
        machine = KvMachine.opened(tmp_path / "kv")
        machine.apply(kv.encode(kv.Put(b"k", b"v")))
        before = contents(tmp_path)
        for beginning in Beginning:
            with pytest.raises((JournalLocked, FolderNotEmpty)):
                DataFolder(tmp_path, IDENTITY, beginning)
        KvMachine(tmp_path / "kv").close()  # what a second node has of it before it holds the lock
        assert contents(tmp_path) == before
        machine.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777])
def test_nobody_else_may_look_into_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        data = tmp_path / "above" / "data"
        with life(data, frames=2):
            store = SnapshotStore(data / "snapshots", IDENTITY)
            store.write(1, 1, of(b"state"))
            file = store.read_chunk(1, 0, 1 << 20)
            other = SnapshotStore(data / "received", IDENTITY)
            other.write_chunk(1, 1, 0, file, len(file))
            machine = KvMachine.opened(data / "kv")
            machine.apply(kv.encode(kv.Put(b"k", b"v")))
            found = {path: path.stat().st_mode & 0o777 for path in (data.parent, data, *data.rglob("*"))}
            machine.close()
    finally:
        os.umask(old)
    assert len(found) >= 10
    for path, mode in found.items():
        wanted = 0o700 if path in {data, data.parent} or (path.suffix == "" and path.name in FOLDERS) else 0o600
        assert mode == wanted, f"{path} has mode {mode:o}"


FOLDERS = {"journal", "snapshots", "received", "kv"}


def test_folders_that_were_open_to_others_are_closed(tmp_path: Path) -> None:
    for name in ("journal", "snapshots", "kv"):
        (tmp_path / name).mkdir(mode=0o755)
    with life(tmp_path, NEW):
        SnapshotStore(tmp_path / "snapshots", IDENTITY)
        KvMachine.opened(tmp_path / "kv").close()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_dir()} == {0o700}


@pytest.mark.parametrize("is_there", [False, True])
def test_every_name_is_synced_in_the_folder_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """Also of folders that are there: whoever made them may have ended before their names were durable."""
    data = tmp_path / "lib" / "quorate"
    if is_there:
        (data / "journal").mkdir(parents=True)
    synced: set[str] = set()
    fsync = os.fsync

    def recording(fd: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recording)
    with life(data):
        pass
    wanted = {tmp_path / "lib", data, data / "journal"} | (set() if is_there else {tmp_path})
    assert {str(folder) for folder in wanted} <= synced


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one")

    def failing(_: int) -> None:
        raise OSError(5, "the disk failed")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="the disk failed"):
        replace_file(path, b"two")
    assert contents(tmp_path) == {"file": b"one"}
