"""Disks that are full, disks that fail, processes that are killed."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quorate.runtime.errors import DiskUnreadable, JournalFailed, JournalLocked
from quorate.runtime.journal import Journal, journal

from tests.storage.helpers import IDENTITY, Recorder, recovered, segments
from tests.storage.writer_process import count

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", point], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system: {mount.stderr.strip()}")
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "RETRY_S", 0.01)


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Take the disk's space with another file."""
    hog = disk / "hog"
    with hog.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - leave_bytes)
    return hog


def test_a_full_disk_stalls_and_loses_nothing(small_disk: Path) -> None:
    folder = small_disk / "journal"
    frames = [bytes([number]) * 5000 for number in range(40)]
    with Recorder(folder) as recorder:
        recorder.append(*frames[:3])
        hog = fill(small_disk, leave_bytes=20_000)
        for frame in frames[3:]:
            recorder.journal.append(frame)
        recorder.until(lambda: recorder.stalls)
        stuck_at = recorder.durable[-1]
        assert 3 <= stuck_at < 40
        assert recorder.journal.backlog_bytes == (40 - stuck_at) * 5024
        time.sleep(0.1)  # several attempts
        assert len(recorder.stalls) == 1
        assert recorder.stalls[0].startswith(f"disk full: {folder}/00000001.journal")
        assert recorder.durable[-1] == stuck_at
        hog.unlink()
        recorder.wait(40)
        assert recorder.stalls[1:] == [None]
        assert recorder.journal.failure is None
    assert recovered(folder) == frames


def test_a_disk_that_was_full_is_not_written_to_before_there_is_some_room(small_disk: Path) -> None:
    """A frame would fit, and the next one not: the node would lead for as long as that takes."""
    with Recorder(small_disk / "journal") as recorder:
        recorder.append(b"kept")
        hog = fill(small_disk)
        recorder.journal.append(bytes(5000))
        recorder.until(lambda: recorder.stalls)
        os.truncate(hog, hog.stat().st_size - (40 << 10))
        time.sleep(0.1)  # several attempts
        assert (recorder.durable[-1], len(recorder.stalls)) == (1, 1)
        os.truncate(hog, hog.stat().st_size - (40 << 10))
        recorder.wait(2)
        assert recorder.stalls[1:] == [None]


