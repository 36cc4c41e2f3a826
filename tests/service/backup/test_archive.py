"""Backup files: what was written is read, and a file that is cut or changed anywhere is refused in words."""

from __future__ import annotations

import random
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from quorate.service.backup import archive
from quorate.service.backup.archive import BackupDamaged, BackupReader, BackupWriter
from quorate.service.backup.restoring import check_backup

from tests.service.backup.archives import HEAD, small_store, write


def read(path: Path) -> bytes:
    """All of the state, with the file checked to its end."""
    with BackupReader(path) as reader:
        data = reader.read()
        reader.finish()
        return bytes(data or b"")


@pytest.mark.parametrize("size", [0, 1, archive.DATA_BYTES_MAX, 3 * archive.DATA_BYTES_MAX + 17])
def test_what_was_written_is_read(size: int, tmp_path: Path) -> None:
    path, data = tmp_path / "b", random.Random(size).randbytes(size)
    end = write(path, data)
    assert read(path) == data
    assert end.size_bytes == size
    with BackupReader(path) as reader:
        assert (reader.head, reader.check()) == (HEAD, end)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "b"
    with BackupWriter(path, HEAD) as writer:
        writer.write(b"x" * 300_000)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []
    write(path, b"first")
    with pytest.raises(FileExistsError, match="say --force"):
        BackupWriter(path, HEAD)
    with BackupWriter(path, HEAD, replaces=True) as writer:
        writer.write(b"second")
        assert read(path) == b"first"
        writer.finish()
    assert read(path) == b"second"
    with BackupWriter(tmp_path / "c", HEAD) as writer:
        write(tmp_path / "c", b"somebody else's")
        with pytest.raises(FileExistsError):
            writer.finish()
    assert read(tmp_path / "c") == b"somebody else's"


def test_a_byte_that_changed_is_found_wherever_it_is(tmp_path: Path) -> None:
    """Every byte of a small backup, once with a bit flipped and once with all of them."""
    path = tmp_path / "b"
    write(path, small_store(tmp_path / "kv"))
    whole = path.read_bytes()
    check_backup(path)
    for place in range(len(whole)):
        for mask in (1 << place % 8, 0xFF):
            path.write_bytes(whole[:place] + bytes((whole[place] ^ mask,)) + whole[place + 1 :])
            with pytest.raises(BackupDamaged, match=r"is not a (whole )?backup|version \d+ of the format"):
                read(path)


def frames_of(whole: bytes) -> list[bytes]:
    """Those of a file, in order."""
    frames, at = [], len(archive.MAGIC)
    while at < len(whole):
        length = int.from_bytes(whole[at : at + 4], "big") + 9
        frames.append(whole[at : at + length])
        at += length
    return frames


FORGERIES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a frame twice": lambda frames: [*frames[:2], *frames[1:]],
    "a frame left out": lambda frames: [frames[0], *frames[2:]],
    "two frames the other way round": lambda frames: [frames[0], frames[2], frames[1], *frames[3:]],
    "no end": lambda frames: frames[:-1],
    "an end twice": lambda frames: [*frames, frames[-1]],
    "the end first": lambda frames: [frames[0], frames[-1]],
    "no head": lambda frames: frames[1:],
    "a head twice": lambda frames: [frames[0], *frames],
}


@pytest.mark.parametrize("how", FORGERIES)
def test_frames_stand_where_they_belong(how: str, tmp_path: Path) -> None:
    path = tmp_path / "b"
    write(path, random.Random(1).randbytes(3 * archive.DATA_BYTES_MAX))
    whole = path.read_bytes()
    frames = frames_of(whole)
    assert archive.MAGIC + b"".join(frames) == whole
    path.write_bytes(archive.MAGIC + b"".join(FORGERIES[how](frames)))
    with pytest.raises(BackupDamaged):
        read(path)


def test_a_cut_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b"
    write(path, small_store(tmp_path / "kv"))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(BackupDamaged):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(BackupDamaged, match="more bytes follow"):
        read(path)


def test_a_head_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b"
    for number, head in enumerate((msgspec.structs.replace(HEAD, node=-1), msgspec.structs.replace(HEAD, cluster=""))):
        write(path.with_name(f"b{number}"), b"", head)
        with pytest.raises(BackupDamaged, match="the head cannot be read"):
            BackupReader(path.with_name(f"b{number}"))
    path.write_bytes(archive.MAGIC[:-1] + b"\x07")
    with pytest.raises(BackupDamaged, match=r"version 7 .* this release reads version 1"):
        BackupReader(path)


def test_frames_that_are_whole_can_hold_a_state_that_is_not(tmp_path: Path) -> None:
    data = small_store(tmp_path / "kv")
    for name, changed in (("cut", data[:-3]), ("longer", data + b"x"), ("flipped", data[:40] + b"\xff" + data[41:])):
        write(tmp_path / name, changed)
        with pytest.raises(BackupDamaged):
            check_backup(tmp_path / name)
        assert read(tmp_path / name) == changed, "its frames are whole"