def test_a_full_disk_while_a_segment_is_made(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By size, which waits, and for a checkpoint, which is given up."""
    folder = small_disk / "journal"
    with Recorder(folder, segment_size_bytes=4096) as recorder:
        recorder.append(bytes(4096 - 24 - 256))
        hog = fill(small_disk)
        recorder.journal.append(b"rotate")
        recorder.until(lambda: len(recorder.stalls) == 1)
        assert [path.name for path in segments(folder)] == ["00000001.journal"]
        hog.unlink()
        recorder.wait(2)
        hog = fill(small_disk, leave_bytes=8192)
        recorder.journal.checkpoint([bytes(5000)] * 5)
        recorder.append(b"beside")
        recorder.settle()
        assert "00000003.journal: the checkpoint is given up, all stays as it was: [Errno 28]" in caplog.text
        assert [path.name for path in segments(folder)] == [f"0000000{number}.journal" for number in (1, 2, 4)]
        assert not list(folder.glob("*.aside"))
        assert [reason is None for reason in recorder.stalls] == [False, True], "nobody waited for that"
    assert recovered(folder) == [bytes(3816), b"rotate", b"beside"]
    hog.unlink()
    with Recorder(folder) as recorder:
        recorder.checkpoint(b"state")
        assert [path.name for path in segments(folder)] == ["00000005.journal", "00000006.journal"]
        recorder.append(b"after")
    assert recovered(folder) == [b"state", b"after"]


def test_a_checkpoint_on_a_disk_that_is_full_already_waits(small_disk: Path) -> None:
    folder = small_disk / "journal"
    with Recorder(folder) as recorder:
        recorder.append(b"old")
        hog = fill(small_disk)
        recorder.journal.checkpoint([b"state"])
        recorder.until(lambda: len(recorder.stalls) == 1)
        hog.unlink()
        recorder.settle()
        assert [reason is None for reason in recorder.stalls] == [False, True]
    assert recovered(folder) == [b"state"]


def test_a_stop_on_a_full_disk_keeps_what_was_durable(small_disk: Path) -> None:
    folder = small_disk / "journal"
    recorder = Recorder(folder)
    recorder.append(b"kept")
    hog = fill(small_disk, leave_bytes=20_000)
    recorder.journal.append(bytes(50_000))
    recorder.until(lambda: recorder.stalls)
    with pytest.raises(JournalFailed, match="closed before there was space"):
        recorder.journal.close()
    assert recorder.durable == [1]
    assert segments(folder)[0].stat().st_size == 256 + 24 + 4, "what failed was cut"
    assert recovered(folder) == [b"kept"], "a full disk must not keep a node from starting"
    hog.unlink()
    assert recovered(folder) == [b"kept"]


def fail_once(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """The next call of os.`name` raises; later ones work, as an fsync after a failed fsync does."""
    call = getattr(os, name)

    def failing(*arguments):
        monkeypatch.setattr(os, name, call)
        call(*arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize("name", ["pwritev", "fdatasync"])
def test_disk_full_may_come_from_the_sync_too(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    frames = [b"%d" % number for number in range(1000)]  # more than one system call takes
    with Recorder(folder) as recorder:
        recorder.append(b"before")
        fail_once(monkeypatch, name, errno.EDQUOT)
        recorder.append_as_one_write(*frames)
        assert [reason is None for reason in recorder.stalls] == [False, True]
    assert recovered(folder) == [b"before", b"the write before", *frames]


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("pwritev", lambda opened: opened.append(b"lost")),
        ("fsync", lambda opened: opened.checkpoint([b"lost"])),
        ("replace", lambda opened: opened.checkpoint([b"lost"])),
    ],
)
def test_any_other_error_is_final(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[Journal], int]
) -> None:
    recorder = Recorder(folder)
    recorder.append(b"kept")
    fail_once(monkeypatch, name, errno.EIO)
    work(recorder.journal)
    recorder.until(lambda: recorder.stalls)
    (reason,) = recorder.stalls
    assert "write failed: [Errno 5]" in reason
    assert isinstance(recorder.journal.failure, JournalFailed)
    assert isinstance(recorder.journal.failure.__cause__, OSError)
    with pytest.raises(JournalFailed, match="Errno 5"):
        recorder.journal.append(b"refused")
    with pytest.raises(JournalFailed, match="Errno 5"):
        recorder.journal.close()
    assert recorder.durable == [1]
    assert recovered(folder)[0] in (b"kept", b"lost")  # not reported: may be there or not


def test_a_real_error_of_the_kernel_is_final(folder: Path) -> None:
    recorder = Recorder(folder)
    recorder.append(b"kept")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        recorder.journal.append(bytes(20_000))
        recorder.until(lambda: recorder.stalls)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(JournalFailed, match=f"Errno {errno.EFBIG}"):
        recorder.journal.close()
    assert recorder.durable == [1]
    assert recovered(folder) == [b"kept"]


def test_a_kernel_without_dsync_writes_is_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev

    def refuse(fd, buffers, offset, flags=0):
        if flags:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return pwritev(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", refuse)
    with Recorder(folder) as recorder:
        recorder.append(b"a", b"b")
    assert recovered(folder) == [b"a", b"b"]


def start_writer(folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.storage.writer_process", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT)


def test_kill_9_loses_nothing_that_was_reported(disk_folder: Path) -> None:
    rng = random.Random(7)
    total = 0
    for _ in range(15):
        with start_writer(disk_folder) as process:
            for _ in range(rng.randint(1, 400)):
                line = process.stdout.readline()
            if rng.random() < 0.2:
                with pytest.raises(JournalLocked, match=f"process {process.pid}"):
                    Journal.open(disk_folder, identity=IDENTITY)
            process.send_signal(signal.SIGKILL)
            printed = [line, *process.stdout.read().splitlines(keepends=True)]
        reported = int([line for line in printed if line.endswith(b"\n")][-1])
        found = count(recovered(disk_folder))
        assert found >= reported >= total
        total = found
    assert total > 300, "no checkpoint was made"


def test_a_journal_that_the_disk_cannot_read_is_refused_and_named(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "00000001.journal").symlink_to("/proc/self/mem")  # a read at 0 is an I/O error
    with pytest.raises(DiskUnreadable, match=r"00000001.journal: offset 0: the disk cannot read .*Errno 5.* treat"):
        Recorder(folder)


def test_a_sync_that_fails_at_the_start_refuses_the_node_in_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a torn end left is cut first, and that must be durable before its place is used again."""
    with Recorder(folder) as recorder:
        recorder.append(b"kept", b"torn")
    path = segments(folder)[0]
    os.truncate(path, path.stat().st_size - 1)
    fail_once(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(JournalFailed, match=rf"{folder}: the journal could not be made durable .*Errno 5.* as lost"):
        Recorder(folder)
